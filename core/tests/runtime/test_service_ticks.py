"""What the service does in between packets, and when."""

import time
from types import SimpleNamespace

import pytest

from ltunnel.control.events import Event
from ltunnel.runtime.hub_address import NEXT_ADDRESS, NEXT_LOOKUP
from ltunnel.runtime.network_watch import LATEST, QUIET
from ltunnel.runtime.service import LOOK_AFTER
from ltunnel.runtime.surroundings import LOOK_AGAIN
from ltunnel.runtime.tunnel_routes import TRY_AGAIN


def test_whoever_watches_is_asked_at_each_turn(around):
    asked = []
    around.service.surroundings = SimpleNamespace(check=lambda now: asked.append(now) or now + 5.0)
    assert around.service.tick(100.0) == 105.0
    assert asked == [100.0]


def test_what_routes_into_the_tunnel_is_asked_after_what_was_due(around):
    asked = []
    around.node.timeout = 100.0

    def check(now: float) -> float:
        asked.append((now, list(around.node.calls)))
        around.node.timeout = 103.0  # nodes are to be told of what this machine is in
        return 110.0

    around.service.tunnel_routes = SimpleNamespace(check=check)
    assert around.service.tick(100.0) == 103.0
    assert asked == [(100.0, ["due"])]
    around.node.timeout = None
    around.service.tunnel_routes = SimpleNamespace(check=lambda now: now + 10.0)
    assert around.service.tick(101.0) == 111.0


def test_the_wall_clock_follows_steps(around):
    around.service.tick(time.monotonic())
    assert around.node.control.wall_offset == pytest.approx(time.time() - time.monotonic(), abs=5)


def test_timers_are_served_when_due_and_their_next_is_returned(around):
    around.node.timeout = 50.0
    assert around.service.tick(49.0) == 50.0
    assert around.node.calls == []
    assert around.service.tick(50.0) is None
    assert around.node.calls == ["due"]


def test_between_two_ticks_the_node_has_what_it_needs(around):
    around.service.tick(50.0)
    around.node.timeout = 50.002
    around.service.tick_between(50.001)
    around.node.events = [Event(name="bindings", text="a")]
    around.service.tick_between(50.002)
    assert around.node.calls == ["nothing due", "due"]
    assert around.saved == ["bindings"]


def test_whoever_watches_is_asked_when_it_is_due_and_soon_after_it_may_have_changed(around):
    asked = []
    around.service.surroundings = SimpleNamespace(check=lambda now: asked.append(now) or 100.01)
    around.service.hub_address = SimpleNamespace(check=lambda now, *, connected: asked.append(connected))
    around.service.tick(100.0)
    around.service.tick_between(100.009)
    assert asked == [100.0, True]
    around.service.tick_between(100.01)
    assert asked[2:] == [100.01, True], "due"
    around.service.surroundings.check = asked.append
    around.service.tick(200.0)
    around.node.control.state = "connecting"
    del asked[:]
    around.service.tick_between(200.0 + LOOK_AFTER - 0.001)
    assert asked == []
    around.service.tick_between(200.0 + LOOK_AFTER)
    assert asked == [200.0 + LOOK_AFTER, False]


def test_nothing_that_watches_asks_to_come_again_sooner_than_it_is_asked():
    """So what a handler has set going is never due before the service knows of it."""
    assert min(QUIET, LATEST, LOOK_AGAIN, NEXT_ADDRESS, NEXT_LOOKUP, TRY_AGAIN) >= 2 * LOOK_AFTER
