"""What a path loses by itself, told apart from what is lost because it is full.

A queue that overflows loses packets too, but parity against that fills it further. Its losses differ in three ways.

- They come and go: many at once when the queue is full, then none while TCP is slow. Losses count only if they are in
  almost all of the last reports, or spread over ten seconds as chance would spread them.
- They come while the queue stands, which makes round trips longer (`ltunnel.data.fec.delays`). Losses in such reports
  say nothing of the path, except that it loses no more than that.
- They are few: a TCP with a window of W packets makes a queue lose some 1.5 / W^2 (Mathis et al., 1997), which is
  `FULL` for a window of 8. If more is lost for seconds while a queue stands, the path has a share in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

from ltunnel.data.fec.delays import Delays

WINDOW = 10.0
"""Seconds for which a loss is held against a path."""
LATELY = 3
"""Reports, a half second apart at least, that are enough to say that a path loses."""
LONG = 10
"""Reports in a row that are enough although a queue stands."""
FEW = 2
"""Losses that may be chance."""
FULL = 0.023
LESS = 0.8
"""Share of what a path lost before, below which it is said to lose less now; what lies between may be chance."""
START = 0.005
"""Losses below which no parity is begun with, whatever the target: TCP makes as many by itself."""
_EPOCHS = 3


class Loss(NamedTuple):
    """What is lost of what is sent, and how many in a row."""

    share: float
    burst: float


NONE = Loss(0.0, 1.0)


class _Sample(NamedTuple):
    when: float
    sent: int
    lost: int
    gaps: int
    queued: bool


class Losses:
    """The reports of one peer about one path."""

    __slots__ = ("_before", "_queued", "_samples", "delays", "path")

    def __init__(self) -> None:
        self.delays = Delays()
        self.path = NONE
        """What the path is taken to lose by itself."""
        self._samples: deque[_Sample] = deque(maxlen=64)
        self._before: dict[int, tuple[int, int, int, float]] = {}  # epoch -> last report and when
        self._queued = False

    def report(self, epoch: int, expected: int, accepted: int, gaps: int, now: float) -> bool:
        """Take cumulative counts of what has arrived of an epoch with this local index. False if nothing is new."""
        last = self._before.get(epoch)
        if last is None and len(self._before) >= _EPOCHS:
            del self._before[next(iter(self._before))]
        before, came, breaks, when = last or (0, 0, 0, now - 1)
        sent = expected - before
        if sent <= 0 or accepted < came:
            return False
        self._before[epoch] = expected, accepted, gaps, now
        queued = self.delays.heard(expected - 1, (now - when) / sent, now)
        samples, lost = self._samples, max(0, sent - (accepted - came))
        samples.append(_Sample(now, sent, lost, max(0, gaps - breaks), queued or self._queued))
        self._queued = queued
        while samples[0].when < now - WINDOW:
            samples.popleft()
        self.path = self._judge()
        return True

    def lately(self) -> list[float]:
        """Return the shares lost in the last few reports, whatever the reason."""
        return [sample.lost / sample.sent for sample in list(self._samples)[-LATELY:]]

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
            least = sum(sample.lost for sample in half) / sum(sample.sent for sample in half)
            path = self.path if least > LESS * self.path.share else Loss(least, self.path.burst)
            path = path if path.share >= START else NONE
        return max(path, now, _beyond_tcp(samples[-LONG:]))


def _fresh(samples: Sequence[_Sample]) -> Loss:
    """Return what a few samples have in common: one that lost by far the most is what a queue makes."""
    loss = _estimate(samples, 0.9)
    if loss is NONE:
        return loss
    least = min(samples, key=lambda sample: sample.lost / sample.sent)
    most = (least.lost + 2 * sqrt(least.lost * loss.burst)) / least.sent
    return loss._replace(share=min(loss.share, most))


def _beyond_tcp(samples: Sequence[_Sample]) -> Loss:
    """Return what is lost if all samples but one, and there are `LONG`, have more losses than TCP lets a queue make.

    Only the calmer half is counted: what the others lost more is the queue's.
    """
    shares = sorted(sample.lost / sample.sent for sample in samples)
    return _estimate(_calmest(samples), 0.9) if len(shares) == LONG and shares[1] >= FULL else NONE


def _calmest(samples: Sequence[_Sample]) -> list[_Sample]:
    """Return the half of the samples that lost least."""
    return sorted(samples, key=lambda sample: sample.lost / sample.sent)[: (len(samples) + 1) // 2]


def _estimate(samples: Sequence[_Sample], steadiness: float) -> Loss:
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
