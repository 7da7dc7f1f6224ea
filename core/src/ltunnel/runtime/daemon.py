"""From a configuration to a running node: everything is opened in order, and undone in reverse if a step fails."""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from ltunnel.config import (
    Config,
    control_settings,
    discovering,
    fec_settings,
    load_stack,
    missing,
    network_keys,
    port_mapper,
    routing_policy,
)
from ltunnel.control import Control
from ltunnel.control.discovery import Discovering
from ltunnel.control.events import Event, Level
from ltunnel.control.settings import ControlSettings
from ltunnel.errors import HostError
from ltunnel.node import Node
from ltunnel.plugin import Address, Carrier, PortMapper, RoutingPolicy, TransportContext, TransportDescriptor
from ltunnel.registry import Part, Stack
from ltunnel.runtime.control_socket import ControlSocket
from ltunnel.runtime.folders import run_folder, state_folder
from ltunnel.runtime.fresh_ports import FreshPorts
from ltunnel.runtime.gateway import masquerade, not_forwarded
from ltunnel.runtime.host_changes import HostChanges
from ltunnel.runtime.hub_address import HubAddress, wait_for_address
from ltunnel.runtime.link import link_mtu
from ltunnel.runtime.log import Log, make_log
from ltunnel.runtime.loop import Loop, signals
from ltunnel.runtime.netlink import configure_tun
from ltunnel.runtime.port_mapping import PortMapping
from ltunnel.runtime.public_places import Listening, PublicPlaces
from ltunnel.runtime.raw_tun import RoutedPort
from ltunnel.runtime.reload import Read, Reload
from ltunnel.runtime.resolve import ResolveError, is_numeric
from ltunnel.runtime.service import Service
from ltunnel.runtime.state import State
from ltunnel.runtime.surroundings import Surroundings
from ltunnel.runtime.transports import Opened, open_transports, set_up
from ltunnel.runtime.tun import open_tun
from ltunnel.runtime.tunnel_routes import TunnelRoutes

_BYTES_PER_PACKET = 24_576
"""What the kernel may charge a socket's buffer for one packet of `recv_queue_size`."""

_UNENCRYPTED = "NOT ENCRYPTED: there is no key, so anybody can read, forge and join; give one with -k (ltunnel genkey)"


def serve(config: Config, read: Read | None = None) -> int:
    """Run a hub or node until SIGTERM or SIGINT; returns 0. At SIGHUP `read` reads the configuration again.

    Raises `LtunnelError`, one line for the operator, when something cannot be had; nothing is left behind then.
    """
    log = make_log(Level(config.log_level), as_json=config.log_format == "json")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold the keys
    with ExitStack() as stack:
        service = _assemble(config, read, log, stack)
        if service is None:
            return 0
        _settle_memory()
        service.run()
        log(Event(name="stop", text="stopped"))
    return 0


