"""Where UDP is blocked on a side, nodes meet over fake TCP; where it is not, UDP carries, whatever leads to the hub."""

from __future__ import annotations

import pytest

from ltunnel.testing import Firewall, Packet, SimNode
from ltunnel.testing.datagrams import TCP, UDP
from tests.sim.sites import SITES, Meeting, meet, walled

RUNS = 10
SOON = 5.0
"""Seconds from the first packet."""
EASY = ["public", "firewall", "full cone", "port-restricted", "double"]


class Segments:
    """Counts TCP segments that leave a node for a host."""

    def __init__(self, node: SimNode, to: str) -> None:
        self.times: list[float] = []
        self._node, self._to = node, to
        link = node.link
        self._send = link.send
        link.send = self._count  # type: ignore[method-assign]

    def _count(self, device, packet: Packet) -> None:
        if device is self._node.host and packet.protocol == TCP and packet.destination[0] == self._to:
            self.times.append(self._node.world.now)
        self._send(device, packet)


def flows(node: SimNode) -> int:
    """Return how many flows of fake TCP a node has."""
    assert node.node is not None
    return len(node.node._transports[0]._flows)  # type: ignore[attr-defined]


def blocked(one: str, other: str, sides: int, seed: object) -> tuple[Meeting, list[Firewall]]:
    walls: list[Firewall] = []
    first = walled(SITES[one], walls)
    second = walled(SITES[other], walls) if sides == 2 else other
    return meet(first, second, f"{one}/{other}/{sides}/{seed}", tcp=True), walls


@pytest.mark.parametrize("sides", [1, 2])
@pytest.mark.parametrize("other", EASY)
@pytest.mark.parametrize("one", EASY)
def test_direct_over_fake_tcp(one: str, other: str, sides: int):
    for run in range(RUNS if "port-restricted" in (one, other) else 2):
        meeting, _ = blocked(one, other, sides, run)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.transports() == {"transport_faketcp"}
        assert meeting.world.ping(meeting.a, meeting.b) is not None


@pytest.mark.parametrize(("one", "other"), [("port-restricted", "port-restricted"), ("public", "symmetric")])
def test_udp_carries_where_it_passes_although_the_hub_is_reached_by_fake_tcp(one: str, other: str):
    for run in range(RUNS):
        meeting = meet(one, other, run, tcp=True)
        meeting.begin()
        assert meeting.talk(SOON, until=meeting.direct)
        assert meeting.transports() == {"transport_udp"}
        assert {peer["transport"] for peer in meeting.hub.status()["peers"]} == {"transport_faketcp"}


@pytest.mark.parametrize("idle", [0, 15, 400])
def test_a_node_whose_session_with_the_hub_goes_by_udp_meets_one_without_udp(idle: float):
    """It has a connection to the hub for the sake of its port, which is let go when it rests, and made again."""
    walls: list[Firewall] = []
    site = walled(SITES["port-restricted"], walls)
    meeting = meet("port-restricted", site, f"idle {idle}", tcp=True, udp_first=True)
    meeting.begin(idle)
    assert meeting.talk(SOON, until=meeting.direct)
    assert meeting.transports() == {"transport_faketcp"}
    by = [node.status()["peers"][0]["transport"] for node in (meeting.a, meeting.b)]
    assert by == ["transport_udp", "transport_faketcp"], "with the hub"


def test_the_explanation_says_by_what():
    meeting, _ = blocked("port-restricted", "public", 1, "words")
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    meeting.talk(3)
    shown = meeting.a.node.nat(meeting.world.now)  # type: ignore[union-attr]
    assert shown["nat"] == "UDP is blocked: the hub's answers do not arrive; direct paths are looked for by fake TCP"
    assert shown["advice"] == []
    assert [own["carrier"] for own in shown["candidates"] if not own["lan"]] == ["tcp"]
    (pair,) = shown["peers"][0]["tried"]["rounds"][-1]["pairs"]
    assert (pair["carrier"], pair["answered"]) == ("tcp", True)


def test_udp_that_is_blocked_later_is_replaced():
    """Nothing says that it is blocked; the third round tries fake TCP all the same."""
    walls: list[Firewall] = []
    site = walled(SITES["port-restricted"], walls, blocked=False)
    meeting = meet(site, "port-restricted", "later", tcp=True)
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    assert meeting.transports() == {"transport_udp"}
    walls[0].blocked = frozenset({UDP})
    assert meeting.talk(10, until=lambda: not meeting.direct())
    assert meeting.talk(60, until=meeting.direct)
    assert meeting.transports() == {"transport_faketcp"}


def test_a_router_that_forgets_is_got_through_again():
    meeting, walls = blocked("port-restricted", "port-restricted", 2, "forgets")
    meeting.begin()
    assert meeting.talk(SOON, until=meeting.direct)
    walls[0].blocked = frozenset({UDP, TCP})
    meeting.world.run(12)
    walls[0].blocked = frozenset({UDP})
    assert meeting.talk(60, until=meeting.direct)


def test_where_it_leads_nowhere_it_is_quiet_and_nothing_stays_open():
    """A NAT that takes another port for each destination: the peer calls a port that is nobody's."""
    meeting, walls = blocked("symmetric", "public", 1, "quiet")
    counted = Segments(meeting.b, meeting.a.link.parent.uplink.parent.external)  # type: ignore[attr-defined]
    meeting.begin()
    assert not meeting.talk(58, until=meeting.direct)
    assert 3 <= len(counted.times) <= 40, "a SYN a second, while a round lasts: three for each side that asks"
    assert all(later - earlier > 0.9 for earlier, later in zip(counted.times, counted.times[2:], strict=False))
    meeting.world.run(10)
    assert flows(meeting.a) == flows(meeting.b) == 1, "that to the hub"
    assert meeting.world.ping(meeting.a, meeting.b) is not None, "the hub still carries"
    walls[0].blocked = frozenset()
    assert meeting.talk(120, until=meeting.direct), "UDP is let through now"
    assert meeting.transports() == {"transport_udp"}
