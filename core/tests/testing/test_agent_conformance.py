"""The suite for discovery passes good agents and finds what is wrong with bad ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from ltunnel.plugin import (
    Action,
    Address,
    Behaviour,
    Candidate,
    CandidateKind,
    DiscoveryDescriptor,
    LocalAddress,
    NoOptions,
    Prepared,
    Probe,
    Query,
    Request,
    Signal,
    SignalKind,
    read_target,
)
from ltunnel.testing.conformance import DiscoveryConformance


class Agent:
    """Asks the hub once, advertises what it is told, probes each candidate ten times, 0.2 s apart."""

    candidates_limit, probes_limit, interval = 8, 10, 0.2

    def __init__(self) -> None:
        self.local: tuple[LocalAddress, ...] = ()
        self.seen: Address | None = None
        self.todo: list[tuple[float, Action]] = []

    def usable(self, address: Address) -> bool:
        return read_target(address) is not None

    def near(self, candidate: Candidate) -> bool:
        return not candidate.network or candidate.network in {own.network for own in self.local}

    def handle_signal(self, signal: Signal, now: float) -> None:
        match signal.kind:
            case SignalKind.INTERFACES:
                self.local = signal.local
                self.todo.append((now, Query()))
            case SignalKind.OBSERVED:
                self.seen = signal.address
            case SignalKind.SEEK:
                self.todo.append((now, Request(peer=signal.peer, round=0, candidates=tuple(self.candidates(now)))))
            case SignalKind.PREPARE:
                self.todo.append((now, Prepared(peer=signal.peer, round=0, candidates=tuple(self.candidates(now)))))
            case SignalKind.START:
                self.punch(signal, now + signal.delay)
            case SignalKind.CLOSED:
                self.leave(signal.peer)

    def leave(self, peer: bytes) -> None:
        self.todo = [(at, action) for at, action in self.todo if action.peer != peer]

    def punch(self, signal: Signal, begin: float) -> None:
        mine = {own.address[0] for own in self.local}
        good = [c for c in signal.candidates if self.usable(c.address) and c.address[0] not in mine and self.near(c)]
        good.sort(key=lambda candidate: -candidate.priority)
        for round_ in range(self.probes_limit):
            at = begin + round_ * self.interval
            self.todo += [(at, Probe(peer=signal.peer, to=c.address)) for c in good[: self.candidates_limit]]

    def candidates(self, now: float) -> Sequence[Candidate]:
        own = [
            Candidate(kind=CandidateKind.HOST, address=here.address, priority=100 - place, network=here.network)
            for place, here in enumerate(self.local)
            if self.usable(here.address) and (here.network or ":" in here.address[0])
        ]
        if self.seen is not None:
            own.insert(0, Candidate(kind=CandidateKind.SRFLX, address=self.seen, priority=200))
        return own[: self.candidates_limit]

    def actions(self, now: float) -> Sequence[Action]:
        due = [action for at, action in self.todo if at <= now]
        self.todo = [(at, action) for at, action in self.todo if at > now]
        return due

    def next_timeout(self) -> float | None:
        return min((at for at, _ in self.todo), default=None)

    def behaviour(self) -> Behaviour:
        return Behaviour()

    def explain(self, now: float) -> Mapping[str, Any]:
        return {"nat": "unknown", "advice": [], "mapped": [], "peers": {bytes(range(32)).hex(): {}}}


class Unsorted(Agent):
    def candidates(self, now):
        return super().candidates(now)[::-1]


class Careless(Agent):
    """Tells private addresses without saying where they hold."""

    def candidates(self, now):
        return [replace(candidate, network=b"") for candidate in super().candidates(now)]


class Deaf(Agent):
    """Never asks for a path."""

    def handle_signal(self, signal, now):
        if signal.kind is not SignalKind.SEEK:
            super().handle_signal(signal, now)


class Generous(Agent):
    probes_limit = 11


class Broad(Agent):
    candidates_limit = 9


class Gullible(Agent):
    def usable(self, address):
        return True


class Roaming(Agent):
    """Takes equal private addresses for one LAN."""

    def near(self, candidate):
        return True


class Repeats(Agent):
    def actions(self, now):
        return [action for at, action in self.todo if at <= now]


class Hasty(Agent):
    def punch(self, signal, begin):
        super().punch(signal, begin - signal.delay)


class Stalker(Agent):
    def leave(self, peer):
        pass


class Storm(Agent):
    """Probes the neighbours of what a peer named."""

    def actions(self, now):
        return [
            replace(action, to=("192.0.2.255", action.to[1])) if isinstance(action, Probe) else action
            for action in super().actions(now)
        ]


class Lottery(Agent):
    """Guesses ports without end."""

    def punch(self, signal, begin):
        for port in range(3000):
            self.todo.append((begin, Probe(peer=signal.peer, to=(signal.candidates[0].address[0], 2000 + port))))


class Stubborn(Agent):
    """Opens one port after the other, whatever the NATs are."""

    def punch(self, signal, begin):
        for port in range(1, 120):
            self.todo.append((begin, Probe(peer=signal.peer, to=signal.candidates[0].address, port=port)))


class WorstFirst(Agent):
    candidates_limit = 2

    def punch(self, signal, begin):
        turned = tuple(replace(c, priority=-c.priority) for c in signal.candidates)
        super().punch(replace(signal, candidates=turned), begin)


class OwnEcho(Agent):
    def punch(self, signal, begin):
        super().punch(signal, begin)
        self.todo += [(begin, Probe(peer=signal.peer, to=own.address)) for own in self.local[:1]]


class Restless(Agent):
    def next_timeout(self):
        return 0.0


class Chatty(Agent):
    """Probes somebody without being told to."""

    def handle_signal(self, signal, now):
        super().handle_signal(signal, now)
        if signal.kind is SignalKind.INTERFACES:
            self.todo.append((now + 20.0, Probe(peer=bytes(32), to=("198.51.100.1", 1))))


class Nagging(Agent):
    """Asks the hub again and again."""

    def actions(self, now):
        due = super().actions(now)
        return [*due, *self.again(due, now)]

    def again(self, due, now):
        if any(isinstance(action, Query) for action in due):
            self.todo.append((now + 1.0, Query()))
        return ()


class Chokes(Agent):
    def usable(self, address):
        return read_target((str(ip_address(address[0])), address[1])) is not None


class Mumbles(Agent):
    def explain(self, now):
        return {"nat": b"unknown"}


def agent(make: type[Agent]) -> DiscoveryDescriptor:
    return DiscoveryDescriptor(options=NoOptions, create=lambda options: make())


def test_a_good_agent_passes(failures: Callable[..., set[str]]):
    assert failures(DiscoveryConformance, descriptor=agent(Agent)) == set()


@pytest.mark.parametrize(("make", "found_by"), [
    (Unsorted, "test_own_candidates"), (Broad, "test_many_interfaces"), (Broad, "test_probes_stay_in_budget"),
    (Careless, "test_private_addresses_name_their_lan"), (Deaf, "test_a_path_is_asked_for"),
    (Generous, "test_probes_stay_in_budget"), (Gullible, "test_hostile_signals"), (Gullible, "test_many_interfaces"),
    (Repeats, "test_probes_stay_in_budget"), (Hasty, "test_nothing_before_the_delay"),
    (Stalker, "test_closed_peers_are_left_alone"), (Storm, "test_no_third_party_is_probed"),
    (Lottery, "test_guesses_stay_in_budget"), (Stubborn, "test_two_hard_nats_are_no_storm"),
    (WorstFirst, "test_best_candidates_first"), (OwnEcho, "test_own_addresses_are_not_probed"),
    (Roaming, "test_equal_private_addresses"), (Restless, "test_silence_is_the_default"),
    (Chatty, "test_silence_is_the_default"), (Nagging, "test_silence_is_the_default"),
    (Chokes, "test_hostile_signals"), (Mumbles, "test_explanations_are_json"),
])  # fmt: skip
def test_bad_agents_are_found(failures: Callable[..., set[str]], make: type[Agent], found_by: str):
    assert found_by in failures(DiscoveryConformance, descriptor=agent(make))
