"""Worlds with the first-party plugins in them; others with several transports and walls that shut some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest

import ltunnel_crypto_aesgcm
import ltunnel_crypto_plain
import ltunnel_transport_udp
from ltunnel.plugin import (
    Address,
    Buffer,
    Endpoint,
    NoOptions,
    Port,
    PortKind,
    PortSpec,
    TransportContext,
    TransportDescriptor,
)
from ltunnel.testing import Fate, Link, Network, Packet, Pings, Quality, Router, SimNode, World

MakeWorld = Callable[..., World]
UDP = "transport_udp"
FAST = Quality(delay=0.02)


def build_world(seed: int | str = 1, *, plain: bool = False, **settings: Any) -> World:
    """Return an empty world on UDP and AES-GCM, or without encryption."""
    cipher = ltunnel_crypto_plain if plain else ltunnel_crypto_aesgcm
    return World({UDP: ltunnel_transport_udp.ltunnel_transport()}, cipher.ltunnel_cipher(), seed, **settings)


@pytest.fixture
def make_world() -> MakeWorld:
    """Return `build_world`."""
    return build_world


# -------------------------------------------------------------------- a second and a third transport

HELLO, WELCOME, CARRY = b"\xf0", b"\xf1", b"\xf2"
PORTS = {UDP: 9000, "transport_second": 9001, "transport_third": 9002}
"""Where a hub listens."""


@dataclass(eq=False)
class KnockFlow:
    """A far end. On a node it is the same for one address until it is closed."""

    to: Endpoint
    is_open: bool = False
    knocked: float = float("-inf")
    asked: float | None = None
    """When something was sent, if nothing came since."""


@dataclass
class KnockTransport:
    """Datagrams on a port of its own, after a handshake of one round trip; a node that hears nothing knocks again.

    As with a fake TCP connection: what is sent before the handshake is done is dropped, and a hub that was restarted
    does not know the flows that were.
    """

    port: Port
    offset: int
    listens: bool
    counts: Counter[str]
    prefix: int = 1
    flows: dict[Endpoint, KnockFlow] = field(default_factory=dict)

    @property
    def ports(self) -> Sequence[Port]:
        return (self.port,)

    def connect(self, remote: Address, now: float) -> KnockFlow:
        to = (remote[0], remote[1] + self.offset)
        if to not in self.flows:
            self.counts["connect"] += 1
            self.flows[to] = KnockFlow(to)
            self._knock(self.flows[to], now)
        return self.flows[to]

    def send(self, flow: KnockFlow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        if self.flows.get(flow.to) is not flow:
            return False
        if not self.listens:
            if not flow.is_open:
                self._knock(flow, now)
                return False
            if flow.asked is not None and now - flow.asked >= 5.0:
                self._knock(flow, now)
        if flow.asked is None:
            flow.asked = now
        for at in range(start, end, seg):
            buf[at : at + 1] = CARRY
        return self.port.send(buf, start, end, seg, flow.to)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[KnockFlow | None, int, int, int]:
        start, end, seg, source = port.recv(buf, pos)
        last = start + max(0, end - start - 1) // max(seg, 1) * seg
        if end - last == 1 and bytes(buf[last:end]) in (HELLO, WELCOME):  # what is shorter comes last in a batch
            self._take_knock(bytes(buf[last:end]), source)
            end = last
        flow = self.flows.get(source)
        if flow is None or not flow.is_open or end == start or bytes(buf[start : start + 1]) != CARRY:
            return flow, start, start, 0
        flow.asked = None
        return flow, start, end, seg

    def _take_knock(self, kind: bytes, source: Endpoint) -> None:
        if self.listens and kind == HELLO:
            self.flows.setdefault(source, KnockFlow(source, is_open=True))
            self._say(WELCOME, source)
        elif kind == WELCOME and source in self.flows:
            self.flows[source].is_open, self.flows[source].asked = True, None

    def describe(self, flow: KnockFlow) -> str:
        return f"{flow.to[0]}:{flow.to[1]}"

    def close(self, flow: KnockFlow, now: float) -> None:
        if self.flows.get(flow.to) is flow:
            self.counts["close"] += 1
            del self.flows[flow.to]

    def next_timeout(self) -> float | None:
        times = [flow.knocked + 1.0 for flow in self.flows.values() if not flow.is_open]
        return None if self.listens else min(times, default=None)

    def handle_timeout(self, now: float) -> None:
        for flow in self.flows.values():
            if not flow.is_open:
                self._knock(flow, now)

    def _knock(self, flow: KnockFlow, now: float) -> None:
        if now - flow.knocked >= 1.0 - 1e-9:
            flow.knocked = now
            self.counts["knock"] += 1
            self._say(HELLO, flow.to)

    def _say(self, what: bytes, to: Endpoint) -> None:
        self.port.send(memoryview(what), 0, 1, 1, to)


def knock_descriptor(name: str, counts: Counter[str]) -> TransportDescriptor:
    """Return a transport that knocks, on the port that `PORTS` names; a node's counts go to `counts`."""
    offset = PORTS[name] - PORTS[UDP]

    def ports(_options: Any, context: TransportContext) -> Sequence[PortSpec]:
        if context.listen is None:
            return (PortSpec(kind=PortKind.UDP, host="0.0.0.0", port=0),)
        host, port = context.listen
        return (PortSpec(kind=PortKind.UDP, host=host, port=port + offset),)

    def create(_options: Any, opened: Sequence[Port], context: TransportContext) -> KnockTransport:
        listens = context.listen is not None
        return KnockTransport(opened[0], offset, listens, Counter() if listens else counts)

    return TransportDescriptor(options=NoOptions, wire_name=name, overhead=9, ports=ports, create=create)


