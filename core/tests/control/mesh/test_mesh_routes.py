"""Routes between a handful of nodes: which are chosen, what is told, and that no loop forms whatever happens."""

import heapq
from itertools import count
from random import Random

import pytest

from ltunnel.control.mesh_routes import DISTANCE_TIME, RouteTable, newer
from ltunnel.wire.advert import INFINITY, Route, Want

HOLD = 105.0
US, A, B, C, D = (letter * 8 for letter in (b"u", b"a", b"b", b"c", b"d"))


def table(max_hops: int = 3, **links: int) -> RouteTable:
    made = RouteTable(US, max_hops, HOLD)
    for name, cost in links.items():
        made.set_link(name.encode() * 8, cost)
        made.hear(name.encode() * 8, Route(name.encode() * 8, 1, 0, 0), HOLD)
    made.choose()
    return made


def hear(routes: RouteTable, via: bytes, name: bytes, metric: int, *, seqno: int = 1, hops: int = 1) -> set[bytes]:
    assert routes.hear(via, Route(name, seqno, metric, hops), HOLD)
    return routes.choose()


def told(routes: RouteTable, to: bytes, names: list[bytes] | None = None, now: float = 0.0) -> dict[bytes, Route]:
    return {route.name: route for route in routes.tell(to, names, now)}


def test_sequence_numbers_wrap_around() -> None:
    assert newer(1, 0)
    assert not newer(0, 0)
    assert not newer(0, 1)
    assert newer(0, 0xFFFF)
    assert newer(0x7FFF, 0)
    assert not newer(0x8000, 0)


def test_costs_and_links_add_up() -> None:
    routes = table(a=10_000)
    assert hear(routes, A, D, 5000) == {D}
    assert routes.chosen[D] == (A, 1, 15_000, 2)
    assert told(routes, B)[D] == Route(D, 1, 15_000, 2)
    assert told(routes, B)[A] == Route(A, 1, 10_000, 1)
    assert told(routes, B)[US] == Route(US, 0, 0, 0)


def test_nothing_is_told_to_whom_it_came_from_or_whom_it_is_about() -> None:
    routes = table(a=1, b=1)
    hear(routes, A, D, 5)
    assert told(routes, A).keys() == {US, B}
    assert told(routes, D).keys() == {US, A, B}
    assert told(routes, A, [D])[D].metric == INFINITY, "it must not be led back"


def test_a_path_has_so_many_links_at_most() -> None:
    routes = table(a=1)
    hear(routes, A, C, 5, hops=2)
    hear(routes, A, D, 5, hops=3)
    assert routes.chosen.keys() == {A, C}
    assert C not in told(routes, B), "it would be one too many there"
    assert table(1, a=1).chosen.keys() == {A}


def test_the_shorter_way_is_taken_with_some_inertia() -> None:
    routes = table(a=10_000, b=10_000)
    hear(routes, A, D, 20_000)
    assert hear(routes, B, D, 17_000) == set(), "not much better"
    assert hear(routes, B, D, 5_000) == {D}
    assert routes.chosen[D].via == B
    hear(routes, A, D, 4_000)
    assert routes.chosen[D].via == B


def test_a_small_change_of_a_metric_is_not_news() -> None:
    routes = table(a=1000)
    hear(routes, A, D, 100_000)
    assert hear(routes, A, D, 120_000) == set()
    assert routes.chosen[D].metric == 121_000
    assert hear(routes, A, D, 300_000) == {D}


def test_a_link_to_the_node_itself_is_taken_before_all_else() -> None:
    """Also with a sequence number that is older than what others claim."""
    routes = table(a=1, d=50_000)
    hear(routes, A, D, 1, seqno=9000)
    assert routes.chosen[D].via == D
    routes.drop_link(D)
    assert routes.choose() == {D}
    told(routes, B)
    routes.set_link(D, 50_000)
    routes.hear(D, Route(D, 1, 0, 0), HOLD)
    assert routes.choose() == {D}
    assert routes.chosen[D].via == D


