"""What a path loses by itself, told apart from what is lost because it is full.

A queue that overflows loses packets too, but parity against that fills it further. Its losses differ in four ways.

- They come and go: many at once when the queue is full, then none while TCP is slow. Losses count only if they are in
  almost all of the last reports, or spread over ten seconds as chance would spread them.
- They come while the queue stands, which makes round trips longer (`ltunnel.data.fec.delays`). Losses in such reports
  say nothing of the path, except that it loses no more than that.
- They are few: a TCP with a window of W packets makes a queue lose some 1.5 / W^2 (Mathis et al., 1997), which is
  `FULL` for a window of 8. If more is lost for seconds while a queue stands, the path has a share in it.
- They come late: before anything else is sent there is no queue to fill. So what is lost of a few small datagrams then
  is the path's (`ltunnel.data.fec.sounding`); as they are few, `ltunnel.data.fec.onset` looks again soon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import reduce
from math import sqrt
from typing import NamedTuple

from ltunnel.data.fec.delays import Delays
from ltunnel.wire.frames import Report

WINDOW = 10.0
"""Seconds for which a loss is held against a path."""
SPAN = 0.4
"""Seconds for which reports count as one."""
LATELY = 3
"""Reports that are enough to say that a path loses."""
LONG = 10
"""Reports in a row that are enough although a queue stands."""
FEW = 2
"""Losses that may be chance."""
FULL = 0.023
LESS = 0.8
"""Share of what a path lost before, below which it is said to lose less now; what lies between may be chance."""
START = 0.005
"""Losses below which no parity is begun with, whatever the target: TCP makes as many by itself."""
SOME, WORST = 0.01, 0.4
"""What may be lost of soundings for the line to be taken for one that loses packets, at least and at most."""
SINGLE = 2
"""How many of them are lost in a row, in the mean and but for one, at most."""
_EPOCHS = 3


class Loss(NamedTuple):
    """What is lost of what is sent, and how many in a row."""

    share: float
    burst: float


NONE = Loss(0.0, 1.0)


class Sample(NamedTuple):
    """What one report tells that the one before did not. What came late makes `lost` negative."""

    when: float
    sent: int
    lost: int
    gaps: int
    queued: bool

    @property
    def share(self) -> float:
        """Of what was sent, that which was lost."""
        return max(0, self.lost) / self.sent

    def joined(self, other: Sample) -> Sample:
        """Return this one with the next."""
        _, sent, lost, gaps, queued = other
        return Sample(self.when, self.sent + sent, self.lost + lost, self.gaps + gaps, self.queued or queued)


class Losses:
    """The reports of one peer about one path."""

    __slots__ = ("_before", "_queued", "_samples", "delays", "newest", "path")

    def __init__(self) -> None:
        self.delays = Delays()
        self.path = NONE
        """What the path is taken to lose by itself."""
        self._samples: deque[Sample] = deque(maxlen=64)
        self._before: dict[int, tuple[int, int, int]] = {}  # epoch -> last report
        self._queued = False

    def report(self, epoch: int, report: Report, now: float) -> bool:
        """Take cumulative counts of what has arrived of an epoch with this local index. False if nothing is new."""
        last = self._before.get(epoch)
        if last is None and len(self._before) >= _EPOCHS:
            del self._before[next(iter(self._before))]
        before, came, breaks = last or (0, 0, 0)
        sent = report.expected - before
        if sent <= 0 or report.accepted < came:
            return False
        self._before[epoch] = report.expected, report.accepted, report.gaps
        queued = self.delays.heard(report.expected - 1, report.held / 1e6, now)
        lost, gaps = sent - (report.accepted - came), max(0, report.gaps - breaks)
        self.newest = sample = Sample(now, sent, lost, gaps, queued or self._queued)
        self._queued = queued
        samples = self._samples
        if samples and now - samples[-1].when < SPAN:
            samples[-1] = samples[-1].joined(sample)
        else:
            samples.append(sample)
        while samples[0].when < now - WINDOW:
            samples.popleft()
        self.path = self._judge()
        return True

    @property
    def started(self) -> float:
        """When the first of the reports came that count as one with the newest."""
        return self._samples[-1].when

    def sent_since(self, when: float) -> int:
        """Return how many datagrams have been told of since then."""
        return sum(sample.sent for sample in self._samples if sample.when >= when)

    def lately(self) -> list[float]:
        """Return the shares lost in the last few reports, whatever the reason."""
        return [sample.share for sample in list(self._samples)[-LATELY:]]

    def sounding(self) -> Sample | None:
        """Return what is known if the line has just been sounded, and some of that was lost, without a queue.

        A queue that is too short to show in round trips loses many in a row.
        """
        whole = reduce(Sample.joined, self._samples)
        single = 0 < whole.lost <= SINGLE * whole.gaps + 1
        return whole if single and not whole.queued and SOME <= whole.share <= WORST else None

    def known(self, path: Loss) -> None:
        """Take this for what the path loses, until reports tell otherwise."""
        self.path = path

    def forget(self) -> None:
        """Start over, since the path is another one; cumulative counts go on."""
        self._samples.clear()
        self.delays = Delays()
        self.path, self._queued = NONE, False

    def _judge(self) -> Loss:
        samples = list(self._samples)
        lately = samples[-LATELY:]
        now = NONE if any(sample.queued for sample in lately) else _fresh(lately)
        calm = [sample for sample in samples if not sample.queued]
        if calm and calm[-1].when - calm[0].when >= WINDOW / 2:
            path = _estimate(calm, 0.6)
        else:  # as before, but not much more than is lost while the queue overflows least
            half = _calmest(samples)
            least = max(0, sum(sample.lost for sample in half)) / sum(sample.sent for sample in half)
            path = self.path if least > LESS * self.path.share else Loss(least, self.path.burst)
            path = path if path.share >= START else NONE
        return max(path, now, _beyond_tcp(samples[-LONG:]))


def _fresh(samples: Sequence[Sample]) -> Loss:
    """Return what a few samples have in common: one that lost by far the most is what a queue makes."""
    loss = _estimate(samples, 0.9)
    if loss is NONE:
        return loss
    least = min(samples, key=lambda sample: sample.share)
    lost = max(0, least.lost)
    most = (lost + 2 * sqrt(lost * loss.burst)) / least.sent
    return loss._replace(share=min(loss.share, most))


def _beyond_tcp(samples: Sequence[Sample]) -> Loss:
    """Return what is lost if all samples but one, and there are `LONG`, have more losses than TCP lets a queue make.

    Only the calmer half is counted: what the others lost more is the queue's.
    """
    shares = sorted(sample.share for sample in samples)
    return _estimate(_calmest(samples), 0.9) if len(shares) == LONG and shares[1] >= FULL else NONE


def _calmest(samples: Sequence[Sample]) -> list[Sample]:
    """Return the half of the samples that lost least."""
    return sorted(samples, key=lambda sample: sample.share)[: (len(samples) + 1) // 2]


def _estimate(samples: Sequence[Sample], steadiness: float) -> Loss:
    """Return what is lost if losses are in as many samples as if they came evenly, times `steadiness`; else none."""
    sent = sum(sample.sent for sample in samples)
    lost = sum(sample.lost for sample in samples)
    gaps = max(1, sum(sample.gaps for sample in samples))
    if len(samples) < LATELY or lost < FEW:
        return NONE
    arrives = 1 - min(1.0, gaps / sent)
    expected = sum(1 - arrives**sample.sent for sample in samples)
    if sum(sample.lost > 0 for sample in samples) < steadiness * expected:
        return NONE
    return Loss(lost / sent, max(1.0, lost / gaps))
