"""What is sent when: methods by the two NATs, schedules, guesses, predictions."""

import pytest

from ltunnel.plugin import Behaviour, Candidate, CandidateKind, Carrier, Dependence, Limits
from ltunnel_nat_punch import plan
from ltunnel_nat_punch.knowledge import predict
from ltunnel_nat_punch.plan import Method, Side

PEER = bytes(32)
LENIENT, STRICT = Side(keeps=True, predicts=False, strict=False), Side(keeps=True, predicts=False, strict=True)
COUNTS, RANDOM = Side(keeps=False, predicts=True, strict=True), Side(keeps=False, predicts=False, strict=True)


def candidate(host: str = "192.0.2.7", port: int = 4000, **more) -> Candidate:
    return Candidate(kind=more.pop("kind", CandidateKind.SRFLX), address=(host, port), priority=1, **more)


@pytest.mark.parametrize(("own", "theirs", "method"), [
    (LENIENT, LENIENT, Method.PLAIN), (STRICT, STRICT, Method.PLAIN), (COUNTS, COUNTS, Method.PLAIN),
    (COUNTS, STRICT, Method.PLAIN), (LENIENT, COUNTS, Method.PLAIN),
    (RANDOM, LENIENT, Method.PLAIN), (LENIENT, RANDOM, Method.PLAIN),
    (RANDOM, STRICT, Method.OPEN), (STRICT, RANDOM, Method.GUESS),
    (RANDOM, RANDOM, Method.HOPELESS), (RANDOM, COUNTS, Method.HOPELESS), (COUNTS, RANDOM, Method.HOPELESS),
])  # fmt: skip
def test_methods_and_that_both_sides_choose_alike(own, theirs, method):
    assert plan.choose(own, theirs, birthday=True) is method
    other = {Method.OPEN: Method.GUESS, Method.GUESS: Method.OPEN}.get(method, method)
    assert plan.choose(theirs, own, birthday=True) is other
    without = Method.PLAIN if method in (Method.OPEN, Method.GUESS) else method
    assert plan.choose(own, theirs, birthday=False) is without


@pytest.mark.parametrize(("mapping", "filtering", "predicted", "side"), [
    (Dependence.UNKNOWN, Dependence.UNKNOWN, False, STRICT),
    (Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT, False, LENIENT),
    (Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT, True, STRICT),
    (Dependence.ADDRESS_DEPENDENT, Dependence.UNKNOWN, False, RANDOM),
    (Dependence.ADDRESS_AND_PORT_DEPENDENT, Dependence.UNKNOWN, True, COUNTS),
])  # fmt: skip
def test_what_counts_of_a_side(mapping, filtering, predicted, side):
    kind = CandidateKind.PRFLX if predicted else CandidateKind.SRFLX
    assert plan.side(Behaviour(mapping=mapping, filtering=filtering), [candidate(kind=kind)]) == side


def test_plain_probes_come_in_turns_and_the_lan_does_not_wait():
    lan, far = candidate("192.168.1.2", network=b"this lan"), candidate()
    timed = list(plan.plain(PEER, [lan, far], times=(0.0, 1.0), start=10.0, lag=0.25, port=7))
    assert [(round(t.at, 3), t.probe.to[0], t.probe.port) for t in timed] == [
        (10.0, "192.168.1.2", 0), (11.0, "192.168.1.2", 0), (10.254, "192.0.2.7", 7), (11.254, "192.0.2.7", 7),
    ]  # fmt: skip


def test_tcp_is_probed_from_the_shared_port_and_not_too_often():
    timed = list(plan.meeting(PEER, [candidate(carrier=Carrier.TCP)], start=5.0))
    assert {(t.probe.carrier, t.probe.port, t.probe.hops) for t in timed} == {(Carrier.TCP, 0, 0)}
    assert [t.at for t in timed] == [5.0 + time for time in plan.MEETING]
    assert len(timed) <= Limits.PROBES


def test_hints_go_to_places_outside_only():
    goals = [candidate("192.168.1.2", network=b"this lan"), candidate()]
    (hint,) = plan.hints(PEER, goals, start=1.0, port=3, hops=2)
    assert (hint.probe.to, hint.probe.port, hint.probe.hops) == (("192.0.2.7", 4000), 3, 2)


def test_every_guess_is_another_port_and_other_salts_give_others():
    first, second = (
        [
            timed.probe.to[1]
            for timed in plan.guesses(PEER, candidate(), start=0.0, count=1024, rate=200, port=0, salt=salt)
        ]
        for salt in (1, 2)
    )
    assert len(set(first)) == 1024
    assert all(plan.LOWEST <= port <= plan.HIGHEST for port in first)
    assert len(set(first) & set(second)) < 100
    everything = plan.guesses(
        PEER, candidate(), start=0.0, count=plan.HIGHEST - plan.LOWEST + 1, rate=200, port=0, salt=1
    )
    assert len({timed.probe.to[1] for timed in everything}) == plan.HIGHEST - plan.LOWEST + 1


def test_the_odds_of_guessing_are_what_is_promised():
    ports = plan.HIGHEST - plan.LOWEST + 1
    assert 1 - (1 - Limits.PORTS / ports) ** Limits.BLIND_PROBES > 0.98


@pytest.mark.parametrize(("one", "other", "ports"), [
    (5000, 5001, [5002, 5003, 5004, 5005, 5006]), (5001, 5000, [4999, 4998, 4997, 4996, 4995]),
    (5000, 5004, [5008, 5012, 5016, 5020, 5024]), (5000, 5000, []),
    (5000, 9000, []), (65_532, 65_533, [65_534, 65_535]),
])  # fmt: skip
def test_ports_of_counting_nats_are_predicted(one, other, ports):
    found = predict(("192.0.2.7", one), ("192.0.2.7", other))
    assert [candidate.address[1] for candidate in found] == ports
    assert [candidate.priority for candidate in found] == sorted((c.priority for c in found), reverse=True)


def test_nothing_is_predicted_from_half_of_an_answer():
    assert predict(None, ("192.0.2.7", 1)) == predict(("192.0.2.7", 1), None) == ()
    assert predict(("192.0.2.7", 1), ("192.0.2.8", 2)) == ()
