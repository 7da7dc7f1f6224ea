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
    Address,
    Candidate,
    CandidateKind,
    DiscoveryDescriptor,
    NextHop,
    NoOptions,
    Options,
    PathView,
    PluginInfo,
    Probe,
    RoutingDescriptor,
    Signal,
    SignalKind,
    hookimpl,
)
from ltunnel.testing.conformance import DiscoveryConformance, PluginConformance, RoutingConformance


def usable(address: Address) -> bool:
    try:
        host = ip_address(address[0])
    except ValueError:
        return False
    nobody = host.is_multicast or host.is_unspecified or host.is_loopback or host.is_link_local or host.is_reserved
    return not nobody and 0 < address[1] < 65_536


class Agent:
    """Advertises what it is told, probes each candidate ten times, 0.2 s apart."""

    candidates_limit, probes_limit, interval = 8, 10, 0.2

    def __init__(self) -> None:
        self.own: list[Candidate] = []
        self.known: dict[bytes, tuple[Candidate, ...]] = {}
        self.plan: list[Probe] = []

    def usable(self, address: Address) -> bool:
        return usable(address)

    def handle_signal(self, signal: Signal, now: float) -> None:
        if signal.kind is SignalKind.INTERFACES:
            self.own += [Candidate(kind=CandidateKind.HOST, address=a, priority=100) for a in signal.addresses]
        elif signal.kind is SignalKind.OBSERVED:
            self.own += [Candidate(kind=CandidateKind.SRFLX, address=a, priority=200) for a in signal.addresses]
        elif signal.kind is SignalKind.CANDIDATES:
            self.known[signal.peer] = signal.candidates
        elif signal.kind is SignalKind.PUNCH:
            self.punch(signal.peer, now)
        elif signal.kind is SignalKind.CLOSED:
            self.plan = [probe for probe in self.plan if probe.peer != signal.peer]

    def punch(self, peer: bytes, now: float) -> None:
        self.plan = [probe for probe in self.plan if probe.peer != peer]
        mine = {candidate.address for candidate in self.own}
        good = [c for c in self.known.get(peer, ()) if self.usable(c.address) and c.address not in mine]
        good.sort(key=lambda candidate: -candidate.priority)
        for round_ in range(self.probes_limit):
            at = now + round_ * self.interval
            self.plan += [Probe(peer=peer, to=c.address, at=at) for c in good[: self.candidates_limit]]

    def candidates(self, now: float) -> Sequence[Candidate]:
        good = {candidate.address: candidate for candidate in self.own if self.usable(candidate.address)}
        return sorted(good.values(), key=lambda candidate: -candidate.priority)[: self.candidates_limit]

    def probes(self, now: float) -> Sequence[Probe]:
        due = [probe for probe in self.plan if probe.at <= now]
        self.plan = [probe for probe in self.plan if probe.at > now]
        return due

    def next_timeout(self) -> float | None:
        return min((probe.at for probe in self.plan), default=None)


class Unsorted(Agent):
    def candidates(self, now):
        return super().candidates(now)[::-1]


class Generous(Agent):
    probes_limit = 11


class Broad(Agent):
    candidates_limit = 9


class Gullible(Agent):
    def usable(self, address):
        return True


class Repeats(Agent):
    def probes(self, now):
        return [probe for probe in self.plan if probe.at <= now]


class Hasty(Agent):
    def probes(self, now):
        due, self.plan = self.plan, []
        return due


class Stalker(Agent):
    def handle_signal(self, signal, now):
        if signal.kind is not SignalKind.CLOSED:
            super().handle_signal(signal, now)


class Storm(Agent):
    """Probes the neighbours of what a peer named."""

    def probes(self, now):
        return [replace(probe, to=("192.0.2.255", probe.to[1])) for probe in super().probes(now)]


class WorstFirst(Agent):
    candidates_limit = 2

    def punch(self, peer, now):
        self.known[peer] = tuple(replace(c, priority=-c.priority) for c in self.known.get(peer, ()))
        super().punch(peer, now)


class OwnEcho(Agent):
    def handle_signal(self, signal, now):
        super().handle_signal(signal, now)
        if signal.kind is SignalKind.PUNCH:
            self.plan += [Probe(peer=signal.peer, to=c.address, at=now) for c in self.own[:1]]


class Restless(Agent):
    def next_timeout(self):
        return 0.0


class Chatty(Agent):
    """Probes somebody without being told to."""

    def probes(self, now):
        return [*super().probes(now)] if now else [Probe(peer=bytes(32), to=("198.51.100.1", 1), at=0.0)]


class Chokes(Agent):
    def usable(self, address):
        return usable((str(ip_address(address[0])), address[1]))


def agent(make: type[Agent]) -> DiscoveryDescriptor:
    return DiscoveryDescriptor(options=NoOptions, create=lambda options: make())


def test_a_good_agent_passes(failures: Callable[..., set[str]]):
    assert failures(DiscoveryConformance, descriptor=agent(Agent)) == set()


@pytest.mark.parametrize(("make", "found_by"), [
    (Unsorted, "test_own_candidates"), (Broad, "test_many_interfaces"), (Broad, "test_probes_stay_in_budget"),
    (Generous, "test_probes_stay_in_budget"), (Gullible, "test_hostile_signals"), (Gullible, "test_many_interfaces"),
    (Repeats, "test_probes_stay_in_budget"), (Hasty, "test_probes_stay_in_budget"),
    (Stalker, "test_closed_peers_are_left_alone"), (Storm, "test_no_third_party_is_probed"),
    (WorstFirst, "test_best_candidates_first"), (OwnEcho, "test_equal_private_addresses"),
    (Restless, "test_silence_is_the_default"), (Chatty, "test_silence_is_the_default"),
    (Chokes, "test_hostile_signals"),
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
