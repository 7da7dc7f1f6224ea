"""How clean the way to a peer is, from what the peer reports, and what that allows.

A peer tells now and then how many counters of an epoch it expects to have seen and how many it accepted. As long as the
two grow alike, large packets may go as records: sealed once and cut, at a fraction of the cost, but lost whole with any
of their parts. The first loss ends that; each time it does so soon, it takes longer until records are tried again.
"""

from __future__ import annotations

from collections import deque

MIN_SAMPLE = 64
"""Datagrams that a report must cover to say anything."""
FRESH = 5.0
"""Seconds for which a report holds."""
FIRST_WAIT = 2.0
LONGEST_WAIT = 120.0
FORGIVEN = 60.0
"""After so many seconds of records without loss the wait starts small again."""
_STRAYS = 64


class Quality:
    """The last report about what we sent, and whether records may be used now."""

    __slots__ = ("_accepted", "_epoch", "_expected", "_lossless_since", "_reported", "_strays", "_wait", "loss")

    def __init__(self) -> None:
        self.loss: float | None = None
        """Share of datagrams lost in the last interval reported; None before a first one."""
        self._epoch: int | None = None
        self._expected = self._accepted = 0
        self._reported = float("-inf")
        self._lossless_since = float("-inf")
        self._wait = 0.0
        self._strays: deque[tuple[int, int]] = deque(maxlen=_STRAYS)

    def stray(self, epoch: int, counter: int) -> None:
        """Take note that a counter of an epoch went over another path: if it does not arrive, it is no loss of this."""
        self._strays.append((epoch, counter))

    def report(self, epoch: int, expected: int, accepted: int, now: float) -> None:
        """Take a report about the epoch with this local index: cumulative counts of its counters."""
        if epoch != self._epoch:
            self._epoch, self._expected, self._accepted = epoch, 0, 0
        sample = expected - self._expected
        if sample < MIN_SAMPLE:
            return
        strays = sum(which == epoch and self._expected <= counter < expected for which, counter in self._strays)
        lost = sample - (accepted - self._accepted) - strays
        self._expected, self._accepted = expected, accepted
        self.loss = min(1.0, max(0, lost) / sample)
        self._reported = now
        if lost > 0:
            soon = now - self._lossless_since < self._wait + FORGIVEN
            self._wait = min(LONGEST_WAIT, 2 * self._wait) if soon and self._wait else FIRST_WAIT
            self._lossless_since = now

    def clean(self, now: float) -> bool:
        """Whether the path has lately lost nothing, for long enough."""
        return now - self._reported < FRESH and now - self._lossless_since >= self._wait
