"""A hub and a node with a strict firewall in front of the node, and eyes on what passes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from ltunnel.testing import Network, Packet, Quality, Router, Segment, SimRawPort, StrictFirewall
from ltunnel.testing.conformance.lab import Lab
from ltunnel.testing.conntrack import TrackState
from ltunnel.testing.links import Link
from ltunnel.testing.segments import Fields, fields_of, make_payload
from ltunnel_transport_faketcp import FakeTcpOptions, ltunnel_transport


class Tap(Router):
    """Shows every segment to `look`, which may return it changed, others instead, or none."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, name)
        self.seen: list[tuple[float, str, Fields]] = []
        """(when, "up" from the node or "down" to it, what)."""
        self.look: Callable[[Packet, str], list[Packet]] = lambda packet, _way: [packet]

    def receive(self, packet: Packet, link: Link) -> None:
        way = "down" if link is self.uplink else "up"
        fields = fields_of(packet)
        assert fields is not None
        self.seen.append((self.network.clock.now, way, fields))
        for out in self.look(packet, way):
            self.forward(out, link)

    def of(self, way: str) -> list[Fields]:
        return [fields for _, direction, fields in self.seen if direction == way]


class Wall:
    """node - near - wall - far - internet - hub. `near` and `far` are links whose quality may be changed."""

    def __init__(self, *, gro: bool = True, ipv6: bool = False, seed: int = 1, delay: float = 0.005) -> None:
        self.lab = Lab(ltunnel_transport(), FakeTcpOptions(), lambda host, spec: SimRawPort(host, spec, gro=gro),
                       ipv6=ipv6, seed=seed, quality=Quality(delay=delay))  # fmt: skip
        self.network, self.node, self.hub = self.lab.network, self.lab.node, self.lab.hub
        self.network.trace = None
        self.tap = Tap(self.network, "tap")
        self.wall = StrictFirewall(self.network, "wall")
        self.far = self.wall.attach(self.lab.internet, Quality(delay=delay))
        self.near = self.tap.attach(self.wall, Quality(delay=delay))
        self.node.host.move(self.tap, self.node.host.addresses[0])
        self.run = self.lab.run
        self.open_flow = self.lab.open_flow

    @property
    def now(self) -> float:
        return self.lab.now

    @property
    def established(self) -> int:
        return self.wall.in_state(TrackState.ESTABLISHED)

    @property
    def server_flow(self):
        """The hub's flow, when it has one."""
        (flow,) = self.hub.transport._flows.values()
        return flow

    def inject(self, fields: Fields, *, down: bool = True) -> None:
        """Put a segment of the connection on the path in front of the wall, as somebody there could."""
        packet = replace(self.template(down=down), payload=make_payload(*fields))
        self.wall.receive(packet, self.far if down else self.near)

    def template(self, *, down: bool) -> Segment:
        """Return a segment between the present ends of the connection."""
        flow = next(iter(self.node.transport._flows.values()))
        ends = (self.lab.hub_address, (self.node.host.addresses[0], int.from_bytes(flow.key[-2:], "big")))
        source, destination = ends if down else ends[::-1]
        return Segment(source, destination, b"")


@pytest.fixture
def make_wall() -> type[Wall]:
    return Wall
