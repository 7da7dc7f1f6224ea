"""Links: what happens to datagrams between two devices, one `Pipe` for each direction.

Order of events in a pipe: blocked or down -> MTU -> bounded queue and rate -> loss -> delay and jitter -> reordering ->
corruption -> duplication. What is lost has used the line before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from ltunnel.testing.datagrams import Fate, Packet

if TYPE_CHECKING:
    from ltunnel.testing.network import Device

Direction = Literal["up", "down", "both"]
"""Of a link: up is from the child to the parent, towards the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GilbertElliott:
    """Loss in bursts: a two-state Markov chain that moves once per datagram.

    E. N. Gilbert, "Capacity of a Burst-Noise Channel", BSTJ 39 (1960); E. O. Elliott, BSTJ 42 (1963). Probabilities are
    0 to 1; the chain starts in the good state.
    """

    to_bad: float
    to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    def __post_init__(self) -> None:
        for name in ("to_bad", "to_good", "loss_good", "loss_bad"):
            _share(name, getattr(self, name))
        if self.to_bad + self.to_good == 0:
            raise ValueError("a chain that never moves: to_bad and to_good are both 0")

    @property
    def mean(self) -> float:
        """Share of datagrams lost in the long run."""
        bad = self.to_bad / (self.to_bad + self.to_good)
        return bad * self.loss_bad + (1 - bad) * self.loss_good


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good a link is in one direction. Times in seconds, shares 0 to 1. The default is a perfect link."""

    delay: float = 0.0
    jitter: float = 0.0
    """Up to this much more delay, uniformly; jitter alone keeps the order."""
    loss: float | GilbertElliott = 0.0
    """Share lost, each datagram by itself; or a model for bursts."""
    reorder: float = 0.0
    """Share held back by up to `hold`, so that later ones overtake."""
    duplicate: float = 0.0
    """Share that arrives twice, the second up to `hold` later."""
    corrupt: float = 0.0
    """Share in which one bit is flipped, as by somebody on the path; chance is found out by UDP's checksum."""
    hold: float = 0.02
    rate: float | None = None
    """Bits per second; None for no limit."""
    queue: int = 100_000
    """Bytes that may wait for a line with a `rate`; what does not fit is dropped."""
    mtu: int = 65_535
    """Largest IP packet; larger ones are dropped without a word (a black hole)."""

    def __post_init__(self) -> None:
        for name in ("reorder", "duplicate", "corrupt"):
            _share(name, getattr(self, name))
        if not isinstance(self.loss, GilbertElliott):
            _share("loss", self.loss)
        if min(self.delay, self.jitter, self.hold, self.queue) < 0 or self.mtu <= 0:
            raise ValueError("delay, jitter, hold and queue must not be negative, mtu must be positive")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate must be positive; to stop a link, block it or take it down")


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a share, 0 to 1, not {value}")


