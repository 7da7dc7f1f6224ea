"""The configuration: every field with its default, bounds and meaning.

A `Config` is valid as soon as it exists: single fields are checked by their types, crossed rules by a validator.
"""

import socket
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from ltunnel.config.fields import (
    NONE,
    HostPort,
    TunnelAddress,
    read_accepted,
    read_device_name,
    read_listen,
    read_name,
    read_optional_plugin,
    read_plugin_name,
    read_plugin_names,
    read_remote,
    read_routes,
    read_transports,
    read_tunnel_addresses,
    refuse_bool,
)
from ltunnel.constants import DEFAULT_MTU, MIN_MTU_IPV4, MIN_MTU_IPV6
from ltunnel.session.peer import Network
from ltunnel.wire.text import NAME_LIMIT, valid_name

MAX_MTU = 65_000
DEFAULT_TRANSPORTS = ("transport_faketcp", "transport_udp")
"""Where nothing is said, those of them that are installed and not disabled."""
RULE = "ltunnel_rule"
"""Type of the pydantic error for a rule that joins fields; its context holds `field` and `text`."""

_Int = Annotated[int, BeforeValidator(refuse_bool)]
_Seconds = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, le=86_400)]
_Interval = Annotated[float, BeforeValidator(refuse_bool), Field(ge=1, le=86_400)]
_Milliseconds = Annotated[float, BeforeValidator(refuse_bool), Field(ge=0.5, le=500)]
_Share = Annotated[float, BeforeValidator(refuse_bool), Field(gt=0, le=1)]
_Name = Annotated[str, PlainValidator(read_name)]
_PluginName = Annotated[str, PlainValidator(read_plugin_name)]
_PluginNames = Annotated[tuple[str, ...], PlainValidator(read_plugin_names)]
_Transports = Annotated[tuple[str, ...], PlainValidator(read_transports)]


class Mode(Enum):
    """What this machine is in its network."""

    SERVER = "server"
    CLIENT = "client"


def _own_name(data: dict[str, Any]) -> str:
    """Return the host name, on a node with its address: names must differ, those of clones and namespaces do not."""
    addresses = data.get("tunnel_addr")
    suffix = f"-{addresses[0].ip}" if addresses and data.get("mode") is Mode.CLIENT else ""
    room = NAME_LIMIT - len(suffix)
    name = socket.gethostname().encode(errors="replace")[:room].decode(errors="ignore").strip()
    return (name if valid_name(name) else "unnamed") + suffix


def _tunnel_default(data: dict[str, Any]) -> tuple[TunnelAddress, ...]:
    """Return the documents' default for a hub; for nodes there is none, they would be in each other's way."""
    return read_tunnel_addresses("10.0.0.1/24") if data.get("mode") is Mode.SERVER else ()


def _cipher_default(data: dict[str, Any]) -> str:
    return "crypto_plain" if data.get("key") is None else "crypto_aesgcm"


