"""An agent from day to day: what it asks, tells, remembers, and says for itself."""

from dataclasses import replace

import pytest

from ltunnel.plugin import (
    Answer,
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    LocalAddress,
    Probe,
    Query,
    Request,
    SignalKind,
)
from ltunnel_nat_punch.campaign import PAUSE, SOON

PEER = bytes(range(32))
LOCAL = (LocalAddress(address=("192.168.1.10", 4500), network=b"this lan"),)
SEEN = ("203.0.113.5", 40_000)
THERE = Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 4000), priority=9)


def test_the_survey_knows_an_easy_strict_nat(new_day):
    day = new_day()
    day.run(3)
    assert day.agent.behaviour() == Behaviour(
        mapping=Dependence.ENDPOINT_INDEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT, hairpin=Answer.NO,
        preserves_port=Answer.NO,
    )  # fmt: skip
    assert day.told()["nat"].startswith("a NAT, easy: one port for all; it lets in only")
    assert day.told()["advice"] == []


def test_the_survey_knows_lenient_and_hard_ones(new_day):
    day = new_day(lenient=True, hard=7001)
    day.run(3)
    assert day.agent.behaviour().filtering is Dependence.ADDRESS_DEPENDENT
    assert day.agent.behaviour().mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT
    assert "hard (symmetric)" in day.told()["nat"]
    assert "UPnP" in day.told()["advice"][0]


def test_a_hub_with_one_port_leaves_it_open(new_day):
    day = new_day(two_ports=False)
    day.run(3)
    assert day.agent.behaviour().mapping is Dependence.UNKNOWN
    assert day.agent.behaviour().filtering is Dependence.UNKNOWN
    assert "no second port" in day.told()["nat"]


def test_blocked_udp_is_found_out_and_asked_about_again(new_day):
    day = new_day(answers=False)
    day.run(5)
    assert day.told()["nat"].startswith("UDP is blocked")
    day.answers = True
    day.run(40)
    assert day.told()["nat"].startswith("a NAT, easy")


def test_a_path_that_is_sought_is_asked_for_when_the_nat_is_known(new_day):
    day = new_day()
    day.tell(SignalKind.SEEK, peer=PEER)
    assert not day.take(Request), "not before the survey"
    day.run(2)
    (request,) = day.take(Request)
    assert [candidate.address for candidate in request.candidates] == [("192.168.1.10", 4500), SEEN]
    day.run(10)
    assert len(day.take(Request)) == 1, "a lost request is repeated once"


def test_rounds_follow_each_other_with_fresh_ports_and_then_there_is_a_pause(new_day):
    day = new_day(rounds=2)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(2)
    day.start(0)
    day.run(2)
    requests = day.take(Request)
    assert [request.round for request in requests] == [0, 1]
    assert requests[1].candidates[-1].address == (SEEN[0], SEEN[1] + 1), "another port, as the hub saw it"
    day.start(1)
    day.run(1)
    probes = day.take(Probe)
    assert {probe.port for probe in probes} == {0, 1}
    assert next(probe.hops for probe in probes if probe.port == 1) == 2, "a hint goes first"
    day.run(PAUSE - 5)
    assert not day.take(Request)
    day.run(10)
    assert [request.round for request in day.take(Request)] == [0, 0]
    assert day.told()["peers"][PEER.hex()]["rounds"][-1]["result"] == "no answer"


def test_what_has_worked_goes_first_and_soon(new_day):
    day = new_day()
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(2)
    day.start(0)
    day.run(2)
    day.start(1)
    day.run(0.5)
    day.tell(SignalKind.PONG, peer=PEER, address=THERE.address, port=1)
    day.run(3)
    shown = day.told()["peers"][PEER.hex()]
    assert (shown["worked"], shown["rounds"][-1]["result"], shown["advice"]) == (1, "direct", [])
    day.take(Request)
    day.tell(SignalKind.SEEK, peer=PEER)  # the path is dead
    assert [request.round for request in day.take(Request)] == [1]
    for number in (1, 2, 0):
        day.start(number)
        day.run(3)
    day.take(Request)
    day.run(SOON + 1)
    assert day.take(Request), "tried again soon, since it has worked"


