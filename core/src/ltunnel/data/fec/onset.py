"""Parity from the first losses on: much at once, as much as is right soon.

A TCP that loses one of its first packets stays slow for seconds, so there is no time to wait for reports to agree. If
soundings are lost (`ltunnel.data.fec.sounding`), parity begins. How much it should be they do not say for certain, so
the guess is a high one, it is made anew with each report, and if nothing more is lost it is dropped.
"""

from __future__ import annotations

from math import sqrt

from ltunnel.data.fec.losses import Loss, Sample

ENOUGH = 300
"""Datagrams after which the guess is good enough to go by the usual rules with it."""
LEAST = 1.5
"""Seconds that it takes at least."""
LONGEST = 10.0
"""Seconds after which the usual rules hold in any case."""
CLEAN = 100
"""Datagrams without a loss, after the first, that show it to have been something else."""
CALM = 64
"""Datagrams sent while no queue stood that are enough to leave out those that stood in one."""
GAPS = 10
"""How often something must be lost to say how many in a row."""


class Onset:
    """What is guessed from the first losses, and those that follow."""

    __slots__ = ("_began", "_calm", "_first", "_whole")

    def __init__(self, first: Sample, now: float) -> None:
        self._began = now
        self._first = self._calm = self._whole = first

    def add(self, sample: Sample) -> None:
        """Take the next report."""
        self._whole = self._whole.joined(sample)
        if not sample.queued:
            self._calm = self._calm.joined(sample)

    @property
    def guess(self) -> Loss:
        """What the line loses, with what chance may have spared so far."""
        return self._loss(1.0)

    @property
    def found(self) -> Loss:
        """What the line has lost."""
        return self._loss(0.0)

    @property
    def most(self) -> float:
        """The share that may have been lost before there was parity."""
        return _share(self._first, 2.0)

    @property
    def is_wrong(self) -> bool:
        """Whether nothing has been lost after the first losses, though enough was sent."""
        whole, first = self._whole, self._first
        return whole.lost <= first.lost and whole.sent - first.sent >= CLEAN

    def is_over(self, now: float) -> bool:
        """Whether enough has been sent for long enough."""
        enough = LEAST if self._whole.sent - self._first.sent >= ENOUGH else LONGEST
        return now - self._began >= enough

    def _loss(self, deviations: float) -> Loss:
        whole, calm = self._whole, self._calm
        share = _share(whole, deviations)
        if calm.sent >= CALM:  # the line loses no more than all that is lost
            share = min(share, _share(calm, deviations))
        burst = max(1.0, calm.lost / calm.gaps) if calm.gaps >= GAPS else 1.0
        return Loss(share, burst)


def _share(sample: Sample, deviations: float) -> float:
    """Return the share lost, and so many standard deviations more."""
    lost = max(0, sample.lost)
    return min(1.0, (lost + deviations * sqrt(max(1, lost))) / sample.sent)
