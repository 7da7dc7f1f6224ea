"""What two nodes with a direct path tell each other: when, how often, in how many frames, and for how long it holds."""

from itertools import pairwise

import pytest

from ltunnel.control.context import Context
from ltunnel.control.measure import Measure
from ltunnel.control.mesh import DEAREST, REPEATS, link_cost
from ltunnel.control.roster import Roster
from ltunnel.wire.advert import INFINITY, ROUTE_LIMIT, Advert, Route, Want
from ltunnel.wire.relay import node_name

INTERVAL = 5.0


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, float, Advert]]:
    """ADVERTs that anybody sends: (from, when, frame)."""
    seen: list[tuple[str, float, Advert]] = []
    send = Context.send_frame

    def send_frame(self, epoch, path, frame, now):
        if isinstance(frame, Advert):
            seen.append((self.settings.name, now, frame))
        return send(self, epoch, path, frame, now)

    monkeypatch.setattr(Context, "send_frame", send_frame)
    return seen


@pytest.fixture
def linked(make_pair, told):
    pair = make_pair(in_mesh=True, route_update_interval=INTERVAL)
    assert told == [], "nobody has a link yet"
    pair.go_direct()
    pair.talk(3)
    return pair


def mesh(host):
    return host.control._neighbours.mesh


def name(host) -> bytes:
    return node_name(host.settings.identity.public)


def say(pair, host, *routes: Route, wants=(), hold: float = 100.0) -> None:
    """Let the other node tell a host something."""
    advert = Advert(hold=hold, routes=routes, wants=wants)
    mesh(host).heard(pair.session(host), advert, pair.net.now)
    pair.net.drain(host)


def test_a_new_link_is_used_at_once(linked, told):
    first, second = (next(advert for who, _, advert in told if who == end) for end in "ab")
    assert first.all
    assert second.all
    for here, there in ((linked.a, linked.b), (linked.b, linked.a)):
        route = mesh(here).routes.chosen[name(there)]
        assert (route.via, route.hops) == (name(there), 1)
        assert list(here.hops.links) == list(here.hops.next) == [name(there)]
    assert sum(advert.all for _, _, advert in told) == 2, "one each, the second time nobody asks"
    assert 2 * REPEATS <= len(told) <= 12


def test_all_is_told_again_and_again_without_a_reason(linked, told):
    told.clear()
    linked.talk(50, step=0.5)
    times = [when for who, when, _ in told if who == "a"]
    assert 10 <= len(times) <= 12
    assert all(INTERVAL * 0.9 <= later - earlier <= INTERVAL for earlier, later in pairwise(times))


def test_news_goes_out_at_most_once_a_second(linked, told):
    """The newest number is asked of a twenty times; each is an answer, but news for others is gathered."""
    linked.talk(4, step=0.5)
    told.clear()
    start = mesh(linked.a).routes.seqno
    for number in range(20):
        say(linked, linked.a, wants=(Want(name(linked.a), start + number + 1 & 0xFFFF, 3),))
        linked.talk(0.05)
    linked.talk(3)
    assert mesh(linked.a).routes.seqno == start + 20 & 0xFFFF
    assert len([advert for who, _, advert in told if who == "a"]) <= 20 + 4
    assert mesh(linked.b).routes.chosen[name(linked.a)].seqno == start + 20 & 0xFFFF


def test_a_long_list_takes_several_frames_and_holds_what_is_known(linked, told, monkeypatch):
    told.clear()
    routes = [Route(b"%8d" % number, 1, 5, 1) for number in range(2 * ROUTE_LIMIT + 1)]
    with monkeypatch.context() as patch:
        patch.setattr(Roster, "named", lambda self, name: self)
        mesh(linked.a)._send(name(linked.b), routes, linked.net.now, anew=True)
    assert [len(advert.routes) for _, _, advert in told] == [ROUTE_LIMIT, ROUTE_LIMIT, 1]
    assert [advert.all for _, _, advert in told] == [True, False, False]
    mesh(linked.a)._send(name(linked.b), routes, linked.net.now)
    assert told[3][2].routes == (), "of nodes that the hub has not introduced nothing is told"


def test_what_is_not_told_again_is_forgotten(linked):
    say(linked, linked.a, Route(b"far away", 1, 500, 1), hold=7.0)
    assert mesh(linked.a).routes.chosen[b"far away"].via == name(linked.b)
    assert b"far away" not in linked.a.hops.next, "the hub has not introduced it"
    linked.talk(6, step=0.5)
    assert b"far away" in mesh(linked.a).routes.chosen
    linked.talk(6.5, step=0.5)
    assert b"far away" not in mesh(linked.a).routes.chosen


def test_a_link_that_is_gone_takes_everything_with_it(linked):
    say(linked, linked.a, Route(b"far away", 1, 500, 1))
    linked.net.walls = {("a", "b"), ("b", "a")}
    assert linked.talk(8, until=lambda: linked.kind(linked.a) == "hub")
    linked.talk(0.1)
    assert mesh(linked.a).routes.chosen == {}
    assert linked.a.hops.links == linked.a.hops.next == {}


def test_an_isolating_hub_ends_it(linked, told):
    mesh(linked.a).isolate(True, linked.net.now)
    assert linked.a.hops.links == {}
    told.clear()
    linked.talk(12, step=0.5)
    assert [who for who, _, _ in told if who == "a"] == []
    dropped = sum(linked.peer(linked.a).stats.drops.values())
    assert dropped >= 2, "what b tells is not taken"
    mesh(linked.a).isolate(False, linked.net.now)
    linked.talk(6, step=0.5)
    assert list(linked.a.hops.links) == [name(linked.b)]


def test_a_retraction_is_told_when_a_node_is_lost(linked, told):
    say(linked, linked.a, Route(b"far away", 1, 500, 1))
    told.clear()
    answers = mesh(linked.a).routes.tell(b"somebody", [b"far away"], linked.net.now)
    assert answers[1].metric < INFINITY
    say(linked, linked.a, Route(b"far away", 0, INFINITY, 1))
    assert mesh(linked.a).routes.tell(b"somebody", [b"far away"], linked.net.now)[1].metric == INFINITY


def test_what_a_link_costs():
    measure = Measure()
    assert link_cost(measure) == DEAREST
    measure.answered(0.02)
    assert link_cost(measure) == 21_000
    for _ in range(15):
        measure.answered(0.02)
    for _ in range(16):
        measure.missed()
    assert link_cost(measure) == pytest.approx(42_000)
