"""Search for the largest packet that a path carries, by padded probes alone (RFC 8899; nothing here reads ICMP).

    ceiling carried ─► done
    ceiling lost ─► base ─► halve the gap between carried and lost until it is small ─► done, again after 10 minutes
    carried no more (a black hole) ─► base at once, and the search from there

Sizes are bytes of inner packets. Pure: the caller sends the probes, and says what became of them.
"""

from __future__ import annotations

TRIES = 3
"""So many unanswered probes of a size, while small ones are answered, show that it does not fit (MAX_PROBES)."""
LADDER = (1280, 1150, 576)
"""What is tried after the ceiling: what IPv6 in the tunnel needs, what fits any link that carries IPv6 outside
(BASE_PLPMTU, 1200 bytes of datagram), what IPv4 needs."""
NEAR = 16
"""The search ends when it is known so well."""
RAISE = 600.0
"""Seconds after which a larger size is tried again (PMTU_RAISE_TIMER)."""


class PathMtu:
    """The search over one path. `ceiling` is the most that the peer takes.

    `assumed`: it is used until probes say otherwise; otherwise nothing is, until a probe was answered.
    """

    __slots__ = ("_done", "_lost", "_misses", "_proved", "ceiling", "size")

    def __init__(self, ceiling: int, *, assumed: bool = False) -> None:
        self.ceiling = ceiling
        self.size = ceiling if assumed else 0
        """What may be sent; 0 while nothing is known."""
        self._proved = 0
        """The largest size that was carried; 0 also while a fall to a base is not confirmed."""
        self._lost = ceiling + 1
        """The smallest size known not to be carried."""
        self._misses = 0
        self._done: float | None = None  # when the search ended

    def wanted(self, now: float) -> int | None:
        """Return the size to probe next, None while the search rests."""
        if self._done is not None:
            if self._proved >= self.ceiling or now - self._done < RAISE:
                return None
            self._done, self._lost = None, self.ceiling + 1
        if not self._proved:
            return self.size or next((size for size in (self.ceiling, *LADDER) if size < self._lost), self.ceiling)
        if self._lost > self.ceiling:
            return self.ceiling
        return (self._proved + self._lost) // 2

    def carried(self, size: int, now: float) -> None:
        """Take note that a probe of this size was answered."""
        self._misses = 0
        size = min(size, self.ceiling)
        if size <= self._proved:
            return
        self._proved = size
        self.size = max(self.size, size)
        self._lost = max(self._lost, size + 1)
        if size >= self.ceiling or self._lost - size <= NEAR:
            self._done = now

    def missed(self, size: int, now: float) -> bool:
        """Take note that a probe of this size was not answered though the path works; True if `size` falls by it."""
        self._misses += 1
        if self._misses < TRIES:
            return False
        self._misses = 0
        self._lost = min(self._lost, size)
        falls = size <= self.size
        if falls:  # what was carried is carried no more: the next lower base holds until a probe says otherwise
            self._done, self._proved = None, 0
            self.size = next((base for base in LADDER[1:] if base < size), 0)
        if (self._proved and self._lost - self._proved <= NEAR) or size <= LADDER[-1]:
            self._done = now
        return falls

    @property
    def in_doubt(self) -> bool:
        """Whether a probe was missed, so that the next one should follow at once."""
        return self._misses > 0

    def forget(self) -> None:
        """Begin anew: the path may have become another one."""
        self.size = self._proved = self._misses = 0
        self._lost = self.ceiling + 1
        self._done = None
