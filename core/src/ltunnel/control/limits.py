"""Bounded memory of what strangers do: token buckets per address, and the ephemeral keys that have been used."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable


class Bucket:
    """A token bucket: `rate` a second, at most `burst` at once."""

    __slots__ = ("_burst", "_rate", "_tokens", "_when")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._when = now

    def take(self, now: float) -> bool:
        """Take one token; False when there is none."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._when) * self._rate)
        self._when = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Buckets:
    """One bucket for each key, for the `limit` keys that were seen last."""

    __slots__ = ("_buckets", "_burst", "_limit", "_rate")

    def __init__(self, rate: float, burst: float, limit: int) -> None:
        self._rate = rate
        self._burst = burst
        self._limit = limit
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, key: Hashable, now: float) -> bool:
        """Take one token from a key's bucket; False when there is none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._limit:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(self._rate, self._burst, now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now)

    def __len__(self) -> int:
        return len(self._buckets)


class UsedOnce:
    """Remembers what has been used, each with the time that its sender gave it, and takes nothing twice.

    When `limit` is reached the entry with the earliest time goes, and from then on nothing as old as that is taken:
    what was forgotten cannot come back. (`floor` never passes the present, or times from the future would shut others
    out.)
    """

    __slots__ = ("_heap", "_limit", "_seen", "floor")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._seen: set[bytes] = set()
        self._heap: list[tuple[float, bytes]] = []
        self.floor = float("-inf")
        """Times up to here are too old."""

    def __contains__(self, value: bytes) -> bool:
        return value in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, value: bytes, when: float, now: float) -> None:
        """Remember a value with a time above `floor`; `now` is the present by the same clock."""
        self._seen.add(value)
        heapq.heappush(self._heap, (when, value))
        if len(self._heap) > self._limit:
            self._forget(now)

    def expire(self, before: float) -> None:
        """Forget what is older than `before`; the caller takes nothing that old."""
        while self._heap and self._heap[0][0] < before:
            self._seen.discard(heapq.heappop(self._heap)[1])

    def _forget(self, now: float) -> None:
        when, value = heapq.heappop(self._heap)
        self._seen.discard(value)
        self.floor = max(self.floor, min(when, now))
