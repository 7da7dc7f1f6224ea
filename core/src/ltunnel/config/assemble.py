"""From a `Config` to what runs: the plugins' stack, the network's keys, the settings of the control side."""

from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from ltunnel.config.direct import discovery_plugin, routing_plugin
from ltunnel.config.fec import fec_plugin
from ltunnel.config.model import Config
from ltunnel.constants import (
    BUNDLE_ENTRY,
    DATA_OVERHEAD,
    DEFAULT_MTU,
    MIN_MTU_IPV4,
    MIN_MTU_IPV6,
    ROW_TRAILER,
    SHARD_TRAILER,
)
from ltunnel.control.settings import ControlSettings, Role
from ltunnel.errors import ConfigError
from ltunnel.keys.identity import Identity
from ltunnel.keys.psk import NetworkKeys, derive_keys
from ltunnel.plugin import Address, Aead, CipherDescriptor
from ltunnel.registry import Entries, Part, PluginRefusedError, Selection, Stack, build_stack, read_entries

IP_HEADER = {4: 20, 6: 40}
"""Bytes of an IP header without options, by version."""


def selection(config: Config, entries: Entries | None = None) -> Selection:
    """Return what a configuration says of plugins, `entries` being those that are installed."""
    entries = entries or read_entries()
    return Selection(
        transports=config.transport,
        cipher=config.cipher,
        fec=fec_plugin(config, entries),
        discovery=discovery_plugin(config, entries),
        routing=routing_plugin(config, entries),
        disabled=frozenset(config.disable_plugins),
        options=config.plugin_options,
        folder=str(Path(config.source).parent) if config.source else "",
    )


def load_stack(config: Config, entries: Entries | None = None) -> Stack:
    """Load the selected plugins. Raises `PluginError`; `ConfigError` for bad options or a cipher unfit for the key."""
    entries = entries or read_entries()
    try:
        stack = build_stack(selection(config, entries), entries)
        _check_cipher(config, stack.cipher)
    except PluginRefusedError:
        raise
    except ConfigError as error:
        raise ConfigError(f"{config.source}: {error}" if config.source else str(error)) from None
    return stack


def _check_cipher(config: Config, cipher: Part[CipherDescriptor]) -> None:
    if cipher.descriptor.secure and config.key is None:
        raise ConfigError(f"cipher: {cipher.name} needs a key (-k KEY, key_file or LTUNNEL_KEY; see `ltunnel genkey`)")
    if not cipher.descriptor.secure and config.key is not None:
        raise ConfigError(f"cipher: {cipher.name} does not encrypt, and a key is given; leave one of them out")


def network_keys(config: Config) -> NetworkKeys:
    """Derive the network's keys. A passphrase takes scrypt's time (about half a second) and 128 MB for it."""
    return derive_keys(config.secret, config.network)


def control_settings(
    config: Config,
    stack: Stack,
    *,
    identity: Identity,
    keys: NetworkKeys,
    link_mtu: int,
    remote: Address | None = None,
) -> tuple[ControlSettings, tuple[str, ...]]:
    """Return the settings, and notices about them: of an MTU that cannot be had, if it is not just the default one.

    `link_mtu` is the MTU of the link towards the hub (on a hub: of its own link), `remote` the hub's numeric address on
    a node. Raises `ConfigError` when the link's MTU leaves too little for the tunnel.
    """
    outside = ip_address(config.local_addr.host if remote is None else remote[0])
    overhead = max(part.descriptor.overhead_with(part.options) for part in stack.transports) + (
        SHARD_TRAILER if stack.fec else 0
    )
    mtu = tunnel_mtu(config.mtu, link_mtu, IP_HEADER[outside.version], overhead)
    _check_mtu(config, mtu, link_mtu)
    lowered = f"mtu: lowered from {config.mtu} to {mtu}, which is what a link of {link_mtu} carries"
    settings = ControlSettings(
        role=Role.HUB if config.is_hub else Role.NODE,
        name=config.name,
        network=config.network,
        keys=keys,
        identity=identity,
        cipher=stack.cipher.descriptor.wire_name,
        new_aead=aead_maker(stack.cipher),
        stack=fingerprint(stack),
        addresses=config.tunnel_addr,
        routes=config.routes,
        accept_routes=config.accept_routes,
        mtu=mtu,
        hub=remote,
        hub_label="" if config.remote_addr is None else str(config.remote_addr),
        keepalive=config.keepalive,
        timeout=config.timeout,
        max_clients=config.max_clients,
        multi_client=config.multi_client,
        client_isolation=config.client_isolation,
        mesh=config.enable_mesh_routing,
        max_hops=config.max_hops,
        route_update_interval=config.route_update_interval,
    )
    return settings, (lowered,) if mtu < config.mtu and config.mtu != DEFAULT_MTU else ()


def tunnel_mtu(wanted: int, link_mtu: int, ip_header: int, overhead: int) -> int:
    """Return the largest inner packet: what is wanted, or what fits one datagram on the link if that is less.

    A packet travels as a row (with its trailer) or in a bundle (with its entry); the larger of the two counts.
    `overhead` is what transport and FEC add.
    """
    return min(wanted, link_mtu - ip_header - overhead - DATA_OVERHEAD - max(ROW_TRAILER, BUNDLE_ENTRY))


def _check_mtu(config: Config, mtu: int, link_mtu: int) -> None:
    version = max(address.version for address in config.tunnel_addr)
    least = MIN_MTU_IPV6 if version == 6 else MIN_MTU_IPV4
    if mtu < least:
        raise ConfigError(f"mtu: a link of {link_mtu} carries {mtu}, and IPv{version} in the tunnel needs {least}")


def fingerprint(stack: Stack) -> tuple[str, ...]:
    """Name what two ends must have in common, sorted. Not the transports: a hub may offer several."""
    parts = {"cipher": stack.cipher, "fec": stack.fec}
    return tuple(sorted(f"{kind}={part.descriptor.wire_name}" for kind, part in parts.items() if part is not None))


def aead_maker(cipher: Part[CipherDescriptor]) -> Callable[[bytes], Aead]:
    """Return what makes the cipher for a session key of 32 bytes, of which it gets as many as it uses."""
    return partial(_make_aead, cipher)


def _make_aead(cipher: Part[CipherDescriptor], key: bytes) -> Aead:
    return cipher.descriptor.create(cipher.options, key[: cipher.descriptor.key_size])
