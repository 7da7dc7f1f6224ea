"""The suites for routing, options and whole plugins pass good ones and find what is wrong with bad ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, Field

from ltunnel.plugin import NextHop, NoOptions, Options, PathView, PluginInfo, RoutingDescriptor, hookimpl
from ltunnel.testing.conformance import PluginConformance, RoutingConformance


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
