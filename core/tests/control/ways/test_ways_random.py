"""Whatever happens to two nodes for minutes, in whatever order: when it is over they are on the direct path again."""

from random import Random

import pytest

from ltunnel.control.timers import Timer
from ltunnel.control.way import CARRIES, WayState
from ltunnel.plugin import PathClass

UDP = 0


class Storm:
    """Things that happen to a pair."""

    def __init__(self, pair, seed: int) -> None:
        self.pair, self.net, self.random = pair, pair.net, Random(seed)
        self.bindings = pair.hub.control.bindings
        self.ports = 40000

    def step(self) -> None:
        self.random.choice((
            self.wall, self.wall, self.open, self.lose, self.narrow, self.move, self.search, self.mislead, self.hub,
            self.change_network,
        ))()  # fmt: skip

    def wall(self) -> None:
        self.net.walls = set(self.random.sample([("a", "b"), ("b", "a")], self.random.randint(1, 2)))

    def open(self) -> None:
        self.net.walls = set()

    def lose(self) -> None:
        self.net.loss = self.random.choice((0, 0.05, 0.3))

    def narrow(self) -> None:
        self.net.largest = self.random.choice((65_535, 1272, 900))

    def move(self) -> None:
        host = self.random.choice(self.pair.ends)
        self.ports += 1
        host.flow = (host.flow[0], self.ports)

    def search(self) -> None:
        self.probe(self.random.choice(self.pair.ends))

    def mislead(self) -> None:
        self.probe(self.pair.a, ("203.0.113.250", self.random.randrange(1, 9)))

    def hub(self) -> None:
        if self.pair.hub.alive:
            self.net.kill(self.pair.hub)
        else:
            self.pair.hub = self.net.hub(bindings=self.bindings)

    def change_network(self) -> None:
        host = self.random.choice(self.pair.ends)
        host.control.network_changed(self.net.now)
        self.net.drain(host)

    def probe(self, host, address=None) -> None:
        if self.pair.session(host) is not None:
            self.pair.probe(host, address, self.random.choice((PathClass.PUBLIC, PathClass.LAN)))

    def calm(self) -> None:
        self.net.walls, self.net.loss, self.net.largest = set(), 0, 65_535
        if not self.pair.hub.alive:
            self.hub()

    def check(self) -> None:
        """What holds always."""
        for host in self.pair.ends:
            for table in self.pair.ways(host).tables.values():
                way, peer = table.current, table.peer
                assert peer.path is way.path
                assert way is table.relay or way in table.ways.values()
                assert way is table.relay or way.proved
                assert way is table.relay or way.path.budget is None
                usable = [other for other in table.all if other.usable]
                assert way.state in CARRIES or not usable, "a dead path, and there is a better one"
                assert 0 < peer.mtu <= 1400
                assert len(table.ways) <= 16
                timers = self.pair.ways(host)._ctx.timers
                for other in table.ways.values():
                    assert timers.when(Timer.WAY, other) is not None, "nobody looks after it"
                    assert other.state is not WayState.PROBING or not other.proved


@pytest.mark.parametrize("seed", range(12))
def test_after_the_storm(make_net, make_pair, seed):
    pair = make_pair(make_net(seed))
    storm = Storm(pair, seed)
    pair.go_direct()
    for _ in range(60):
        storm.step()
        pair.talk(storm.random.uniform(0.2, 6), step=0.2)
        storm.check()
    storm.calm()
    pair.talk(
        90, step=0.5, until=lambda: all(host.control.state == "up" for host in pair.ends) and pair.session(pair.a)
    )
    pair.talk(5, step=0.5)
    for _ in range(12):
        storm.check()
        for host in pair.ends:
            storm.probe(host)
        if pair.talk(10, step=0.5, until=lambda: {pair.kind(host) for host in pair.ends} <= {"public", "lan"}):
            break
    else:
        raise AssertionError([pair.paths(host) for host in pair.ends])
    before = [len(host.got) for host in pair.ends]
    pair.talk(20, step=0.2)
    assert all(len(host.got) > count + 80 for host, count in zip(pair.ends, before, strict=True))
