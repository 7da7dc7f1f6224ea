"""Fake TCP: what is offered, when it is tried, and that UDP comes first."""

import pytest

from ltunnel.plugin import (
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    LocalAddress,
    Prepared,
    Probe,
    Query,
    Request,
    SignalKind,
)
from ltunnel_nat_punch import plan

PEER = bytes(range(32))
LOCAL = (LocalAddress(address=("192.168.1.10", 4500), network=b"this lan"),)
SEEN = ("203.0.113.5", 40_000)
THERE = Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 4000), priority=9)
FREE = Behaviour(mapping=Dependence.ENDPOINT_INDEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT)
BY_TCP = ("203.0.113.5", 50_000)
TCP_THERE = Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 4001), priority=1, carrier=Carrier.TCP)
PUBLIC = LocalAddress(address=("203.0.113.77", 4500))


def test_what_the_hub_saw_is_offered_behind_all_that_is_udp(new_tcp_day):
    tcp, udp = Carrier.TCP, Carrier.UDP
    near, public = LOCAL[0].address, PUBLIC.address
    assert new_tcp_day().offered() == [(udp, near), (udp, public), (udp, SEEN), (tcp, BY_TCP)]
    assert new_tcp_day(tcp=False).offered() == [(udp, near), (udp, public), (udp, SEEN)]
    day = new_tcp_day(udp=False)
    assert day.offered() == [(udp, near), (tcp, BY_TCP)], "outside the LAN nothing for UDP"
    day.tell(SignalKind.MAPPED, address=("203.0.113.5", 7), lifetime=600.0)
    assert (udp, ("203.0.113.5", 7)) not in day.offered()


@pytest.mark.parametrize(("udp", "theirs", "number", "probed"), [
    (True, (THERE, TCP_THERE), 0, {Carrier.UDP}), (True, (THERE, TCP_THERE), 1, {Carrier.UDP}),
    (True, (THERE, TCP_THERE), 2, {Carrier.UDP, Carrier.TCP}), (True, (TCP_THERE,), 0, {Carrier.TCP}),
    (False, (THERE, TCP_THERE), 0, {Carrier.TCP}), (False, (THERE,), 0, set()),
])  # fmt: skip
def test_it_is_tried_where_udp_is_blocked_on_a_side_or_has_failed_twice(new_tcp_day, udp, theirs, number, probed):
    day = new_tcp_day(udp=udp)
    day.start(number, candidates=theirs)
    day.run(6)
    assert day.probed() == probed


def test_without_a_connection_to_the_hub_none_is_opened_to_a_peer(new_tcp_day):
    day = new_tcp_day(tcp=False, udp=False)
    day.start(candidates=(TCP_THERE,))
    day.run(6)
    assert day.probed() == set()


def test_udp_has_its_time_first_and_then_the_round_waits_for_answers(new_tcp_day):
    day = new_tcp_day()
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(1)
    day.take(Request)
    day.start(2, candidates=(THERE, TCP_THERE))
    began = day.now
    day.run(8)
    when = [at - began for at, action in day.done if isinstance(action, Probe) and action.carrier is Carrier.TCP]
    assert when == pytest.approx([plan.TCP_LATER + after for after in plan.MEETING])
    last = max(at for at, action in day.done if isinstance(action, Probe) and action.carrier is Carrier.UDP)
    assert last - began < plan.TCP_LATER
    asked = [at for at, action in day.done if isinstance(action, Request)]
    assert not asked or asked[0] - began > when[-1]


def test_both_sides_begin_together_whoever_is_first(new_tcp_day):
    for first in (True, False):
        day = new_tcp_day(udp=False)
        began = day.now
        day.tell(SignalKind.START, peer=PEER, round=1, first=first, candidates=(TCP_THERE,), behaviour=FREE, delay=0.1)
        day.run(6)
        assert min(at for at, action in day.done if isinstance(action, Probe)) == pytest.approx(began + 0.1)


def test_an_answer_ends_the_probes(new_tcp_day):
    day = new_tcp_day(udp=False)
    day.start(candidates=(TCP_THERE,))
    day.run(0.5)
    day.tell(SignalKind.PONG, peer=PEER, address=TCP_THERE.address, carrier=Carrier.TCP)
    day.take(Probe)
    day.run(6)
    assert not day.take(Probe)
    (pair,) = day.told()["peers"][PEER.hex()]["rounds"][-1]["pairs"]
    assert (pair["carrier"], pair["answered"]) == ("tcp", True)


def test_what_the_hub_sees_is_asked_again_before_a_round(new_tcp_day):
    """The connection to the hub may be another one by then, from another port."""
    day = new_tcp_day(udp=False)
    day.by_tcp = ("203.0.113.5", 50_007)
    day.run(20)
    day.take(Query)
    day.tell(SignalKind.PREPARE, peer=PEER)
    assert Carrier.TCP in {query.carrier for query in day.take(Query)}
    day.run(1)
    (prepared,) = day.take(Prepared)
    assert prepared.candidates[-1].address == ("203.0.113.5", 50_007)


def test_fresh_ports_are_told_apart_from_it(new_tcp_day):
    """A round with a fresh UDP port asks about both; each answer goes to its own."""
    day = new_tcp_day()
    day.run(20)
    day.take(Prepared)
    day.tell(SignalKind.PREPARE, peer=PEER, round=2)
    day.run(1)
    (prepared,) = day.take(Prepared)
    seen = {candidate.carrier: candidate.address for candidate in prepared.candidates}
    assert seen == {Carrier.UDP: (SEEN[0], SEEN[1] + 1), Carrier.TCP: BY_TCP}


def test_while_udp_is_asked_about_again_what_is_known_of_tcp_stays(new_tcp_day):
    day = new_tcp_day(udp=False)
    for _ in range(80):
        day.run(0.5)
        assert (Carrier.TCP, BY_TCP) in day.offered()
    assert "UDP is blocked" in day.told()["nat"]
    assert "by fake TCP" in day.told()["nat"]
    assert day.told()["advice"] == []
    assert new_tcp_day(udp=False, tcp=False).told()["advice"][0].startswith("let UDP out")