def test_only_what_is_nearer_than_anything_that_was_told_is_feasible() -> None:
    routes = table(a=10, b=10)
    hear(routes, A, D, 100)
    assert told(routes, C)[D].metric == 110
    hear(routes, B, D, 110)
    routes.drop_link(A)
    assert routes.choose() == {A, D}
    assert D not in routes.chosen, "b may have it from here"
    assert told(routes, C, [D])[D].metric == INFINITY
    assert routes.starving() == [(Want(D, 2, 3), [B])]
    assert hear(routes, B, D, 109) == {D}
    assert routes.chosen[D] == (B, 1, 119, 2)
    assert routes.starving() == []
    assert told(routes, C)[D].metric == 119
    assert hear(routes, B, D, 115) == {D}, "110 is the best that was told"
    assert hear(routes, B, D, 500, seqno=2) == {D}
    assert routes.chosen[D].metric == 510


def test_a_retraction_is_taken_at_once_and_another_way_if_there_is_one() -> None:
    routes = table(a=10, b=10)
    hear(routes, A, D, 100)
    hear(routes, B, D, 90)
    assert routes.chosen[D].via == A
    told(routes, C)
    assert hear(routes, A, D, INFINITY) == {D}
    assert routes.chosen[D].via == B


def test_what_is_not_told_again_is_forgotten() -> None:
    routes = table(a=10)
    hear(routes, A, D, 100)
    told(routes, C, now=0.0)
    routes.sweep(HOLD)
    assert routes.choose() == {A, D}
    assert routes.chosen == {}
    routes.hear(A, Route(D, 1, 500, 1), 2 * DISTANCE_TIME)
    assert routes.choose() == set(), "farther than what was told"
    routes.sweep(DISTANCE_TIME - 1)
    assert routes.choose() == set()
    routes.sweep(DISTANCE_TIME)
    assert routes.choose() == {D}


def test_requests_raise_the_own_number_or_are_passed_on_towards_the_node() -> None:
    routes = table(a=10, b=10, c=10)
    assert routes.answer(Want(US, 700, 3), A) is None
    assert routes.seqno == 700
    assert routes.answer(Want(US, 5, 3), A) is None
    assert routes.seqno == 700
    hear(routes, B, D, 5)
    hear(routes, C, D, 3)
    assert routes.answer(Want(D, 1, 3), A) is None, "what is known is new enough"
    assert routes.answer(Want(D, 2, 3), A) == C
    assert routes.answer(Want(D, 2, 3), C) == B, "not back to who has asked"
    assert routes.answer(Want(D, 2, 1), A) is None
    assert routes.answer(Want(b"nobody!!", 2, 3), A) is None


@pytest.mark.parametrize("route", [Route(D, 1, 0, 0), Route(A, 1, 5, 1)], ids=["another's", "its own"])
def test_nobody_but_a_node_itself_is_at_distance_zero(route: Route) -> None:
    assert not table(a=10).hear(A, route, HOLD)


def test_what_one_neighbour_can_say_is_bounded() -> None:
    routes = table(a=10)
    taken = sum(routes.hear(A, Route(b"%8d" % number, 1, 5, 1), HOLD) for number in range(5000))
    assert taken == 1023