def _assemble(config: Config, read: Read | None, log: Log, stack: ExitStack) -> Service | None:
    """Open everything, in the order in which failures are cheapest; None if a signal came first."""
    for notice in config.notices():
        log(Event(name="notice", text=notice, level=Level.WARNING))
    plugins = load_stack(config)
    lacking = missing(config, plugins)
    if lacking is not None:
        log(Event(name="notice", text=lacking, level=Level.WARNING))
    fec = fec_settings(config, plugins)
    keys = network_keys(config)
    state = State(state_folder())
    identity = state.load_identity()
    if config.is_hub:
        stack.enter_context(state.held_by_hub())
    bindings = state.load_bindings() if config.is_hub else ()
    pins = {} if config.is_hub else state.load_pins()

    loop = stack.enter_context(closing(Loop()))
    heed = _Signals(loop)
    stack.enter_context(signals(loop, heed))
    control_socket = ControlSocket(loop, run_folder(), config.tun_name)
    stack.callback(control_socket.close)
    control_socket.serve(_not_yet)
    changes = HostChanges(run_folder(), config.tun_name, partial(_complain, log))
    stack.callback(changes.close)
    addresses = _hub_addresses(config, loop, log)
    if addresses is None:
        return None
    remote = addresses[0] if addresses else None
    listen = None if remote else (config.local_addr.host, config.local_addr.port)
    settings, warnings = control_settings(
        config, plugins, identity=identity, keys=keys, link_mtu=link_mtu(remote=remote, listen=listen), remote=remote
    )

    remote_name = "" if config.remote_addr is None else config.remote_addr.host
    local_port = 0 if config.is_hub or not config.p2p_enabled else config.p2p_port
    direct = config.p2p_enabled and plugins.discovery is not None
    context = TransportContext(
        listen=listen, remote=_widest(addresses), remote_name=remote_name, local_port=local_port,
        both_versions=direct and socket.has_dualstack_ipv6(),
    )  # fmt: skip
    receive_buffer = config.recv_queue_size * _BYTES_PER_PACKET
    opened, loud = open_transports(plugins.transports, context, changes, stack, receive_buffer=receive_buffer)
    tun = open_tun(config.tun_name)
    stack.callback(tun.close)
    clashes = configure_tun(tun.name, mtu=settings.mtu, queue=config.send_queue_size, addresses=settings.addresses)
    behind = masquerade(settings.routes, changes) if config.masquerade else []

    agent, mapper, policy = _direct_paths(plugins, [name for name, _, _ in opened])
    now = time.monotonic()
    node = Node(
        settings,
        [(name, transport) for name, transport, _ in opened],
        tun,
        random=os.urandom,
        now=now,
        wall_offset=time.time() - now,
        bindings=bindings,
        pins=pins,
        fec=fec,
        reliable={part.name for part in plugins.transports if part.descriptor.reliable},
        routing=policy,
        discovery=agent,
    )
    service = Service(
        node,
        loop,
        tun,
        [ports for _, _, ports in opened],
        log=log,
        savers={
            "bindings": lambda: state.save_bindings(node.control.bindings),
            "pins": partial(_save_pins, state, pins, node.control),
        },
        warnings=[*_key_warnings(settings), *loud, *warnings, *clashes, *behind],
        check=partial(not_forwarded, settings.routes, changes),
    )
    stack.callback(service.close)
    if settings.accept_routes:
        service.tunnel_routes = TunnelRoutes(loop, node, tun.name, partial(_complain, log), now)
        stack.callback(service.tunnel_routes.close)
    named = {part.name: part for part in plugins.transports}
    parts = [named[name] for name, _, _ in opened]
    service.fresh_ports = FreshPorts(parts, context, changes, receive_buffer=receive_buffer)
    if listen is not None:
        _open_other_port(service, service.fresh_ports, parts, opened, log)
        service.surroundings = _public_places(service, service.fresh_ports, parts, opened, listen, loop, log)
        stack.callback(service.surroundings.close)
    if config.remote_addr is not None and not is_numeric(config.remote_addr.host):
        both = any(len(port.local) == 4 for _, _, ports in opened for port in ports)
        host, port = config.remote_addr
        service.hub_address = HubAddress(
            loop, host, port, addresses, use=node.set_hub, tell=node.set_hub_names, log=log, takes_ipv6=both
        )  # fmt: skip
        stack.callback(service.hub_address.close)
        node.set_hub_names(addresses, now)
    if remote is not None:
        shared = _shared_ports(plugins, opened)
        service.surroundings = Surroundings(loop, node, shared, remote, tun.name, moved=service.network_changed)
        stack.callback(service.surroundings.close)
        # Connections over TCP are met, not awaited.
        mapped: dict[Carrier, int] = {key: number for key, number in shared.items() if key is Carrier.UDP}
        if mapper is not None and mapped:
            service.port_mapping = PortMapping(loop, mapper, mapped, service.take_mapping)
            stack.callback(service.port_mapping.close)
    control_socket.serve(service.answer)
    heed.hangup = Reload(config, read, node.fec, log)
    return service


class _Signals:
    """What signals do: SIGHUP reads the configuration again as soon as there is a node, any other ends the loop.

    A lost terminal sends SIGHUP too; it should not take a tunnel down.
    """

    def __init__(self, loop: Loop) -> None:
        self.hangup: Callable[[float], None] | None = None
        self._loop = loop

    def __call__(self, number: int) -> None:
        if number != signal.SIGHUP:
            self._loop.stop()
        elif self.hangup is not None:
            self.hangup(time.monotonic())


def _direct_paths(
    plugins: Stack, opened: Sequence[str]
) -> tuple[Discovering | None, PortMapper | None, RoutingPolicy | None]:
    """Make what finds direct paths, what asks routers for ports, and what chooses among paths."""
    agent = mapper = policy = None
    if plugins.discovery is not None:
        with set_up(plugins.discovery.name):
            agent = discovering(plugins, opened)
            mapper = None if agent is None else port_mapper(plugins)
    if plugins.routing is not None:
        with set_up(plugins.routing.name):
            policy = routing_policy(plugins)
    return agent, mapper, policy


