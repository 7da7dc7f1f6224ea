"""The conformance suites; when a better kind is given up and come back to; paths that fail; reasons."""

import math

import pytest

import ltunnel_routing_mesh
from ltunnel.plugin import API_VERSION, PathClass
from ltunnel.testing.conformance import PluginConformance, RoutingConformance
from ltunnel.testing.conformance.routing import make_hub_path, make_path
from ltunnel_routing_mesh import MeshOptions, MeshPolicy, ltunnel_plugin_info, ltunnel_routing
from ltunnel_routing_mesh.history import FIRST_HOLD, FORGIVEN, LONGEST_HOLD

PEER = make_path().peer


class TestPolicy(RoutingConformance):
    descriptor = ltunnel_routing()


class TestPlugin(PluginConformance):
    module = ltunnel_routing_mesh
    name = "routing_mesh"


class Chooser:
    """A policy, and what it has chosen for one peer."""

    def __init__(self, **options) -> None:
        self.policy = MeshPolicy(MeshOptions(**options))
        self.hop = None
        self.changes = 0

    def look(self, *paths, now: float = 100.0) -> PathClass | None:
        hops = self.policy.decide(paths, now)
        if hops is not None:
            self.changes += 1
            self.hop = hops.get(PEER)
        return None if self.hop is None else self.hop.path_class


@pytest.fixture
def chooser() -> Chooser:
    return Chooser()


def test_info():
    info = ltunnel_plugin_info()
    assert (info.name, info.api) == ("routing_mesh", API_VERSION)


def test_reasons(chooser):
    hub, public = make_hub_path(), make_path(number=5)
    assert chooser.look(hub) is PathClass.HUB
    assert chooser.hop.reason == "it is the only one"
    assert chooser.look(hub, public) is PathClass.PUBLIC
    assert chooser.hop.reason == "a direct path comes before the path through the hub"
    assert chooser.look(hub, public, make_path(number=6, path_class=PathClass.LAN)) is PathClass.LAN
    assert chooser.hop.reason == "the LAN comes before a direct path"
    assert chooser.look(hub) is PathClass.HUB
    assert chooser.hop.reason == "the one before does not answer any more"


def test_a_little_loss_is_no_reason_and_much_is(chooser):
    hub = make_hub_path()
    assert chooser.look(hub, make_path(loss=0.14)) is PathClass.PUBLIC
    assert chooser.look(hub, make_path(loss=0.30)) is PathClass.HUB
    assert chooser.hop.reason == "it loses 0%, a direct path 30%"
    assert chooser.look(hub, make_path(loss=0.10)) is PathClass.HUB, "coming back asks for more"
    assert chooser.look(hub, make_path(loss=0.05)) is PathClass.PUBLIC
    assert chooser.look(make_hub_path(loss=0.3), make_path(loss=0.4)) is PathClass.PUBLIC, "both lose: the line does"


def test_a_detour_that_is_much_faster_is_taken(chooser):
    hub = make_hub_path(rtt=0.05)
    assert chooser.look(hub, make_path(rtt=0.14)) is PathClass.PUBLIC
    assert chooser.look(hub, make_path(rtt=0.16)) is PathClass.HUB
    assert chooser.hop.reason == "it is faster: 50 ms instead of 160 ms"
    assert chooser.look(hub, make_path(rtt=0.12)) is PathClass.HUB
    assert chooser.look(hub, make_path(rtt=0.09)) is PathClass.PUBLIC


def test_the_gaps_are_options():
    assert Chooser(loss_gap=0.5).look(make_hub_path(), make_path(loss=0.4)) is PathClass.PUBLIC
    assert Chooser(loss_gap=0.5).look(make_hub_path(), make_path(loss=0.6)) is PathClass.HUB
    assert Chooser(delay_gap=0.2).look(make_hub_path(rtt=0.05), make_path(rtt=0.29)) is PathClass.PUBLIC
    assert Chooser(delay_gap=0.2).look(make_hub_path(rtt=0.05), make_path(rtt=0.31)) is PathClass.HUB


def test_a_hub_of_unknown_distance_is_no_reason_to_leave(chooser):
    assert chooser.look(make_hub_path(rtt=math.inf), make_path(rtt=5.0)) is PathClass.PUBLIC


def test_suspect_paths_are_left_for_direct_ones_only(chooser):
    """A peer that has moved is followed; a path that lost two probes is not given up for the hub."""
    hub, moved = make_hub_path(), make_path(number=2)
    assert chooser.look(hub, make_path(number=1)) is PathClass.PUBLIC
    assert chooser.look(hub, make_path(number=1, suspect=True)) is PathClass.PUBLIC
    assert chooser.hop.number == 1
    chooser.look(hub, make_path(number=1, suspect=True), moved)
    assert chooser.hop.number == 2
    assert chooser.hop.reason == "the one before does not answer"


def test_nobody_goes_from_the_hub_to_a_suspect_path(chooser):
    assert chooser.look(make_hub_path()) is PathClass.HUB
    assert chooser.look(make_hub_path(), make_path(suspect=True)) is PathClass.HUB
    assert chooser.look(make_hub_path(), make_path()) is PathClass.PUBLIC


def test_within_a_kind_only_a_clear_gain_counts(chooser):
    chooser.look(make_path(number=1, rtt=0.020))
    chooser.look(make_path(number=1, rtt=0.020), make_path(number=2, rtt=0.016))
    assert chooser.hop.number == 1
    chooser.look(make_path(number=1, rtt=0.020), make_path(number=2, rtt=0.005))
    assert chooser.hop.number == 2
    assert chooser.hop.reason == "it is faster: 5 ms instead of 20 ms"


def test_a_path_that_failed_in_use_has_to_hold_longer_each_time(chooser):
    hub, now, waits = make_hub_path(), 100.0, []
    for _ in range(7):
        assert chooser.look(hub, make_path(number=1), now=now) is PathClass.PUBLIC
        now += 1
        assert chooser.look(hub, now=now) is PathClass.HUB
        now += 1
        back = now
        while chooser.look(hub, make_path(number=1), now=now) is PathClass.HUB:
            now += 0.5
        waits.append(now - back)
    assert waits == [FIRST_HOLD, 4.0, 8.0, 16.0, LONGEST_HOLD, LONGEST_HOLD, LONGEST_HOLD]
    now += FORGIVEN
    assert chooser.look(hub, now=now) is PathClass.HUB
    now += 1
    chooser.look(hub, make_path(number=1), now=now)
    assert chooser.look(hub, make_path(number=1), now=now + FIRST_HOLD) is PathClass.PUBLIC, "all is forgiven"


def test_a_path_on_probation_is_used_when_there_is_no_other(chooser):
    assert chooser.look(make_hub_path(), make_path(number=1)) is PathClass.PUBLIC
    assert chooser.look(make_hub_path(), now=101.0) is PathClass.HUB
    assert chooser.look(make_path(number=1), now=101.5) is PathClass.PUBLIC


def test_a_path_may_become_one_of_another_kind(chooser):
    chooser.look(make_path(number=1))
    assert chooser.look(make_path(number=1, path_class=PathClass.LAN)) is PathClass.LAN
    assert chooser.hop.reason == "it is the only one"


@pytest.mark.parametrize(
    "options", [{"loss_gap": 0}, {"loss_gap": 1.1}, {"delay_gap": -1}, {"prefer": "hub"}], ids=str
)  # fmt: skip
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MeshOptions(**options)