class Pipe:
    """One direction of a link."""

    def __init__(self, name: str, quality: Quality, target: Device, link: Link) -> None:
        self.name = name
        self.quality = quality
        """May be replaced at any time; what is on its way is not affected."""
        self.blocked = False
        """Drops what enters; what is on its way still arrives."""
        self.sent = 0
        self.duplicated = 0
        self.reordered = 0
        self.corrupted = 0
        self.fates: Counter[Fate] = Counter()
        self._target = target
        self._link = link
        self._network = target.network
        self._random = self._network.random(name)
        self._bad = False  # state of the burst model
        self._free_at = 0.0  # when the line has sent all that waits
        self._last_arrival = 0.0
        self._generation = 0  # what was sent in an earlier one is gone

    def send(self, packet: Packet) -> None:
        """Let a packet enter."""
        quality, now = self.quality, self._network.clock.now
        self.sent += 1
        if not self._link.is_up:
            return self._end(packet, Fate.DOWN)
        if self.blocked:
            return self._end(packet, Fate.BLOCKED)
        if packet.size > quality.mtu:
            return self._end(packet, Fate.TOO_BIG)
        departure = now
        if quality.rate is not None:
            start = max(now, self._free_at)
            waiting = round((start - now) * quality.rate / 8)
            if waiting and waiting + packet.size > quality.queue:
                return self._end(packet, Fate.QUEUE_FULL)
            departure = self._free_at = start + packet.size * 8 / quality.rate
        if self._loses(quality.loss):
            return self._end(packet, Fate.LOST)
        arrival = departure + quality.delay + self._upto(quality.jitter)
        if quality.reorder and self._random.random() < quality.reorder:
            self.reordered += 1
            arrival += self._upto(quality.hold)
        else:
            arrival = self._last_arrival = max(arrival, self._last_arrival)
        if quality.corrupt and packet.payload and self._random.random() < quality.corrupt:
            self.corrupted += 1
            packet = self._flip(packet)
        self._plan(packet, arrival)
        if quality.duplicate and self._random.random() < quality.duplicate:
            self.duplicated += 1
            self._plan(packet, arrival + self._upto(quality.hold))
        return None

    def lose_in_flight(self) -> None:
        """Lose what is on its way."""
        self._generation += 1
        self._free_at = 0.0

    def _flip(self, packet: Packet) -> Packet:
        damaged = bytearray(packet.payload)
        damaged[self._random.randrange(len(damaged))] ^= 1 << self._random.randrange(8)
        return replace(packet, payload=bytes(damaged))

    def _plan(self, packet: Packet, arrival: float) -> None:
        generation = self._generation
        self._network.at(arrival, lambda: self._arrive(packet, generation))

    def _arrive(self, packet: Packet, generation: int) -> None:
        if generation != self._generation:
            self._end(packet, Fate.DOWN)
        else:
            self._end(packet, Fate.DELIVERED)
            self._target.receive(packet, self._link)

    def _end(self, packet: Packet, fate: Fate) -> None:
        self.fates[fate] += 1
        self._network.record(self.name, fate, packet)

    def _upto(self, seconds: float) -> float:
        return self._random.uniform(0, seconds) if seconds else 0.0

    def _loses(self, loss: float | GilbertElliott) -> bool:
        if isinstance(loss, GilbertElliott):
            if self._random.random() < (loss.to_good if self._bad else loss.to_bad):
                self._bad = not self._bad
            loss = loss.loss_bad if self._bad else loss.loss_good
        return loss > 0 and self._random.random() < loss


class Link:
    """Joins a device to the one above it."""

    def __init__(self, child: Device, parent: Device, *, down: Quality, up: Quality) -> None:
        self.child = child
        self.parent = parent
        self.is_up = True
        self.up = Pipe(f"{child.name}>{parent.name}", up, parent, self)
        """From the child to the parent."""
        self.down = Pipe(f"{parent.name}>{child.name}", down, child, self)
        """From the parent to the child."""

    def __str__(self) -> str:
        return f"{self.child.name}<>{self.parent.name}"

    def send(self, sender: Device, packet: Packet) -> None:
        """Let a packet enter at one end."""
        (self.up if sender is self.child else self.down).send(packet)

    def block(self, direction: Direction = "both") -> None:
        """Drop what enters from now on; what is on its way still arrives."""
        for pipe in self._pipes(direction):
            pipe.blocked = True

    def unblock(self, direction: Direction = "both") -> None:
        """Undo `block`."""
        for pipe in self._pipes(direction):
            pipe.blocked = False

    def take_down(self) -> None:
        """Pull the cable: what is on its way is lost too."""
        self.is_up = False
        for pipe in (self.up, self.down):
            pipe.lose_in_flight()

    def bring_up(self) -> None:
        """Undo `take_down`."""
        self.is_up = True

    def change(self, direction: Direction = "both", **quality: Any) -> None:
        """Change fields of the `Quality`: ``link.change(loss=0.3)``, ``link.change("up", delay=0.2)``."""
        for pipe in self._pipes(direction):
            pipe.quality = replace(pipe.quality, **quality)

    def _pipes(self, direction: Direction) -> Iterable[Pipe]:
        return (self.up, self.down) if direction == "both" else (self.up if direction == "up" else self.down,)
