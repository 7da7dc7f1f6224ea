"""Both IP versions: what is asked over the other one, what is told, and how both are probed."""

from itertools import pairwise

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
from ltunnel_nat_punch.campaign import PAUSE

PEER = bytes(range(32))
OWN6 = ("2001:db8:a::2", 4500)
LOCAL = (LocalAddress(address=("192.168.1.10", 4500), network=b"this lan"), LocalAddress(address=OWN6))
SEEN = ("203.0.113.5", 40_000)
THERE = Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 4000), priority=9)
THERE6 = Candidate(kind=CandidateKind.HOST, address=("2001:db8:b::2", 4500), priority=20)
HARD = Behaviour(mapping=Dependence.ADDRESS_AND_PORT_DEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT)
ASKABLE = ((Carrier.UDP, 6),)


@pytest.fixture
def two_versions(new_day):
    class TwoVersions(new_day):
        """A machine with IPv4 behind a NAT, and IPv6; the hub is reached over IPv4."""

        def __init__(self, *, ipv6: bool = True, askable=ASKABLE, **options) -> None:
            self.ipv6 = ipv6
            super().__init__(**options)
            self.tell(SignalKind.INTERFACES, local=LOCAL, askable=askable)
            self.run(2)

        def answer(self, query: Query) -> None:
            if not query.version:
                super().answer(query)
            elif self.ipv6:
                self.tell(SignalKind.OBSERVED, query=query, address=OWN6)

        def asked(self) -> list[Query]:
            return [query for query in self.take(Query) if query.version]

        def offered(self) -> list[tuple[str, int]]:
            return [candidate.address for candidate in self.agent.candidates(self.now)]

    return TwoVersions


def test_one_question_over_ipv6_and_its_answer_is_offered(two_versions):
    day = two_versions()
    assert day.asked() == [Query(version=6)]
    assert OWN6 in day.offered()
    assert SEEN in day.offered()
    assert day.agent.behaviour().mapping is Dependence.ENDPOINT_INDEPENDENT, "of the NAT for IPv4"


def test_without_an_answer_nothing_is_offered_and_it_is_asked_again_less_and_less_often(two_versions):
    day = two_versions(ipv6=False)
    assert OWN6 not in day.offered()
    assert len(day.asked()) == 3
    day.run(3600)
    asked = [at for at, action in day.done if isinstance(action, Query) and action.version]
    gaps = [later - sooner for sooner, later in pairwise(asked) if later - sooner > 5]
    assert gaps == sorted(gaps)
    assert max(gaps) == pytest.approx(600, abs=2)
    day.ipv6 = True
    day.run(601)
    assert OWN6 in day.offered()


def test_own_addresses_that_the_hub_has_not_seen_do_not_crowd_out_the_others(two_versions):
    day = two_versions()
    more = tuple(LocalAddress(address=(f"2001:db8:a::{number:x}", 4500)) for number in range(100, 120))
    day.tell(SignalKind.INTERFACES, local=(*more, *LOCAL), askable=ASKABLE)
    day.run(2)
    assert {OWN6, SEEN} <= set(day.offered())


def test_before_a_round_both_are_asked_anew(two_versions):
    day = two_versions()
    day.run(20)
    day.take(Query)
    day.tell(SignalKind.PREPARE, peer=PEER)
    assert {query.version for query in day.take(Query)} == {0, 6}
    (prepared,) = day.take(Prepared)
    assert {OWN6, SEEN} <= {candidate.address for candidate in prepared.candidates}


def test_an_address_that_is_not_seen_any_more_is_not_named(two_versions):
    day = two_versions()
    day.run(20)
    day.ipv6 = False
    day.tell(SignalKind.PREPARE, peer=PEER)
    day.run(2)
    (prepared,) = day.take(Prepared)
    assert OWN6 not in {candidate.address for candidate in prepared.candidates}
    assert SEEN in {candidate.address for candidate in prepared.candidates}
    day.ipv6 = True
    day.run(35)
    assert OWN6 in day.offered(), "it is asked about again"


