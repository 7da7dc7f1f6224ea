"""The suites for discovery, routing and whole plugins pass good ones and find what is wrong with bad ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, Field

from ltunnel.plugin import (
    Action,
    Address,
    Behaviour,
    Candidate,
    CandidateKind,
    DiscoveryDescriptor,
    LocalAddress,
    NextHop,
    NoOptions,
    Options,
    PathView,
    PluginInfo,
    Prepared,
    Probe,
    Query,
    Request,
    RoutingDescriptor,
    Signal,
    SignalKind,
    hookimpl,
    read_target,
)
from ltunnel.testing.conformance import DiscoveryConformance, PluginConformance, RoutingConformance


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


class Policy:
    """Class, then round-trip time; changes within a class must gain a fifth."""

    gain = 0.8

    def __init__(self) -> None:
        self.last: dict[bytes, NextHop] | None = None

    def sane(self, path: PathView) -> bool:
        figures = (path.rtt, path.jitter, path.loss, path.last_pong)
        return all(math.isfinite(figure) and figure >= 0 for figure in figures) and path.loss < 1 and path.hops > 0

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop] | None:
        hops: dict[bytes, NextHop] = {}
        best: dict[bytes, PathView] = {}
        for path in filter(self.sane, paths):
            if path.peer not in best or self.cost(path) < self.cost(best[path.peer]):
                best[path.peer] = path
        for peer, path in best.items():
            hop = NextHop(
                number=path.number, via=path.via, path_class=path.path_class,
                reason=f"{path.path_class.name.lower()} is best",
            )  # fmt: skip
            old = (self.last or {}).get(peer)
            kept = [p for p in paths if old and (p.peer, p.number, p.path_class) == (peer, old.number, old.path_class)]
            if kept and path.path_class == kept[0].path_class and path.rtt > kept[0].rtt * self.gain:
                assert old is not None
                hop = old
            hops[peer] = hop
        if hops == self.last:
            return None
        self.last = hops
        return hops

    def cost(self, path: PathView) -> Any:
        return (path.suspect, path.path_class, path.rtt, path.number)


class AlwaysAnswers(Policy):
    def decide(self, paths, now):
        self.last = None
        return super().decide(paths, now)


class Flaps(Policy):
    gain = 1.0


class Invents(Policy):
    def decide(self, paths, now):
        hops = super().decide(paths, now)
        return hops and {peer: replace(hop, via=bytes(32)) for peer, hop in hops.items()}


class Clings(Policy):
    """Never leaves a peer that has no path any more."""

    def decide(self, paths, now):
        return super().decide(paths, now) if paths else None


class HubLover(Policy):
    def cost(self, path):
        return (-path.path_class, path.rtt, path.via)


class Careless(Policy):
    """Goes by whatever path, whether it answers or not."""

    def cost(self, path):
        return (path.path_class, path.rtt, -path.number)


class Renumbers(Policy):
    def decide(self, paths, now):
        hops = super().decide(paths, now)
        return hops and {peer: replace(hop, number=hop.number + 1) for peer, hop in hops.items()}


class Mute(Policy):
    def decide(self, paths, now):
        hops = super().decide(paths, now)
        return hops and {peer: replace(hop, reason="") for peer, hop in hops.items()}


class FirstCome(Policy):
    def cost(self, path):
        return path.path_class if path.path_class == 3 else 0


class Trusting(Policy):
    """Computes with whatever it is given."""

    def sane(self, path):
        return int(path.rtt * 1000) >= 0


def policy(make: type[Policy]) -> RoutingDescriptor:
    return RoutingDescriptor(options=NoOptions, create=lambda options: make())


def test_a_good_policy_passes(failures: Callable[..., set[str]]):
    assert failures(RoutingConformance, descriptor=policy(Policy)) == set()


@pytest.mark.parametrize(("make", "found_by"), [
    (AlwaysAnswers, "test_none_when_nothing_changed"), (Flaps, "test_noise_does_not_flap"),
    (Invents, "test_the_only_path_is_taken"), (Clings, "test_a_path_that_is_gone_is_left"),
    (HubLover, "test_classes_in_order"), (Mute, "test_the_only_path_is_taken"),
    (Trusting, "test_hostile_measurements"), (FirstCome, "test_classes_in_order"),
    (Careless, "test_a_path_in_doubt_is_not_moved_to"), (Renumbers, "test_the_only_path_is_taken"),
])  # fmt: skip
def test_bad_policies_are_found(failures: Callable[..., set[str]], make: type[Policy], found_by: str):
    assert found_by in failures(RoutingConformance, descriptor=policy(make))


class Loose(BaseModel):
    """Not derived from Options."""


class Undescribed(Options):
    level: int = 1


class Described(Options):
    level: int = Field(default=1, description="how much")


def test_options_models(failures: Callable[..., set[str]]):
    def run(model: type[Any], **options: Any) -> set[str]:
        descriptor = RoutingDescriptor(options=model, create=lambda options: Policy())
        return failures(RoutingConformance, descriptor=descriptor, options=options)

    assert run(Described, level=3) == set()
    for model in (Loose, Undescribed):
        assert run(model) == {"test_options_are_strict_and_described"}
    assert "test_no_paths" in run(Described, unknown=1)


def module(**hooks: Any) -> ModuleType:
    made = ModuleType("made")
    for name, answer in hooks.items():

        def hook(answer: Any = answer) -> Any:
            return answer

        hook.__name__ = name
        setattr(made, name, hookimpl(hook))
    return made


GOOD = PluginInfo(name="mine", summary="does a thing", api=(1, 0))
HOOKS = {"ltunnel_plugin_info": GOOD, "ltunnel_routing": policy(Policy)}


def test_plugins(failures: Callable[..., set[str]]):
    assert failures(PluginConformance, module=module(**HOOKS), name="mine") == set()
    for change, found_by in [
        ({"ltunnel_plugin_info": replace(GOOD, name="other")}, "test_info"),
        ({"ltunnel_plugin_info": replace(GOOD, summary="")}, "test_info"),
        ({"ltunnel_plugin_info": replace(GOOD, api=(1, 99))}, "test_info"),
        ({"ltunnel_plugin_info": replace(GOOD, api=(2, 0))}, "test_info"),
        ({"ltunnel_ciphre": policy(Policy)}, "test_hooks_are_known"),
    ]:
        assert failures(PluginConformance, module=module(**{**HOOKS, **change}), name="mine") == {found_by}
    assert failures(PluginConformance, module=module(ltunnel_plugin_info=GOOD), name="mine") == {"test_is_of_some_kind"}
    assert "test_info" in failures(PluginConformance, module=module(ltunnel_routing=policy(Policy)), name="mine")
