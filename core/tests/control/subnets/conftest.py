"""A machine's networks behind others, without the others."""

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from ltunnel.control import Role
from ltunnel.control.context import Context
from ltunnel.control.flows import describe_endpoint
from ltunnel.control.session import Session
from ltunnel.control.subnets import Subnets
from ltunnel.control.timers import Timer
from ltunnel.session import Path, Peer

ALL = ("0.0.0.0/0", "::/0")
TUNNEL = ("10.0.0.1/24", "fd00::1/64")


class Place:
    """A machine's networks, and what is around them."""

    def __init__(self, base, role=Role.NODE, accept=ALL, routes=(), tunnel=TUNNEL) -> None:
        changes = {
            "addresses": tuple(map(ip_interface, tunnel)),
            "accept_routes": tuple(map(ip_network, accept)),
            "routes": tuple(map(ip_network, routes)),
        }
        self.now = 1000.0
        self.ctx = Context(base("here", role, "10.0.0.1/24", **changes), bytes, 0.0, describe_endpoint, ("udp",), None)
        self.subnets = Subnets(self.ctx)
        self.subnets.follower = self
        self.told: list[list[str]] = []
        self.peers: dict[str, Peer] = {}

    def networks_changed(self, peers, now) -> None:
        self.told.append([peer.name for peer in peers])

    def peer(self, name: str) -> Peer:
        if name not in self.peers:
            peer = self.peers[name] = Peer(name.encode() * 32, name)
            self.ctx.fib.set(peer)
        return self.peers[name]

    def offer(self, name: str, *networks) -> None:
        self.subnets.offer(self.peer(name), map(ip_network, networks))
        self.subnets.settle(self.now)

    def meet(self, name: str, where: str) -> Session:
        """Have a session with a machine at an outer address."""
        session = self.ctx.sessions[self.peer(name).key] = Session(self.peer(name))
        self.move(name, where)
        return session

    def move(self, name: str, where: str, budget: int | None = None) -> None:
        self.peer(name).path = Path(0, (where, 9000), budget)
        self.subnets.settle(self.now, self.peer(name).path)

    def wait(self, seconds: float) -> None:
        """Let time pass, timers too."""
        end = self.now + seconds
        while (when := self.ctx.timers.next()) is not None and when <= end:
            self.now = when
            for key in self.ctx.timers.due(when):
                assert key == (Timer.NETWORKS, self.subnets)
                assert self.ctx.timers.take(key, when)
                self.subnets.look(when)
        self.now = end

    def owner(self, address: str) -> str | None:
        peer = self.ctx.fib.lookup(ip_address(address).packed)
        return None if peer is None else peer.name

    @property
    def taken(self) -> list[str]:
        return list(map(str, self.subnets.taken))

    @property
    def refused(self) -> list[tuple[str, str, str]]:
        return [(str(network), peer.name, reason) for network, peer, reason in self.subnets.refused]

    def events(self) -> list[str]:
        """What was told since the last time."""
        told = [event.name for event in self.ctx.events]
        self.ctx.events.clear()
        return told


@pytest.fixture
def make_place(net):
    return lambda *args, **changes: Place(net.settings, *args, **changes)


@pytest.fixture
def place(make_place):
    return make_place()


@pytest.fixture
def hub(make_place):
    return make_place(Role.HUB)
