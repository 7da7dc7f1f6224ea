"""A machine that runs a hub or a node in a simulated network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, cast

from ltunnel.control import Binding, ControlSettings, Event, Role
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecSettings
from ltunnel.node import CloseOrder, Node, PortOrder
from ltunnel.node.sharing import Branch, Handler, SharedPort, same_number
from ltunnel.plugin import (
    Address,
    Carrier,
    LocalAddress,
    Port,
    PortKind,
    PortSpec,
    Transport,
    TransportContext,
    is_private,
)
from ltunnel.testing.datagrams import version_of
from ltunnel.testing.host import Host
from ltunnel.testing.links import Link
from ltunnel.testing.ports import SimUdpPort
from ltunnel.testing.raw import SimRawPort
from ltunnel.testing.stream import SimStreamPort
from ltunnel.testing.tun import SimTun
from ltunnel.wire.places import HubPlace

if TYPE_CHECKING:
    from ltunnel.testing.world import World

SimPort = SimUdpPort | SimRawPort | SimStreamPort

_ALL_IPV4 = "0.0.0.0"  # noqa: S104 (of a simulated host)
_TURNS = 10_000
"""Calls of one kind at one moment before a program is held to be stuck."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """How the ports of a machine receive; see `SimUdpPort`, `SimRawPort` and, for `queue`, `SimStreamPort`."""

    gro: bool = True
    gro_limit: int = 64
    buffer: int = 4 << 20
    queue: int = 1 << 18


class SimNode:
    """A machine that runs a hub or a node. Made by `World.add_hub` and `World.add_node`.

    What the program would store (identity, bindings, pins) outlives `stop`, `kill` and `start`.
    """

    def __init__(self, world: World, host: Host, tun: SimTun, settings: ControlSettings, context: TransportContext,
                 ports: PortSettings) -> None:  # fmt: skip
        self.world = world
        self.host = host
        self.tun = tun
        self.settings = settings
        """May be replaced while the program does not run."""
        self.context = context
        self.port_settings = ports
        self.fec: tuple[Codes, FecSettings] | None = None
        """What it does against losses; may be replaced while the program does not run."""
        self.node: Node | None = None
        """The running program; None when it does not run."""
        self.ports: dict[int, list[SimPort | Branch]] = {}
        """By index of the transport, those opened on demand among them."""
        self._served: dict[SimPort, Handler] = {}
        """What takes what a port has received."""
        self.events: list[tuple[float, Event]] = []
        """All that the program has told, with the time."""
        self.bindings: Sequence[Binding] = ()
        self.pins: dict[str, bytes] = {}
        self.wall_error = 0.0
        """Seconds by which this machine's wall clock is ahead of the true one."""
        self._interfaces: tuple[tuple[Link, tuple[str, ...]], ...] = ()
        self._random = world.network.random(f"{host.name}/random")

    @property
    def name(self) -> str:
        """Name of host and node."""
        return self.host.name

    @property
    def link(self) -> Link:
        """The machine's (first) link."""
        return self.host.links[0]

    @property
    def state(self) -> str:
        """``up``, ``connecting``, ``denied``, or ``stopped``."""
        return "stopped" if self.node is None else self.node.control.state

    def inner(self, version: int = 4) -> str:
        """Return the machine's tunnel address of an IP version."""
        return next(str(address.ip) for address in self.settings.addresses if address.version == version)

    def start(self) -> None:
        """Start the program."""
        assert self.node is None, f"{self.name} runs already"
        world = self.world
        transports: list[tuple[str, Transport]] = []
        self.ports = {}
        options = {name: world.options_of(name, found.options) for name, found in world.transports.items()}
        asked = {name: found.ports(options[name], self.context) for name, found in world.transports.items()}
        shared: dict[Address, SharedPort] = {}
        for name, descriptor in world.transports.items():
            others = [spec for other, specs in asked.items() if other != name for spec in specs]
            ports = [self._open_part(spec, others, shared) for spec in asked[name]]
            self.ports[len(transports)] = ports
            transports.append((name, descriptor.create(options[name], ports, self.context)))
        is_node = self.settings.role is Role.NODE
        self.node = Node(
            self.settings, transports, self.tun, random=self._random.randbytes, now=world.now,
            wall_offset=self._wall_offset, bindings=self.bindings, pins=self.pins, fec=self.fec,
            reliable={name for name, descriptor in world.transports.items() if descriptor.reliable},
            routing=world.new_policy() if is_node else None, discovery=world.new_discovery() if is_node else None,
        )  # fmt: skip
        for index in self.ports:
            self._serve(self.node, index)
        if not is_node:
            self._open_other_port(self.node)
            self._open_ipv6_ports(self.node)
        self._interfaces = ()
        self._look_around(self.node)
        self.node.start(world.now)
        self._follow()

    def stop(self) -> None:
        """Stop the program as SIGTERM does: it says goodbye."""
        assert self.node is not None, f"{self.name} does not run"
        self.node.stop(self.world.now)
        self._follow()
        self.kill()

    def kill(self) -> None:
        """Stop the program as SIGKILL does."""
        for index in tuple(self.ports):
            self._close(index)
        self.node = None
        self._served.clear()
        self.tun.drain()

    def restart(self) -> None:
        """Kill the program and start it again."""
        self.kill()
        self.start()

    def happened(self, name: str) -> list[tuple[float, Event]]:
        """Return the events of one name."""
        return [(when, event) for when, event in self.events if event.name == name]

    def status(self) -> dict[str, Any]:
        """Return what the program says of itself."""
        assert self.node is not None, f"{self.name} does not run"
        return self.node.status(self.world.now)

    def drops(self) -> dict[str, int]:
        """Return what the program has dropped, by reason, peers' included."""
        status = self.status()
        total: dict[str, int] = dict(status["drops"])
        for peer in status["peers"]:
            for reason, number in peer["drops"].items():
                total[reason] = total.get(reason, 0) + number
        return total

    def pump(self) -> bool:
        """Let the program take what waits and do what is due; False when there was nothing."""
        node, now = self.node, self.world.now
        if node is None:
            return False
        busy = False
        ready = self.world.network.ready
        node.control.wall_offset = self._wall_offset
        self._look_around(node)
        for port, serve in tuple(self._served.items()):
            if port in ready:
                busy = True
                del ready[port]
                self._repeat(partial(serve, now))
                assert not port.pending, f"{self.name} left something in a port: {port.pending}"
        if self.tun.pending:
            busy = True
            self._repeat(partial(node.handle_tun, now))
            assert not self.tun.pending, f"{self.name} left {self.tun.pending} packets in its TUN device"
        due = node.next_timeout()
        if due is not None and due <= now:
            busy = True
            node.handle_timeout(now)
        self._follow()
        return busy

    @property
    def _wall_offset(self) -> float:
        return self.world.network.clock.wall_offset + self.wall_error

    def _repeat(self, step: Callable[[], bool]) -> None:
        for _ in range(_TURNS):
            if not step():
                return
        raise RuntimeError(f"{self.name} says again and again that more may wait")

    def _serve(self, node: Node, index: int) -> None:
        """Let what a transport's ports receive go to the program."""
        for port in self.ports[index]:
            handle = partial(node.handle_port, index, cast(Port, port))
            if isinstance(port, Branch):
                port.handle = handle
                self._served[cast(SimPort, port.shared.port)] = port.shared.serve
            else:
                self._served[port] = handle

    def _open_part(
        self, spec: PortSpec, others: Sequence[PortSpec], shared: dict[Address, SharedPort]
    ) -> SimPort | Branch:
        """Open a port, or a branch of one of UDP that other transports ask for, too, as the runtime does."""
        if not any(spec.kind is PortKind.UDP and same_number(spec, other) for other in others):
            return self._open(spec)
        place = spec.host, spec.port
        if place not in shared:
            port = self._open(spec)
            shared[place] = SharedPort(port, port.close)
        branch = Branch(shared[place], spec.accepts)
        shared[place].add(branch)
        return branch

    def _open(self, spec: PortSpec) -> SimPort:
        settings = self.port_settings
        if spec.kind is PortKind.STREAM:
            return SimStreamPort(self.host, spec, queue=settings.queue)
        kind = SimRawPort if spec.kind is PortKind.RAW else SimUdpPort
        return kind(self.host, spec, gro=settings.gro, gro_limit=settings.gro_limit, buffer=settings.buffer)

    def _close(self, index: int) -> None:
        for port in self.ports.pop(index):
            port.close()
            if not isinstance(port, Branch):
                self._served.pop(port, None)

    def _open_more(
        self, index: int, context: TransportContext, *, only_ipv6: bool = False
    ) -> tuple[Transport, SimPort]:  # fmt: skip
        """Make another instance of a transport, with one port."""
        name, descriptor = list(self.world.transports.items())[index]
        options = self.world.options_of(name, descriptor.options)
        spec = descriptor.ports(options, context)[0]
        port = self._open(replace(spec, dual_stack=False) if only_ipv6 else spec)
        return descriptor.create(options, [port], context), port

    def _open_ipv6_ports(self, node: Node) -> None:
        """Have a hub that listens to all of IPv4 answer over IPv6, too, as the runtime does."""
        assert self.context.listen is not None
        host, number = self.context.listen
        if host != _ALL_IPV4 or all(version_of(address) == 4 for address in self.host.addresses):
            return
        for index, name in enumerate(self.world.transports):
            if self.world.carrier(name) is not None:
                context = replace(self.context, listen=("::", number))
                transport, port = self._open_more(index, context, only_ipv6=True)
                other = node.add_port(index, transport)
                self.ports[other] = [port]
                self._serve(node, other)

    def _open_other_port(self, node: Node) -> None:
        """Open a hub's second UDP port, as the runtime does: it goes without if that is in use."""
        assert self.context.listen is not None
        host, number = self.context.listen
        for index, name in enumerate(self.world.transports):
            if self.world.carrier(name) is Carrier.UDP:
                with contextlib.suppress(OSError):
                    transport, port = self._open_more(index, replace(self.context, listen=(host, number + 1)))
                    other = node.add_other_port(index, transport, number + 1)
                    self.ports[other] = [port]
                    self._serve(node, other)

    def _carry_out(self, node: Node, order: PortOrder) -> None:
        """Open or close ports on demand."""
        if isinstance(order, CloseOrder):
            self._close(order.transport)
            return
        made = [self._open_more(order.transport, replace(self.context, local_port=0)) for _ in range(order.count)]
        indexes = node.ports_opened(order, [transport for transport, _ in made], self.world.now)
        for index, (_, port) in zip(indexes, made, strict=True):
            self.ports[index] = [port]
            self._serve(node, index)

    def _look_around(self, node: Node) -> None:
        """Tell the program of the machine's addresses when they have changed, as the runtime does."""
        interfaces = self.host.interfaces
        if interfaces == self._interfaces:
            return
        self._interfaces = interfaces
        node.set_links([_prefix(address) for _, addresses in interfaces for address in addresses], self.world.now)
        if self.settings.role is not Role.NODE:
            self._tell_places(node)
            return
        shared = {
            carrier: self.ports[index][0].local[1]
            for index, name in reversed(list(enumerate(self.world.transports)))
            if (carrier := self.world.carrier(name)) is not None
        }
        local, networks = [], []
        for link, addresses in interfaces:
            for address in addresses:
                network = _prefix(address)
                networks.append(network)
                digest = sha256(f"{link.parent.name} {network}".encode()).digest()[:8]
                local += [
                    LocalAddress(address=(address, int(port)), carrier=carrier, network=digest)
                    for carrier, port in shared.items()
                ]
        node.set_interfaces(local, networks, self.world.now)

    def _tell_places(self, node: Node) -> None:
        """Tell a hub where it can be asked: at its public addresses."""
        assert self.context.listen is not None
        carriers = dict.fromkeys(filter(None, map(self.world.carrier, self.world.transports)))
        public = [host for host in self.host.addresses if not is_private(ip_address(host))]
        node.set_places([HubPlace(carrier, (host, self.context.listen[1])) for host in public for carrier in carriers])

    def _follow(self) -> None:
        """Take orders and events of the program."""
        node = self.node
        assert node is not None
        while orders := node.take_orders():
            for order in orders:
                self._carry_out(node, order)
        for event in node.take_events(self.world.now):
            self.events.append((self.world.now, event))
            if event.name == "bindings":
                self.bindings = node.control.bindings
            elif event.name == "pins":
                self.pins = dict(node.control.pins)


def _prefix(address: str) -> IPv4Network | IPv6Network:
    """Return the prefix of the link that an address is on."""
    return ip_network((address, 24 if version_of(address) == 4 else 64), strict=False)