def test_an_answer_ends_the_probes_but_for_those_on_the_lan(new_day):
    day = new_day()
    day.run(2)
    near = Candidate(kind=CandidateKind.HOST, address=("192.168.1.11", 4500), priority=99, network=b"this lan")
    day.tell(SignalKind.PREPARE, peer=PEER)
    day.start(candidates=(near, THERE))
    day.run(0.05)
    day.take(Probe)
    day.tell(SignalKind.PONG, peer=PEER, address=THERE.address)
    day.run(5)
    assert {probe.to for probe in day.take(Probe)} == {near.address}


def test_with_a_direct_path_only_the_lan_is_looked_for(new_day):
    day = new_day()
    day.run(2)
    day.tell(SignalKind.SEEK, peer=PEER, direct=True)
    assert day.take(Request)
    day.start()
    day.run(5)
    assert not day.take(Probe)


def test_a_counting_nat_tells_what_it_will_take_next(new_day):
    day = new_day(hard=1)
    day.run(3)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(1)
    (request,) = day.take(Request)
    predicted = [c.address[1] for c in request.candidates if c.kind is CandidateKind.PRFLX]
    assert predicted == [day.last + n for n in range(1, 6)]
    assert SEEN not in [candidate.address for candidate in request.candidates], "nobody else can use that"


def test_a_mapped_port_makes_a_hard_nat_easy(new_day):
    day = new_day(hard=7001)
    day.run(3)
    day.tell(SignalKind.MAPPED, address=(SEEN[0], 4500), lifetime=600.0)
    assert day.agent.behaviour().mapping is Dependence.ENDPOINT_INDEPENDENT
    assert (SEEN[0], 4500) in [candidate.address for candidate in day.agent.candidates(day.now)]
    assert day.told()["mapped"] == [{"carrier": "udp", "address": [SEEN[0], 4500], "lifetime": 600}]
    day.now += 601
    assert (SEEN[0], 4500) not in [candidate.address for candidate in day.agent.candidates(day.now)]
    day.tell(SignalKind.MAPPED, address=None)
    assert day.agent.behaviour().mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT


def test_a_port_mapped_by_a_router_behind_another_nat_makes_nothing_easy(new_day):
    day = new_day(hard=7001)
    day.run(3)
    day.tell(SignalKind.MAPPED, address=("100.64.0.9", 4500), lifetime=600.0)
    assert day.agent.behaviour().mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT
    assert "hard (symmetric)" in day.told()["nat"]
    assert "behind another NAT" in day.told()["advice"][0]


@pytest.mark.parametrize(("host", "words"), [(THERE.address[0], "firewall"), (SEEN[0], "the same NAT")])
def test_what_one_could_do_when_nothing_comes_through(new_day, host, words):
    day = new_day(rounds=1)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(2)
    day.start(candidates=(replace(THERE, address=(host, 4000)),))
    day.run(3)
    (advice,) = day.told()["peers"][PEER.hex()]["advice"]
    assert words in advice


def test_in_another_network_everything_is_found_out_anew(new_day):
    day = new_day()
    day.run(3)
    day.tell(SignalKind.MOVED)
    assert day.agent.behaviour() == Behaviour()
    assert day.agent.next_timeout() is None, "nothing is asked before the hub is there"
    day.take(Query)
    day.tell(SignalKind.INTERFACES, local=LOCAL)
    assert day.take(Query)


def test_what_has_worked_is_known_in_the_next_session(new_day):
    day = new_day()
    day.run(2)
    day.start(1)
    day.tell(SignalKind.PONG, peer=PEER, address=THERE.address, carrier=Carrier.UDP)
    day.tell(SignalKind.CLOSED, peer=PEER)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.run(2)
    assert [request.round for request in day.take(Request)] == [1, 1], "asked, and asked again"
    day.tell(SignalKind.CLOSED, peer=PEER)
    day.tell(SignalKind.MOVED)
    day.tell(SignalKind.INTERFACES, local=LOCAL)
    day.run(2)
    day.tell(SignalKind.SEEK, peer=PEER)
    assert [request.round for request in day.take(Request)] == [0], "nothing that was learnt elsewhere holds"


def test_a_refusal_is_told(new_day):
    day = new_day()
    day.run(2)
    day.tell(SignalKind.SEEK, peer=PEER)
    day.tell(SignalKind.REFUSED, peer=PEER, reason="that node takes no direct paths")
    shown = day.told()["peers"][PEER.hex()]
    assert shown["refused"] == "that node takes no direct paths"
    assert "takes no direct paths" in shown["advice"][0]
    assert shown["retry_in"] > 0