def test_over_ipv6_the_shared_ports_are_probed_whatever_the_nats_do(two_versions):
    day = two_versions(hard=3001)
    for number in range(3):
        began = day.now
        day.start(number, candidates=(THERE6, THERE), behaviour=HARD)
        day.run(5)
        probes = [(at - began, action) for at, action in day.done if isinstance(action, Probe)]
        six = [(at, probe) for at, probe in probes if probe.to == THERE6.address]
        assert [at for at, _ in six] == pytest.approx(plan.PLAIN, abs=0.02)
        assert {(probe.port, probe.hops) for _, probe in six} == {(0, 0)}
        assert sum(probe.to == THERE.address for _, probe in probes) == len(plan.FEW), "hopeless over IPv4"
        day.done.clear()


def test_hopeless_over_ipv4_is_not_hopeless_with_ipv6(two_versions):
    """Another round follows; without IPv6 there would be a pause."""
    for candidates, again in (((THERE,), False), ((THERE6, THERE), True)):
        day = two_versions(hard=3001)
        day.tell(SignalKind.SEEK, peer=PEER)
        day.run(2)
        day.start(candidates=candidates, behaviour=HARD)
        day.run(3)
        retry = day.told()["peers"][PEER.hex()]["retry_in"]
        assert (retry is None) is again
    assert (
        two_versions(hard=3001).told()["advice"][0].startswith("this NAT is in the way of direct paths to clients with")
    )


def test_an_answer_over_one_version_leaves_the_other_to_be_found(two_versions):
    day = two_versions()
    day.start(candidates=(THERE6, THERE))
    day.run(0.05)
    day.take(Probe)
    day.tell(SignalKind.PONG, peer=PEER, address=THERE.address)
    day.run(5)
    assert {probe.to for probe in day.take(Probe)} == {THERE6.address}
    day.start(candidates=(THERE6, THERE))
    day.run(0.05)
    for there in (THERE6, THERE):
        day.tell(SignalKind.PONG, peer=PEER, address=there.address)
    day.take(Probe)
    day.run(5)
    assert not day.take(Probe)


@pytest.mark.parametrize(("answered", "probed"), [(THERE, {THERE6.address}), (THERE6, set())])
def test_beside_a_path_over_ipv4_one_over_ipv6_is_looked_for(two_versions, answered: Candidate, probed: set):
    day = two_versions()
    day.start(candidates=(answered,))
    day.tell(SignalKind.PONG, peer=PEER, address=answered.address)
    day.run(70)
    day.done.clear()
    day.tell(SignalKind.SEEK, peer=PEER, direct=True)
    day.run(1)
    assert day.take(Request)
    assert bool(day.asked()) is bool(probed), "the hub is asked only if that is of use"
    day.start(candidates=(THERE6, THERE))
    day.run(5)
    assert {probe.to for probe in day.take(Probe)} == probed


def test_ports_are_not_guessed_where_ipv6_has_answered(two_versions):
    day = two_versions()
    day.start(candidates=(THERE6, THERE), behaviour=HARD)
    day.run(0.05)
    day.tell(SignalKind.PONG, peer=PEER, address=THERE6.address)
    day.take(Probe)
    day.run(10)
    assert not day.take(Probe)


def test_what_a_peer_says_of_its_nat_is_not_about_ipv6(two_versions):
    """It names an address of IPv4, so its behaviour is of that: none of its IPv6 ports are guessed."""
    day = two_versions(askable=())
    day.agent._known.udp.address = OWN6  # as if the hub were reached over IPv6
    day.start(candidates=(THERE6, THERE), behaviour=HARD)
    day.run(10)
    assert {probe.to for probe in day.take(Probe)} == {THERE6.address}


def test_a_peer_that_was_given_up_is_tried_again_when_there_is_ipv6(two_versions):
    day = two_versions(askable=(), hard=3001)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(2)
    day.start(candidates=(THERE,), behaviour=HARD)
    day.run(3)
    assert day.told()["peers"][PEER.hex()]["retry_in"] > PAUSE / 2
    day.take(Request)
    day.run(10)
    assert not day.take(Request)
    day.tell(SignalKind.INTERFACES, local=LOCAL, askable=ASKABLE)
    day.run(2)
    assert OWN6 in {candidate.address for candidate in day.take(Request)[0].candidates}