class Net:
    """Tables that tell each other over lines with delay and loss; after each event nothing may lead in a circle."""

    def __init__(self, seed: int, size: int, max_hops: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.names = [b"node %3d" % number for number in range(size)]
        self.tables = {name: RouteTable(name, max_hops, HOLD, self.random.randrange(65536)) for name in self.names}
        self.queue: list = []
        self.serial = count()
        self.loss = 0.1
        self.messages = 0
        for name in self.names:
            self.later(self.random.random() * 5, self.periodic, name)

    def later(self, delay, what, *args) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.serial), what, args))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.queue and self.queue[0][0] <= end:
            self.now, _, what, args = heapq.heappop(self.queue)
            what(*args)
            self.check()
        self.now = end

    def check(self) -> None:
        for dest in self.names:
            for start in self.names:
                at, seen = start, set()
                while at != dest and dest in self.tables[at].chosen:
                    assert at not in seen, (self.now, start, dest)
                    seen.add(at)
                    at = self.tables[at].chosen[dest].via

    def send(self, source, to, names) -> None:
        routes = self.tables[source].tell(to, names, self.now)
        self.messages += 1
        if self.random.random() >= self.loss:
            self.later(self.random.random() * 0.5, self.arrive, source, to, routes, [])

    def arrive(self, source, to, routes, wants) -> None:
        routing = self.tables[to]
        if source not in routing.links:
            return
        for route in routes:
            assert routing.hear(source, route, self.now + HOLD)
        for want in wants:
            onward = routing.answer(want, source)
            if onward is None:
                self.send(to, source, [want.name])
            else:
                self.later(0.1, self.arrive, to, onward, [], [want._replace(hops=want.hops - 1)])
        self.look(to)

    def look(self, name) -> None:
        routing = self.tables[name]
        news = routing.choose()
        for neighbour in routing.links if news else ():
            self.send(name, neighbour, sorted(news))

    def periodic(self, name) -> None:
        routing = self.tables[name]
        routing.sweep(self.now)
        self.look(name)
        for neighbour in routing.links:
            self.send(name, neighbour, None)
        for want, vias in routing.starving():
            for via in vias:
                self.later(0.1, self.arrive, name, via, [], [want])
        self.later(10.0, self.periodic, name)

    def link(self, one, other, cost) -> None:
        for here, there in ((one, other), (other, one)):
            new = there not in self.tables[here].links
            if cost is None:
                self.tables[here].drop_link(there)
            else:
                self.tables[here].set_link(there, cost)
            self.look(here)
            if new and cost is not None:
                self.send(here, there, None)


@pytest.mark.parametrize("seed", range(12))
def test_no_loop_ever_forms_and_all_is_found_in_the_end(seed: int) -> None:
    net = Net(seed, 6, 16)
    random = net.random
    pairs = [(one, other) for one in net.names for other in net.names if one < other]
    for _ in range(120):
        one, other = random.choice(pairs)
        net.link(one, other, random.choice([None, random.randrange(1, 50_000), random.randrange(1, 2000)]))
        net.check()
        net.run(random.choice([0.1, 1.0, 5.0]))
    if seed % 3 == 0:  # one is started anew, with another number
        name = random.choice(net.names)
        old = net.tables[name]
        net.tables[name] = RouteTable(name, 16, HOLD, random.randrange(65536))
        for neighbour, cost in old.links.items():
            net.tables[neighbour].drop_link(name)
            net.link(name, neighbour, cost)
    net.loss = 0.0
    net.run(60)
    for start in net.names:
        reached, todo = {start}, [start]
        while todo:
            found = net.tables[todo.pop()].links.keys() - reached
            reached |= found
            todo += found
        assert net.tables[start].chosen.keys() == reached - {start}, seed


def test_nobody_counts_to_infinity() -> None:
    """A node that is gone is given up as fast as the news travels: no metric grows on the way."""
    net = Net(1, 4, 16)
    net.loss = 0.0
    a, b, c, d = net.names
    for one, other in ((a, b), (b, c), (a, c), (c, d)):
        net.link(one, other, 1000)
    net.run(30)
    assert all(d in net.tables[name].chosen for name in (a, b, c))
    worst = max(net.tables[name].chosen[d].metric for name in (a, b, c))
    before = net.messages
    net.link(c, d, None)
    seen = []
    for _ in range(30):
        net.run(0.1)
        seen += [net.tables[name].chosen[d].metric for name in (a, b, c) if d in net.tables[name].chosen]
    assert all(metric <= 2 * worst for metric in seen)
    assert not any(d in net.tables[name].chosen for name in (a, b, c))
    assert net.messages - before <= 30
