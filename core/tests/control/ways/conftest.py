"""Two nodes that talk, with a hub; a policy and a search that a test can look into."""

from collections.abc import Mapping, Sequence

import pytest

from ltunnel.plugin import NextHop, PathClass, PathView

UDP = 0
RELAY = 1


class Nearest:
    """The smallest class, then what answers, then the fastest."""

    def __init__(self) -> None:
        self.seen: list[Sequence[PathView]] = []

    def decide(self, paths: Sequence[PathView], now: float) -> Mapping[bytes, NextHop]:
        self.seen.append(paths)
        best: dict[bytes, PathView] = {}
        for path in sorted(paths, key=lambda path: (path.path_class, path.suspect, path.rtt, path.number)):
            best.setdefault(path.peer, path)
        return {
            peer: NextHop(number=path.number, via=path.via, path_class=path.path_class, reason="nearest")
            for peer, path in best.items()
        }


class Seeker:
    def __init__(self) -> None:
        self.sought: list[float] = []
        self.found: list = []

    def seek(self, session, now: float) -> None:
        self.sought.append(now)

    def answered(self, session, transport, address, now) -> None:
        self.found.append((transport, address))

    def relay_changed(self, now: float) -> None:
        pass

    def ended(self, session, now: float) -> None:
        self.over = session


class Pair:
    """Two nodes that talk, with a hub, and what a test does with them."""

    def __init__(self, net, **changes) -> None:
        self.net = net
        self.hub = net.hub()
        self.policy = changes.pop("routing", Nearest())
        """That of a."""
        self.a = net.node("a", "10.0.0.2/24", relay=True, routing=self.policy, **changes)
        self.b = net.node("b", "10.0.0.3/24", relay=True, routing=Nearest(), **changes)
        self.ends = (self.a, self.b)
        self.talking = True
        self.payload = b"data"
        net.run(0.5)
        self.talk(1)
        assert self.kind(self.a) == self.kind(self.b) == "hub"

    def other(self, host):
        return self.b if host is self.a else self.a

    def key(self, host) -> bytes:
        return self.other(host).settings.identity.public

    def peer(self, host):
        return host.peers[self.key(host)]

    def session(self, host):
        return host.control.session_with(self.key(host))

    def ways(self, host):
        return host.control._ways

    def add_seeker(self, host) -> Seeker:
        seeker = self.ways(host).seeker = Seeker()
        return seeker

    def restart_b(self) -> None:
        """Kill the program and start it again, at the same address."""
        self.net.kill(self.b)
        self.talk(1, who=[self.a])
        self.b = self.net.node("b", "10.0.0.3/24", relay=True, routing=Nearest(), flow=self.b.flow)
        self.ends = (self.a, self.b)
        self.net.run(0.5)

    def paths(self, host) -> list[dict]:
        return host.control.paths(self.peer(host), self.net.now)

    def path(self, host, endpoint: str) -> dict | None:
        return next((path for path in self.paths(host) if path["endpoint"] == endpoint), None)

    def kind(self, host) -> str:
        (used,) = [path for path in self.paths(host) if path["used"]]
        assert self.peer(host).path.transport == (RELAY if used["class"] == "hub" else UDP)
        return used["class"]

    def talk(self, seconds: float, *, until=None, step: float = 0.05, who=None) -> bool:
        """Both send a packet every `step` seconds, which the other side gets; stop when `until` holds."""
        end = self.net.now + seconds
        while self.net.now < end and not (until is not None and until()):
            for host in self.ends if who is None else who:
                peer = host.peers.get(self.key(host))
                if host.send(str(self.other(host).settings.addresses[0].ip), self.payload):
                    peer.stats.tx_packets += 1
                    peer.stats.tx_bytes += len(self.payload)
                elif peer is not None:
                    host.control.want(peer, self.net.now)
                    self.net.drain(host)
            self.net.run(step)
        return until is not None and bool(until())

    def probe(self, host, address=None, kind: PathClass = PathClass.PUBLIC) -> None:
        """What discovery does."""
        self.ways(host).probe(self.session(host), UDP, address or self.other(host).flow, kind, self.net.now)
        self.net.drain(host)

    def go_direct(self) -> None:
        self.probe(self.a)
        assert self.talk(2, until=lambda: self.kind(self.a) == self.kind(self.b) == "public")

    def sent_to(self, host, since: float) -> list[bytes]:
        """Datagrams that anybody sent straight to a host."""
        return [data for when, _, to, _, data in self.net.log if to == host.name and when >= since]


@pytest.fixture
def make_pair(net):
    return lambda on=net, **changes: Pair(on, **changes)


@pytest.fixture
def pair(make_pair):
    return make_pair()


@pytest.fixture
def direct(pair):
    pair.go_direct()
    return pair
