"""A hub or a node as a value machine: call it when a port, the TUN device or a timer is due.

Sends go to the transports it was given, packets to the TUN port it was given; events and status come back as values.
The runtime drives it with real ports, the simulator with simulated ones.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, cast

from ltunnel.constants import HEADROOM
from ltunnel.control.candidates import Call, ClosePort, Dial, HangUp, Hint, OpenPorts
from ltunnel.control.directory import Binding
from ltunnel.control.discovery import Discovering
from ltunnel.control.engine import Control
from ltunnel.control.events import Event
from ltunnel.control.settings import ControlSettings, Random, Role
from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.settings import FecSettings
from ltunnel.data.grid import Arena
from ltunnel.data.inbound import Inbound
from ltunnel.data.local import Local
from ltunnel.data.outbound import Outbound
from ltunnel.data.refuse import Refusals
from ltunnel.data.relay import RelayReceiver, RelayTransport
from ltunnel.data.relay_frames import Relays
from ltunnel.data.relay_hub import HubRouter, RelayForwarder
from ltunnel.data.relay_node import MeshRelays, MeshRouter
from ltunnel.data.reports import LEAST, Reporter
from ltunnel.data.sending import usable_epoch
from ltunnel.data.virtio import TunPort
from ltunnel.data.waiting import Waiting
from ltunnel.node.accounts import Notices
from ltunnel.node.fec import REPORT_AT, NodeFec
from ltunnel.node.nat import nat
from ltunnel.node.ports import NodePorts, OpenOrder, PortOrder
from ltunnel.node.status import status
from ltunnel.plugin import (
    Address,
    Carrier,
    Flow,
    HopLimit,
    LocalAddress,
    MeetingTransport,
    Port,
    RoutingPolicy,
    Transport,
)
from ltunnel.session import Peer
from ltunnel.session.peer import Network
from ltunnel.wire.places import HubPlace
from ltunnel.wire.relay import node_name

_LARGEST_MESSAGE = 65_536


class _Timed(Protocol):
    """What has a deadline now and then."""

    def next_timeout(self) -> float | None: ...
    def handle_timeout(self, now: float) -> None: ...


class Node:
    """One participant. `transports` are (plugin name, transport); their order is the index by which flows name them.

    `reliable` names those of them that repair losses themselves.
    """

    def __init__(
        self,
        settings: ControlSettings,
        transports: Sequence[tuple[str, Transport]],
        tun: TunPort,
        *,
        random: Random,
        now: float,
        wall_offset: float,
        bindings: Sequence[Binding] = (),
        pins: Mapping[str, bytes] | None = None,
        fec: tuple[Codes, FecSettings] | None = None,
        reliable: Container[str] = (),
        routing: RoutingPolicy | None = None,
        discovery: Discovering | None = None,
    ) -> None:
        self.settings = settings
        self.transport_names = tuple(name for name, _ in transports)
        """Of those that were given."""
        self._notices = [Notices(name, transport) for name, transport in transports]
        self._names = list(self.transport_names)
        self._transports = [transport for _, transport in transports]
        self.relay: int | None = None
        """On a node: index of the transport that goes through the hub."""
        self._router: MeshRouter | None = None
        self.mesh: int | None = None
        """On a node that takes part in a mesh: index of the transport that goes through another node."""
        name = node_name(settings.identity.public)
        if settings.role is Role.NODE:
            self.relay = self._add("relay", RelayTransport(name, lambda _: self.control.hub, self._transports))
            if routing is not None and settings.mesh and settings.max_hops > 1:
                through = RelayTransport(name, self._link, self._transports, settings.max_hops)
                self.mesh = self._add("mesh", through)
        self._ports = NodePorts(self._names, self._transports)
        self.control = Control(
            settings, random=random, now=now, wall_offset=wall_offset, bindings=bindings, pins=pins,
            describe=lambda transport, flow: self._transports[transport].describe(flow), transports=self._names,
            relay=self.relay, mesh=self.mesh, routing=routing, discovery=discovery,
        )  # fmt: skip
        stats = self.control.stats
        local = Local(settings.addresses, settings.routes)
        refusals = Refusals(local, stats)
        repairing = {index for index, name in enumerate(self.transport_names) if name in reliable}
        self.fec = None if fec is None else NodeFec(*fec, repairing)
        sender = self.fec.sender if self.fec else None
        self._waiting = Waiting()
        self._outbound = Outbound(
            tun, self.control.fib, self._transports, local, refusals, stats, settings.mtu, sender,
            self._waiting if self.relay is not None else None,
        )  # fmt: skip
        delivery = Delivery(
            tun, self._outbound, local, refusals, stats,
            hub=settings.role is Role.HUB,
        )  # fmt: skip
        self._reporter = Reporter(self.control.sessions, REPORT_AT if self.fec else LEAST, hastes=self.fec is not None)
        shards = self.fec.listen(delivery, self.control.sessions) if self.fec else None
        parts = self._transports, self.control, delivery, self._reporter, stats, shards, sender
        if self.relay is None:
            hub = HubRouter(self.control.fib.names, isolated=settings.client_isolation)
            self._inbound = Inbound(*parts, RelayForwarder(hub, self._transports))
        else:
            inner, hops = Inbound(*parts), self.control.hops
            receiver = RelayReceiver(name, self.relay, inner, self.mesh)
            relays: Relays = receiver
            if self.mesh is not None:
                self._router = MeshRouter(name, hops, self.control.fib.names, {self.relay, self.mesh})
                relays = MeshRelays(name, hops, receiver, RelayForwarder(self._router, self._transports))
            self._inbound = Inbound(*parts, relays, inner.records)
        self._timed: list[_Timed] = [self.control, *([self.fec] if self.fec else []), self._waiting]
        self._message = Arena(HEADROOM + _LARGEST_MESSAGE)

    def _link(self, flow: bytes) -> Peer | None:
        """Return the neighbour in the mesh that a flow begins with."""
        return None if self._router is None else self._router.link(flow)

    def _add(self, name: str, transport: Transport) -> int:
        """Add a transport of the node's own; return its index."""
        self._names.append(name)
        self._transports.append(transport)
        return len(self._transports) - 1

    def start(self, now: float) -> None:
        """Begin: a node reaches out to its hub, a hub waits."""
        if self.settings.hub is not None:
            self.set_hub(self.settings.hub, now)
        self.control.start(now)
        self._send_messages(now)

    def set_hub(self, address: Address, now: float) -> None:
        """Look for the hub at another address, by any of the transports, after a new answer to its name."""
        self.control.set_hub_paths([(index, address) for index in range(len(self.transport_names))], now)
        self._send_messages(now)

    def set_hub_names(self, addresses: Sequence[Address], now: float) -> None:
        """Take all addresses that the hub's name has: where it can be asked over the other IP version."""
        self.control.set_hub_names(addresses, now)
        self._send_messages(now)

    def network_changed(self, now: float) -> None:
        """Take note that addresses or routes of this machine have changed."""
        self.control.network_changed(now)
        self._send_messages(now)

    def set_interfaces(self, local: Sequence[LocalAddress], networks: Sequence[Network], now: float) -> None:
        """Take the own addresses, with the ports that all peers share, and the prefixes of the own links."""
        self.control.set_interfaces(local, networks, now)
        self._send_messages(now)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks behind other machines that are accepted, sorted: what the kernel is to send into the tunnel."""
        return self.control.networks

    def set_links(self, networks: Sequence[Network], now: float) -> None:
        """Take the prefixes of this machine's own links, without the TUN device's."""
        self.control.set_links(networks, now)
        self._send_messages(now)

    def mapped(self, carrier: Carrier, address: Address | None, lifetime: float, now: float) -> None:
        """Take note that a router maps a port to the shared one, for so many seconds; None when it does no longer."""
        self.control.mapped(carrier, address, lifetime, now)
        self._send_messages(now)

    def stop(self, now: float) -> None:
        """Say goodbye to all peers, and have the transports that can do so end their flows (`PartingTransport`)."""
        self.control.stop(now)
        self._send_messages(now)
        for transport in self._transports:
            leave = getattr(transport, "leave", None)
            if leave is not None:
                leave(now)

    def handle_tun(self, now: float) -> bool:
        """Take what the TUN device has. True when more may wait."""
        more = self._outbound.pump(now)
        waiting = self._waiting
        if waiting.wanted:
            for peer in waiting.wanted:
                self.control.want(peer, now)
            waiting.wanted.clear()
        self._send_messages(now)
        return more

    def handle_port(self, transport: int, port: Port, now: float) -> bool:
        """Take what a port of a transport has received. True when more may wait."""
        more = self._inbound.drain(transport, port, now)
        self._send_messages(now)
        return more

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is due (monotonic seconds), or None."""
        first = self._reporter.next_timeout()
        parts: Iterable[_Timed] = chain(self._transports, self._timed)
        for part in parts:
            due = part.next_timeout()
            if due is not None and (first is None or due < first):
                first = due
        return first

    def handle_timeout(self, now: float) -> None:
        """Do what is due, if anything is."""
        parts: Iterable[_Timed] = chain(self._transports, self._timed)
        for part in parts:
            due = part.next_timeout()
            if due is not None and due <= now:
                part.handle_timeout(now)
        due = self._reporter.next_timeout()
        if due is not None and due <= now:
            self.control.outbox.extend(self._reporter.take(now))
        self._send_messages(now)

    def take_events(self, now: float) -> list[Event]:
        """Hand over what happened since the last call."""
        events = self.control.events
        for notices in self._notices:
            events.extend(notices.take(now))
        taken = list(events)
        events.clear()
        return taken

    def take_orders(self) -> list[PortOrder]:
        """Hand over which ports to open and to close; to be asked for after each call."""
        return self._ports.take_orders()

    def ports_opened(self, order: OpenOrder, transports: Sequence[Transport], now: float) -> list[int]:
        """Take the instances that an order has led to, as many as could be had; return their indexes."""
        indexes = self._ports.opened(order, transports)
        self.control.ports_opened(order.owner, indexes, now)
        self._send_messages(now)
        return indexes

    def add_other_port(self, transport: int, other: Transport, number: int) -> int:
        """On a hub: take a second UDP port, another instance of `transport`, with its port number; return its index.

        Nodes that ask from where they are seen may ask both, or have the answer come from the other.
        """
        index = self._ports.add(transport, other)
        self.control.set_other_port(transport, index, number)
        return index

    def add_port(self, transport: int, other: Transport) -> int:
        """On a hub: take a further port, another instance of `transport`, and return its index."""
        return self._ports.add(transport, other)

    def set_places(self, places: Sequence[HubPlace]) -> None:
        """On a hub: take where it can be asked from outside, to tell nodes."""
        self.control.set_places(places)

    def status(self, now: float) -> dict[str, Any]:
        """Describe this node and its peers; the shape of ``ltunnel status --json`` but for what the runtime knows."""
        chosen = len(self.transport_names)
        answer = status(self.control, self.settings, self._names, self._transports, chosen, now)
        if self.fec is not None:
            answer["fec"] = self.fec.status()
            self.fec.describe(list(self.control.peers.values()), answer["peers"])
        return answer

    def nat(self, now: float) -> dict[str, Any]:
        """Describe the NAT in front of this machine; the shape of ``ltunnel nat --json`` but for the runtime's part."""
        return nat(self.control, now)

    def _send_messages(self, now: float) -> None:
        """Open and close flows and ports for the control side, and send its datagrams; then what waited for that."""
        control = self.control
        while control.calls or control.outbox:
            calls, outbox = list(control.calls), list(control.outbox)
            control.calls.clear()
            control.outbox.clear()
            for call in calls:
                self._carry_out(call, now)
            for index, flow, datagram in outbox:
                if not self._send(self._transports[index], flow, datagram, now):
                    control.refused(index, flow, now)
        if self._waiting:
            self._release(now)

    def _release(self, now: float) -> None:
        """Send the packets that have waited for a session which can be used now."""
        for peer, packets in self._waiting.release(lambda peer: usable_epoch(peer, 1, now) is not None):
            for packet in packets:
                self._outbound.forward((packet,), peer, now)
            self._outbound.flush(now)

    def _carry_out(self, call: Call, now: float) -> None:
        match call:
            case Dial():
                self._dial(call, now)
            case HangUp():
                self._transports[call.transport].close(call.flow, now)
            case OpenPorts():
                if not self._ports.order(call):
                    self.control.ports_opened(call.owner, (), now)
            case ClosePort():
                self._ports.close(call)
            case Hint():
                self._hint(call, now)

    def _dial(self, dial: Dial, now: float) -> None:
        transport = self._transports[dial.transport]
        if dial.like is None:
            flow = transport.connect(dial.address, now)
        else:
            flow = cast(MeetingTransport, transport).meet(dial.address, dial.like, now)
        self.control.dialled(dial, flow, now)

    def _hint(self, hint: Hint, now: float) -> None:
        """Send a datagram that ends on its way, if the port can limit that; else none."""
        transport = self._transports[hint.transport]
        ports = [port for port in transport.ports if isinstance(port, HopLimit)]
        if not ports:
            return
        for port in ports:
            port.limit_hops(hint.hops)
        self._send(transport, transport.connect(hint.address, now), hint.datagram, now)
        for port in ports:
            port.limit_hops(0)

    def _send(self, transport: Transport, flow: Flow, datagram: bytes, now: float) -> bool:
        arena = self._message
        start = HEADROOM + transport.prefix
        end = start + len(datagram)
        arena.data[start:end] = datagram
        return transport.send(flow, arena.view, HEADROOM, end, end - HEADROOM, now)
