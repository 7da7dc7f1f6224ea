"""Descriptors: what hooks return. Frozen, so that a plugin can be looked at without being run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from ltunnel.plugin.discovery import Carrier, DiscoveryAgent, PortMapper
from ltunnel.plugin.host import HostRule
from ltunnel.plugin.interfaces import Aead, FecCode, Transport
from ltunnel.plugin.ports import Address, Port, PortSpec
from ltunnel.plugin.routing import RoutingPolicy


def _no_rules(_options: Any, _ports: Sequence[Port]) -> Sequence[HostRule]:
    return ()


class Options(BaseModel):
    """Base of a plugin's options: unknown fields are errors, values are frozen.

    Give every field a description: ``ltunnel plugins info`` shows it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


FOLDER = "folder"
"""Key of the validation context under which options find the folder of the configuration file."""


def _beside_the_config(name: str, info: ValidationInfo) -> str:
    folder = (info.context or {}).get(FOLDER, "")
    return f"{folder}/{name}" if folder and not name.startswith("/") else name


FileName = Annotated[str, Field(min_length=1), AfterValidator(_beside_the_config)]
"""An option that names a file: a relative name counts from the folder of the configuration file, if there is one."""


class NoOptions(Options):
    """For plugins without options."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginInfo:
    """Who a plugin is. `api` is the ``API_VERSION`` that it was written for."""

    name: str
    summary: str
    api: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportContext:
    """What a transport may know when it names its ports.

    `listen` is set on a hub: where to be reachable. On a node it is None and `remote` is the hub's address, the first
    that its name resolved to; ports are then ephemeral.
    """

    listen: Address | None
    remote: Address | None
    remote_name: str = ""
    """On a node: the hub as the config names it, a host name or an address; for those that check who answers."""
    local_port: int = 0
    """On a node: the port number to bind to where direct paths are carried by UDP, 0 for any."""
    both_versions: bool = False
    """On a node: whether ports that carry direct paths shall reach IPv4 and IPv6, whichever leads to the hub."""

    @property
    def wildcard(self) -> str:
        """On a node: the host to bind a port to, for direct paths too: ``::``, which is dual-stack, or ``0.0.0.0``."""
        assert self.remote is not None, "a node has a remote"  # noqa: S101
        return "::" if self.both_versions or ":" in self.remote[0] else "0.0.0.0"  # noqa: S104


def _no_warnings(_options: Any, _context: TransportContext) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportDescriptor:
    """A transport: its options, ports, cost and maker."""

    options: type[Options]
    wire_name: str
    """Name in status output and in the stack's fingerprint."""
    overhead: int | Callable[[Any], int]
    """Bytes that it adds to a datagram on top of the IP header: 8 for UDP; or (options) -> bytes. It counts against the
    MTU, so 0 for a transport over streams, which are cut wherever a packet is full."""
    ports: Callable[[Any, TransportContext], Sequence[PortSpec]]
    """(options, context) -> the ports it needs."""
    create: Callable[[Any, Sequence[Port], TransportContext], Transport]
    """(options, opened ports in the order asked for, context) -> the transport."""
    host_rules: Callable[[Any, Sequence[Port]], Sequence[HostRule]] = _no_rules
    """(options, opened ports) -> what the host must do, applied before the transport is made."""
    warnings: Callable[[Any, TransportContext], Sequence[str]] = _no_warnings
    """(options, context) -> what an operator must hear at each start, a line each."""
    needs_root: bool = False
    reliable: bool = False
    """True when it repairs loss itself, as TCP does: erasure coding on top adds nothing. What it then loses are
    datagrams that it had no room for, so the line is full, and parity would fill it more."""
    direct: Carrier | Callable[[Any], Carrier | None] | None = None
    """What it is to direct paths between nodes, None if it can only reach a hub; or (options) -> that. One for UDP also
    takes a single port of its first kind: fresh ports are further instances of it. One for TCP is a
    `MeetingTransport`."""

    def overhead_with(self, options: Any) -> int:
        """Return the overhead with these options."""
        return self.overhead(options) if callable(self.overhead) else self.overhead

    def direct_with(self, options: Any) -> Carrier | None:
        """Return what it is to direct paths with these options."""
        return self.direct(options) if callable(self.direct) else self.direct


@dataclass(frozen=True, slots=True, kw_only=True)
class CipherDescriptor:
    """An AEAD with 12-byte nonces and 16-byte tags."""

    options: type[Options]
    wire_name: str
    """Name in the Noise protocol name and in the stack's fingerprint: ``AESGCM``. At most 16 characters."""
    create: Callable[[Any, bytes], Aead]
    """(options, key of `key_size` bytes) -> the AEAD."""
    key_size: int = 32
    secure: bool = True
    """False for a cipher that does not protect; it is then used only when no key is given, and loudly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FecDescriptor:
    """A systematic erasure code."""

    options: type[Options]
    wire_name: str
    create: Callable[[Any, int, int], FecCode]
    """(options, k, m) -> the code; raises ValueError for a pair it cannot do."""
    max_shards: int = 255
    residual: Callable[[int, int, float], float] | None = None
    """(k, m, loss) -> the share of packets that stay lost when each shard is lost with that probability; for codes that
    cannot restore every pattern of m losses. None for those that can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryDescriptor:
    """A way of finding paths."""

    options: type[Options]
    create: Callable[[Any], DiscoveryAgent]
    mapper: Callable[[Any], PortMapper | None] | None = None
    """(options) -> what asks routers for port mappings, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingDescriptor:
    """A routing policy."""

    options: type[Options]
    create: Callable[[Any], RoutingPolicy]