class Wall(Router):
    """A router that drops what goes to or comes from some of the hub's ports."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, name)
        self._shut: set[int] = set()
        self.passed: Counter[str] = Counter()
        """Datagrams by transport, both ways."""
        self.stopped: Counter[str] = Counter()

    def shut(self, *names: str) -> None:
        """Stop these transports, and only these, from now on."""
        self._shut = {PORTS[name] for name in names}

    def receive(self, packet: Packet, link: Link) -> None:
        port = next((end[1] for end in (packet.source, packet.destination) if end[1] in PORTS.values()), 0)
        name = next((name for name, number in PORTS.items() if number == port), "other")
        if port in self._shut:
            self.stopped[name] += 1
            self.drop(packet, Fate.FILTERED)
        else:
            self.passed[name] += 1
            super().receive(packet, link)


class Watch:
    """A stream of pings, and when its answers came."""

    def __init__(self, walled: Walled, interval: float, seconds: float) -> None:
        self.world = walled.world
        self.stream = Pings(walled.world, walled.node, walled.hub, interval=interval, count=int(seconds / interval))
        self.times = [self.world.now]
        self._seen = 0

    def run(self, seconds: float, until: Callable[[], object] = lambda: False) -> bool:
        """Let time pass, at most `seconds`, until something holds; whether it does."""
        end = self.world.now + seconds
        while self.world.now < end and not until():
            self.world.run(min(0.05, end - self.world.now))
            if self.stream.answered > self._seen:
                self._seen = self.stream.answered
                self.times.append(self.world.now)
        return bool(until())

    def longest(self, since: float = 0.0) -> float:
        """Return the longest gap that ended after `since`, or has not ended."""
        times = [*self.times, self.world.now]
        return max(after - before for before, after in pairwise(times) if after >= since)


class Walled:
    """A world with several transports, the preferred one first: a hub, and a node behind a wall."""

    def __init__(self, order: Sequence[str] = tuple(PORTS), *, seed: int | str = 1, shut: Sequence[str] = (),
                 quality: Quality = FAST, hub: Address | None = None) -> None:  # fmt: skip
        self.counts = {name: Counter[str]() for name in order}
        """Of a node's flows, by transport: connect, close, knock."""
        self.transports = {
            name: ltunnel_transport_udp.ltunnel_transport()
            if name == UDP
            else knock_descriptor(name, self.counts[name])
            for name in order
        }
        self.world = World(self.transports, ltunnel_crypto_aesgcm.ltunnel_cipher(), seed)
        self.hub = self.world.add_hub()
        self.wall = self.add_wall("wall", quality)
        self.wall.shut(*shut)
        self.node = self.world.add_node("node", behind=self.wall, hub=hub)

    def add_wall(self, name: str, quality: Quality = FAST) -> Wall:
        """Return a wall to put nodes behind."""
        wall = Wall(self.world.network, name)
        wall.attach(self.world.internet, quality)
        return wall

    def join(self) -> Walled:
        """Start everything and wait until it is connected."""
        self.world.start()
        assert self.world.run(10, until=self.world.all_up)
        return self

    @property
    def used(self) -> tuple[str, str]:
        """What the node uses, and what the hub uses towards it."""
        return used(self.node), used(self.hub)

    def is_by(self, name: str) -> bool:
        """Whether both sides use a transport."""
        return self.used == (name, name)

    def changes(self, machine: SimNode | None = None) -> list[str]:
        """Return the transports that a machine has gone over to, in order."""
        return [event.fields["to"] for _, event in (machine or self.node).happened("transport-changed")]

    def candidates(self) -> dict[str, str]:
        """Return the state of each candidate by its name, as status says."""
        return {way["transport"]: way["state"] for way in self.node.status()["peers"][0]["candidates"]}

    def open_flows(self, name: str) -> int:
        """Return how many flows of a transport the node has opened and not closed."""
        return self.counts[name]["connect"] - self.counts[name]["close"]

    def watch(self, interval: float, seconds: float) -> Watch:
        """Ping the hub from the node, from now on."""
        return Watch(self, interval, seconds)

    @contextmanager
    def same_session(self) -> Iterator[None]:
        """Within the context there is no handshake: keys stay, counters and replay windows go on."""
        assert self.node.node is not None
        assert self.hub.node is not None
        hub = self.node.node.control.hub
        assert hub is not None
        epoch = hub.epoch
        assert epoch is not None
        far = self.hub.node.control.sessions[epoch.remote_index]
        before = epoch.counter, epoch.window.top, far.counter, far.window.top
        joined = len(self.hub.happened("node-joined"))
        yield
        assert hub.epoch is epoch
        after = epoch.counter, epoch.window.top, far.counter, far.window.top
        assert all(new > old for old, new in zip(before, after, strict=True))
        assert len(self.hub.happened("node-joined")) == joined
        assert not self.node.happened("disconnected")


def used(machine: SimNode) -> str:
    """Return what a machine uses with its (first) peer."""
    return str(machine.status()["peers"][0]["transport"])


MakeWalled = Callable[..., Walled]


@pytest.fixture
def make_walled() -> MakeWalled:
    """Return `Walled`."""
    return Walled
