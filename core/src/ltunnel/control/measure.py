"""What the probes over one path tell: round-trip time, jitter, loss."""

from __future__ import annotations

from collections import deque

RTT_GAIN = 1 / 8
"""Weight of a new sample of the round-trip time (RFC 6298)."""
JITTER_GAIN = 1 / 16
"""Weight of a new deviation (RFC 3550, section 6.4.1)."""
WINDOW = 32
"""Probes that the share lost is taken over."""
FEWEST = 16
"""The share is of at least so many, so that one lost probe of two does not read as half of them."""


class Measure:
    """Times in seconds."""

    __slots__ = ("_outcomes", "jitter", "rtt")

    def __init__(self) -> None:
        self.rtt: float | None = None
        """Smoothed; None before the first answer."""
        self.jitter = 0.0
        """Smoothed difference between one round-trip time and the next."""
        self._outcomes: deque[bool] = deque(maxlen=WINDOW)

    @property
    def loss(self) -> float:
        """Share of the last probes that were not answered, 0 to 1."""
        return self._outcomes.count(False) / max(FEWEST, len(self._outcomes))

    def answered(self, sample: float, *, late: bool = False) -> None:
        """Take an answer. `late`: it comes after `missed` has counted it as lost."""
        if self.rtt is None:
            self.rtt = sample
        else:
            self.jitter += JITTER_GAIN * (abs(sample - self.rtt) - self.jitter)
            self.rtt += RTT_GAIN * (sample - self.rtt)
        if not late:
            self._outcomes.append(True)
        elif False in self._outcomes:
            newest = len(self._outcomes) - 1 - list(reversed(self._outcomes)).index(False)
            self._outcomes[newest] = True

    def missed(self) -> None:
        """Take note that a probe was not answered in time."""
        self._outcomes.append(False)