class Config(BaseModel):
    """One node's configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    mode: Mode = Field(Mode.SERVER, description="server (the hub) or client (a node)")
    local_addr: Annotated[HostPort, PlainValidator(read_listen)] = Field(
        HostPort("0.0.0.0", 9000),  # noqa: S104 - a hub listens for the world
        description="where a server listens",
    )
    remote_addr: Annotated[HostPort | None, PlainValidator(read_remote)] = Field(
        None, description="where a client finds the server"
    )
    tunnel_addr: Annotated[tuple[TunnelAddress, ...], PlainValidator(read_tunnel_addresses)] = Field(
        default_factory=_tunnel_default, description="own address in the tunnel with the prefix length, IPv4 and IPv6"
    )
    key: SecretStr | None = Field(None, description="the network's key, from `ltunnel genkey`, or a passphrase")
    key_file: str | None = Field(None, description="file that holds the key, readable by its owner alone")
    network: _Name = Field("ltunnel", description="name of the network, equal on all its machines")
    name: _Name = Field(
        default_factory=_own_name,
        description="name of this machine, for people; by default its host name, on a client with its address",
    )

    mtu: _Int = Field(DEFAULT_MTU, ge=MIN_MTU_IPV4, le=MAX_MTU, description="largest packet inside the tunnel, at most")
    tun_name: Annotated[str, PlainValidator(read_device_name)] = Field("ltun0", description="name of the TUN device")
    send_queue_size: _Int = Field(1000, ge=1, le=1_000_000, description="packets that the TUN device queues")
    recv_queue_size: _Int = Field(1000, ge=1, le=1_000_000, description="packets that the socket's buffer holds")

    multi_client: bool = Field(True, description="a server takes more than one client")
    max_clients: _Int = Field(100, ge=1, le=65_535, description="clients that a server takes at most")
    client_isolation: bool = Field(False, description="clients reach the server, but not each other")
    timeout: _Seconds = Field(30.0, description="seconds of silence after which a peer is gone")
    keepalive: _Seconds = Field(10.0, description="seconds of silence after which a sign of life is sent")

    transport: _Transports = Field(DEFAULT_TRANSPORTS, description="transport plugins, the preferred one first")
    cipher: _PluginName = Field(
        default_factory=_cipher_default, description="cipher plugin; without a key crypto_plain, which encrypts nothing"
    )
    tls_enabled: bool = Field(False, description="use transport_tls: alone, or after the transports that are named")
    tls_cert_file: str = Field("", description="with tls_enabled, file of a server's certificate, PEM")
    tls_key_file: str = Field("", description="with tls_enabled, file of the certificate's private key, PEM")
    tls_skip_verify: bool = Field(False, description="with tls_enabled, a client takes any certificate (insecure)")
    disable_plugins: _PluginNames = Field((), description="plugins that must not be loaded")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much is logged")
    log_format: Literal["text", "json"] = Field("text", description="how it is logged")

    fec: Annotated[str, PlainValidator(read_optional_plugin)] = Field(
        "", description="plugin that repairs losses, or none; by default fec_rs where it is installed"
    )
    fec_mode: Literal["off", "fixed", "auto", "latency", "spread"] | None = Field(
        None, description="how much parity is sent; by default none, fixed with fec_data or fec_parity, auto with fec"
    )
    fec_data: _Int = Field(10, ge=1, le=254, description="FEC: data shards of a group, in the modes fixed and spread")
    fec_parity: _Int = Field(3, ge=0, le=254, description="FEC: parity shards of a group, 0 to send none in any mode")
    fec_deadline: _Milliseconds = Field(8.0, description="FEC: milliseconds after which a group is closed, full or not")
    fec_target: _Share = Field(0.001, description="FEC: share of packets that may stay lost, in the mode auto")
    fec_overhead: _Share = Field(0.6, description="FEC: parity per data at most, in the mode auto")

    p2p_enabled: bool = Field(True, description="direct paths between clients")
    p2p_port: _Int = Field(0, ge=0, le=65_535, description="a client's own UDP port, 0 for any")
    discovery: Annotated[str, PlainValidator(read_optional_plugin)] = Field(
        "", description="plugin that finds direct paths, or none; by default nat_punch where it is installed"
    )
    routing: Annotated[str, PlainValidator(read_optional_plugin)] = Field(
        "", description="plugin that chooses among paths, or none; by default routing_mesh where it is installed"
    )

    enable_mesh_routing: bool = Field(True, description="relay for other clients, and reach them through others")
    max_hops: _Int = Field(3, ge=1, le=16, description="hops of a path through other clients, at most")
    route_update_interval: _Interval = Field(30.0, description="seconds between route updates")

    routes: Annotated[tuple[Network, ...], PlainValidator(read_routes)] = Field(
        (), description="networks behind this machine that it offers to the others"
    )
    accept_routes: Annotated[tuple[Network, ...], PlainValidator(read_accepted)] = Field(
        (), description="networks within which those that others offer are accepted, or all"
    )
    masquerade: bool = Field(
        True,
        description="what is for these networks leaves with this machine's own address, so none needs a route back",
    )

    # Not written by operators as such; `ltunnel.config.load` fills them in.
    plugin_options: dict[str, dict[str, Any]] = Field(default_factory=dict, description="sections by plugin name")
    source: str = Field("", description="the file that it was read from, for messages")
    remarks: tuple[str, ...] = Field((), description="what `load` noticed")

    @property
    def secret(self) -> str | None:
        """The key in the clear, or None."""
        return None if self.key is None else self.key.get_secret_value()

    @property
    def is_hub(self) -> bool:
        """Whether this is ``mode: server``."""
        return self.mode is Mode.SERVER

    @model_validator(mode="after")
    def _crossed_rules(self) -> "Config":
        for field, text in _broken_rules(self):
            raise PydanticCustomError(RULE, "{text}", {"field": field, "text": text})
        return self

    def notices(self) -> tuple[str, ...]:
        """Return what an operator should hear once at start, a line each."""
        return (*self.remarks, *_without_effect(self))


INTERNAL = frozenset({"plugin_options", "source", "remarks"})
"""Fields that nobody may write."""


def _broken_rules(config: Config) -> Iterator[tuple[str, str]]:
    """Give field and text of each rule between fields that is broken."""
    if config.secret == "":
        yield "key", "is empty; leave it out to run without encryption"
    if not config.is_hub and config.remote_addr is None:
        yield "remote_addr", "is needed in client mode: where is the server? (-r HOST:PORT)"
    if not config.tunnel_addr:
        yield "tunnel_addr", "is needed: the own address in the tunnel (-t 10.0.0.2/24)"
    if any(address.version == 6 for address in config.tunnel_addr) and config.mtu < MIN_MTU_IPV6:
        yield "mtu", f"should be at least {MIN_MTU_IPV6} with an IPv6 tunnel_addr (got {config.mtu})"
    yield from _misplaced_routes(config)
    if config.keepalive >= config.timeout:
        yield "keepalive", f"should be less than timeout, {config.timeout:g} s (got {config.keepalive:g})"
    if not config.transport:
        yield "transport", "should name at least one plugin"
    if config.fec_data + config.fec_parity > 255:
        yield "fec_parity", f"should be at most {255 - config.fec_data} with fec_data {config.fec_data}"


def _misplaced_routes(config: Config) -> Iterator[tuple[str, str]]:
    """Give a rule for each network that cannot be offered with the own tunnel addresses."""
    own = {address.version: address.network for address in config.tunnel_addr}
    for network in config.routes if own else ():
        tunnel = own.get(network.version)
        if tunnel is None:
            yield "routes", f"{network} needs an IPv{network.version} address in tunnel_addr"
        elif network.overlaps(tunnel):
            yield "routes", f"{network} overlaps the tunnel's own network, {tunnel}"


_FEC_FIELDS = ("fec_mode", "fec_data", "fec_parity", "fec_deadline", "fec_target", "fec_overhead")
_MESH = ("enable_mesh_routing", "max_hops", "route_update_interval")
_DIRECT = ("p2p_enabled", "p2p_port", "discovery", "routing", *_MESH)


def _without_effect(config: Config) -> Iterator[str]:
    """Give a line for each group of fields that were written, but that nothing selected listens to."""
    direct, mesh = (
        [field for field in fields if field in config.model_fields_set and getattr(config, field)]
        for fields in (_DIRECT, _MESH)
    )
    if config.is_hub and direct:
        yield f"{', '.join(direct)}: not in effect in server mode"
    elif not config.p2p_enabled and direct:
        yield f"{', '.join(direct)}: not in effect without p2p_enabled"
    elif config.routing == NONE and mesh:
        yield f"{', '.join(mesh)}: not in effect with routing none"
    elif not config.enable_mesh_routing and mesh:
        yield f"{', '.join(mesh)}: not in effect without enable_mesh_routing"
    if not config.tls_enabled:
        for field in ("tls_cert_file", "tls_key_file", "tls_skip_verify"):
            if getattr(config, field):
                yield f"{field}: not in effect without tls_enabled"
    else:
        for field in ("tls_skip_verify",) if config.is_hub else ("tls_cert_file", "tls_key_file"):
            if getattr(config, field):
                yield f"{field}: not in effect in {config.mode.value} mode"
    if config.fec == NONE:
        written = [field for field in _FEC_FIELDS if field in config.model_fields_set]
        if written:
            yield f"{', '.join(written)}: not in effect with fec none"
    if "masquerade" in config.model_fields_set and not config.routes:
        yield "masquerade: not in effect without routes"
    if not config.is_hub and "local_addr" in config.model_fields_set:
        yield "local_addr: not in effect in client mode"
    if config.is_hub and config.remote_addr is not None:
        yield "remote_addr: not in effect in server mode"
    usual = (config.fec or "fec_rs", config.discovery or "nat_punch", config.routing or "routing_mesh")
    selected = {*config.transport, config.cipher, *usual}
    for name in config.plugin_options.keys() - selected:
        yield f"{name}: its options are not in effect, since the plugin is not selected"
