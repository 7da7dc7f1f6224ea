"""A bulk transfer that slows down at losses as TCP with CUBIC does (RFC 9438), inside the tunnel."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from ltunnel.testing import SimNode, World, packets
from ltunnel.testing.packets import ACK, SYN

SIZE = 1300
FIRST = 10
LEAST = 2.0
LATE = 0.016
"""Seconds by which a packet may be overtaken. Linux finds out by what it has sent again in vain."""
TIMEOUT = 0.25
BETA, CUBIC, RENO = 0.7, 0.4, 0.53
_TURN = 0.001
_PORT = 5001
_PACKET = Struct(">I")
_ANSWER = Struct(">II")  # what is missing next, what has come


class Bulk:
    """Packets from one node to another, as many under way as the window allows."""

    def __init__(self, world: World, source: SimNode, target: SimNode) -> None:
        self.arrived = 0
        """Packets that have come, each counted once."""
        self.cuts = 0
        """How often the window was made smaller."""
        self.window = float(FIRST)
        self._world, self._source, self._target = world, source, target
        self._seen = {node: len(node.tun.packets) for node in (source, target)}
        self._threshold = float("inf")
        self._most = 0.0
        self._since = 0.0
        self._trip = 0.1
        self._recovers = 0  # losses before this packet have been reacted to
        self._shortest = float("inf")
        self._quick: list[float] = []  # the last eight round trips
        self._next = 0
        self._flight: dict[int, float] = {}  # when each was sent last
        self._again: list[int] = []
        self._newest = 0.0  # when that was sent which was sent last of all that came
        self._progress = world.now
        self._missing = 0
        self._early: set[int] = set()
        self._open = False
        self._connect()
        self._turn()

    def rate(self, seconds: float) -> float:
        """Let time pass and return Mbit/s."""
        before = self.arrived
        self._world.run(seconds)
        return (self.arrived - before) * SIZE * 8 / seconds / 1e6

    def _turn(self) -> None:
        for answer in self._fresh(self._source):
            self._take(*_ANSWER.unpack_from(answer))
        self._look()
        for body in self._fresh(self._target):
            self._answer(_PACKET.unpack_from(body)[0])
        while self._open and len(self._flight) < int(self.window):
            self._send()
        self._world.network.at(self._world.now + _TURN, self._turn)

    def _fresh(self, node: SimNode) -> Iterable[bytes]:
        seen, self._seen[node] = self._seen[node], len(node.tun.packets)
        for parsed in map(packets.parse, node.tun.packets[seen:]):
            if parsed.dport == _PORT and parsed.flags & SYN:
                if node is self._source:
                    self._open, self._progress = True, self._world.now
                else:
                    self._inject(node, self._source, flags=SYN | ACK)
            elif parsed.dport == _PORT:
                yield parsed.payload

    def _connect(self) -> None:
        """Send a SYN, and another each second until it is answered."""
        if not self._open:
            self._inject(self._source, self._target, flags=SYN)
            self._world.network.at(self._world.now + 1, self._connect)

    def _send(self) -> None:
        number = self._again.pop(0) if self._again else self._next
        self._next = max(self._next, number + 1)
        self._flight[number] = self._world.now
        self._inject(self._source, self._target, _PACKET.pack(number) + bytes(SIZE - 4))

    def _answer(self, number: int) -> None:
        if number >= self._missing and number not in self._early:
            self.arrived += 1
            self._early.add(number)
        while self._missing in self._early:
            self._early.remove(self._missing)
            self._missing += 1
        self._inject(self._target, self._source, _ANSWER.pack(self._missing, number))

    @staticmethod
    def _inject(source: SimNode, target: SimNode, body: bytes = b"", flags: int = ACK) -> None:
        source.tun.inject(packets.tcp(source.inner(), target.inner(), _PORT, _PORT, body, flags=flags))

    def _take(self, missing: int, number: int) -> None:
        now = self._world.now
        done = [n for n in self._flight if n < missing or n == number]
        for n in done:
            sent = self._flight.pop(n)
            self._newest = max(self._newest, sent)
            self._progress = now
            if n == number:
                self._measure(now - sent)
        self._again = [n for n in self._again if n >= missing and n != number]
        if self.window < self._threshold:
            self.window += len(done)
        elif done:
            elapsed = now - self._since
            turn = (self._most * (1 - BETA) / CUBIC) ** (1 / 3)
            friendly = self._most * BETA + RENO * elapsed / self._trip
            target = max(friendly, CUBIC * (elapsed - turn) ** 3 + self._most)
            self.window += max(0.0, min(target - self.window, self.window / 2)) / self.window * len(done)

    def _measure(self, trip: float) -> None:
        """Take a round trip; end the slow start when all of the last eight are longer by an eighth (HyStart)."""
        self._trip += (trip - self._trip) / 8
        self._shortest = min(self._shortest, trip)
        self._quick = [*self._quick[-7:], trip]
        if len(self._quick) == 8 and min(self._quick) > self._shortest * 1.125 and self.window < self._threshold:
            self._threshold = self._most = self.window
            self._since = self._world.now

    def _look(self) -> None:
        """Find out what is lost: what was overtaken for too long, or all if nothing comes any more."""
        now = self._world.now
        lost = [n for n, sent in self._flight.items() if sent < self._newest - LATE]
        if not lost and self._flight and now - self._progress > TIMEOUT:
            lost, self._progress = list(self._flight), now
            self._cut(1 / self.window)
        elif any(n >= self._recovers for n in lost):
            self._cut(BETA)
        for n in lost:
            del self._flight[n]
        self._again = sorted({*self._again, *lost})

    def _cut(self, factor: float) -> None:
        self.cuts += 1
        self._most, self._since = self.window, self._world.now
        self._threshold = max(LEAST, self.window * BETA)
        self.window = max(LEAST, self.window * factor)
        self._recovers = self._next