def _shared_ports(plugins: Stack, opened: Sequence[Opened]) -> dict[Carrier, int]:
    """Return the numbers of the ports that all direct paths of a carrier may share."""
    direct = {part.name: part.descriptor.direct_with(part.options) for part in plugins.transports}
    found: dict[Carrier, int] = {}
    for name, _, ports in opened:
        carrier = direct[name]
        if carrier is not None and ports[0].local[1]:
            found.setdefault(carrier, int(ports[0].local[1]))
    return found


def _open_other_port(
    service: Service, fresh: FreshPorts, parts: Sequence[Part[TransportDescriptor]], opened: Sequence[Opened], log: Log
) -> None:
    """Open a hub's second UDP port, by which nodes find out what kind of NAT they are behind. It goes without, too."""
    for index, (part, (_, _, ports)) in enumerate(zip(parts, opened, strict=True)):
        if part.descriptor.direct_with(part.options) is Carrier.UDP:
            number = ports[0].local[1] + 1
            try:
                service.add_other_port(index, fresh.open(index, listen=number if number < 1 << 16 else 0))
            except HostError as error:
                text = f"goes without a second UDP port, so nodes learn less of their NATs: {error}"
                log(Event(name="no-port", text=text, level=Level.WARNING))


def _public_places(
    service: Service, fresh: FreshPorts, parts: Sequence[Part[TransportDescriptor]], opened: Sequence[Opened],
    listen: Address, loop: Loop, log: Log,
) -> PublicPlaces:  # fmt: skip
    """Open a hub's ports for IPv6 where it listens to all of IPv4, and watch where it can be asked from outside.

    Nodes that reach it over IPv4 ask by them as whom they are seen over IPv6. It goes without, too.
    """
    possible = socket.has_dualstack_ipv6() and not service.node.settings.client_isolation
    found: list[Listening] = []
    for index, (part, (_, _, ports)) in enumerate(zip(parts, opened, strict=True)):
        carrier = part.descriptor.direct_with(part.options)
        if carrier is None or carrier in {place.carrier for place in found}:
            continue
        local = ports[0].local
        versions = [6 if len(local) == 4 else 4]
        if local[0] == "::":
            versions.append(4)
        elif listen[0] == "0.0.0.0" and possible and not isinstance(ports[0], RoutedPort):  # noqa: S104 (compared)
            try:
                service.add_port(index, fresh.open(index, listen=local[1], only_ipv6=True))
                versions.append(6)
            except HostError as error:
                text = f"cannot be asked over IPv6, so nodes find fewer direct paths: {error}"
                log(Event(name="no-port", text=text, level=Level.WARNING))
        found += [Listening(carrier, version, (local[0], local[1])) for version in versions]
    return PublicPlaces(loop, service.node, found)


def _save_pins(state: State, stored: dict[str, bytes], control: Control) -> None:
    """Store how the pins differ from those that are `stored`."""
    pins = control.pins
    changes = {name: pins.get(name) for name in stored.keys() | pins.keys() if stored.get(name) != pins.get(name)}
    state.update_pins(changes)
    stored.clear()
    stored.update(pins)


def _complain(log: Log, text: str) -> None:
    log(Event(name="host", text=text, level=Level.WARNING))


def _not_yet(_request: dict[str, Any], _now: float) -> dict[str, Any]:
    raise HostError("ltunnel is starting: it looks up the server's name")


def _hub_addresses(config: Config, loop: Loop, log: Log) -> list[Address] | None:
    """Return the hub's addresses, none on the hub itself; None if a signal came while its name was looked up."""
    if config.is_hub or config.remote_addr is None:
        return []
    host, port = config.remote_addr
    if is_numeric(host):
        return [(host, port)]
    try:
        return wait_for_address(loop, host, port, log=log)
    except ResolveError as error:
        raise HostError(f"{error}: check the server's name (-r)") from None


def _widest(addresses: Sequence[Address]) -> Address | None:
    """Choose the address to open ports for: one of IPv6 if there is any, since such a port reaches IPv4 too."""
    if socket.has_dualstack_ipv6():
        for address in addresses:
            if ":" in address[0]:
                return address
    return addresses[0] if addresses else None


def _key_warnings(settings: ControlSettings) -> list[str]:
    if not settings.keys.keyed:
        return [_UNENCRYPTED]
    return [settings.keys.weakness] if settings.keys.weakness else []


def _settle_memory() -> None:
    """Keep the collector off the objects of the start, and rare on the rest: the data path makes no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
