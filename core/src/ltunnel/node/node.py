"""A hub or a node as a value machine: call it when a port, the TUN device or a timer is due.

Sends go to the transports it was given, packets to the TUN port it was given; events and status come back as values.
The runtime drives it with real ports, the simulator with simulated ones.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from ltunnel.constants import HEADROOM
from ltunnel.control.candidates import Call, HangUp
from ltunnel.control.directory import Binding
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
from ltunnel.data.reports import LEAST, Reporter
from ltunnel.data.virtio import TunPort
from ltunnel.node.accounts import Notices
from ltunnel.node.fec import REPORT_AT, NodeFec
from ltunnel.node.status import status
from ltunnel.plugin import Address, Flow, Port, Transport

_LARGEST_MESSAGE = 65_536


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
    ) -> None:
        self.settings = settings
        self.transport_names = tuple(name for name, _ in transports)
        self._transports = tuple(transport for _, transport in transports)
        self._notices = [Notices(name, transport) for name, transport in transports]
        self.control = Control(
            settings, random=random, now=now, wall_offset=wall_offset, bindings=bindings, pins=pins,
            describe=lambda transport, flow: self._transports[transport].describe(flow),
            transports=self.transport_names,
        )  # fmt: skip
        stats = self.control.stats
        local = Local(settings.addresses)
        refusals = Refusals(local, stats)
        repairing = {index for index, name in enumerate(self.transport_names) if name in reliable}
        self.fec = None if fec is None else NodeFec(*fec, repairing)
        sender = self.fec.sender if self.fec else None
        self._outbound = Outbound(tun, self.control.fib, self._transports, local, refusals, stats, settings.mtu, sender)
        delivery = Delivery(
            tun, self._outbound, local, refusals, stats,
            forwards=settings.role is Role.HUB, isolated=settings.client_isolation,
        )  # fmt: skip
        self._reporter = Reporter(self.control.sessions, REPORT_AT if self.fec else LEAST)
        shards = self.fec.listen(delivery, self.control.sessions) if self.fec else None
        self._inbound = Inbound(self._transports, self.control, delivery, self._reporter, stats, shards, sender)
        self._message = Arena(HEADROOM + _LARGEST_MESSAGE)

    def start(self, now: float) -> None:
        """Begin: a node reaches out to its hub, a hub waits."""
        if self.settings.hub is not None:
            self.set_hub(self.settings.hub, now)
        self.control.start(now)
        self._send_messages(now)

    def set_hub(self, address: Address, now: float) -> None:
        """Look for the hub at another address, by any of the transports, after a new answer to its name."""
        self.control.set_hub_paths([(index, address) for index in range(len(self._transports))], now)
        self._send_messages(now)

    def network_changed(self, now: float) -> None:
        """Take note that addresses or routes of this machine have changed."""
        self.control.network_changed(now)
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
        self._send_messages(now)
        return more

    def handle_port(self, transport: int, port: Port, now: float) -> bool:
        """Take what a port of a transport has received. True when more may wait."""
        more = self._inbound.drain(transport, port, now)
        self._send_messages(now)
        return more

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` is due (monotonic seconds), or None."""
        times = [transport.next_timeout() for transport in self._transports]
        times += (self.control.next_timeout(), self._reporter.next_timeout())
        if self.fec is not None:
            times.append(self.fec.next_timeout())
        return min((time for time in times if time is not None), default=None)

    def handle_timeout(self, now: float) -> None:
        """Do what is due."""
        for transport in self._transports:
            due = transport.next_timeout()
            if due is not None and due <= now:
                transport.handle_timeout(now)
        due = self.control.next_timeout()
        if due is not None and due <= now:
            self.control.handle_timeout(now)
        if self.fec is not None:
            self.fec.handle_timeout(now)
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

    def status(self, now: float) -> dict[str, Any]:
        """Describe this node and its peers; the shape of ``ltunnel status --json`` but for what the runtime knows."""
        answer = status(self.control, self.settings, self.transport_names, self._transports, now)
        if self.fec is not None:
            answer["fec"] = self.fec.status()
            self.fec.describe(list(self.control.peers.values()), answer["peers"])
        return answer

    def _send_messages(self, now: float) -> None:
        """Open and close flows for the control side, and send its datagrams."""
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

    def _carry_out(self, call: Call, now: float) -> None:
        transport = self._transports[call.transport]
        if isinstance(call, HangUp):
            transport.close(call.flow, now)
        else:
            self.control.dialled(call, transport.connect(call.address, now), now)

    def _send(self, transport: Transport, flow: Flow, datagram: bytes, now: float) -> bool:
        arena = self._message
        start = HEADROOM + transport.prefix
        end = start + len(datagram)
        arena.data[start:end] = datagram
        return transport.send(flow, arena.view, HEADROOM, end, end - HEADROOM, now)
