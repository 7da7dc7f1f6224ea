"""How much parity a peer gets, and why: from its reports, with hysteresis.

More parity as soon as three reports in a row tell of losses, less only after ten seconds in which less would have
done. A path that loses fewer packets than the target gets none.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from typing import NamedTuple

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.residual import bursty, independent, stays_lost
from ltunnel.data.fec.settings import FecMode, FecSettings

WINDOW = 10.0
"""Seconds for which a loss is held against a path."""
LATELY = 3
"""Reports, a half second apart at least, that are enough to say that a path loses."""
FEW = 2
"""Losses that may be chance."""
SIZES = (10, 20)
"""Data shards of groups to choose from."""
DEEPEST = 4
"""Groups to spread bursts over."""
WORST = 0.5
"""A path that loses more is taken for one that loses so much."""
SPREAD_DEPTH = 4


class Choice(NamedTuple):
    """What is sent: k data and m parity shards (0: none at all), `depth` groups filled in turn."""

    k: int
    m: int
    depth: int
    why: str


NOTHING = Choice(0, 0, 1, "off")


class _Sample(NamedTuple):
    when: float
    sent: int
    lost: int
    gaps: int


class Steering:
    """Reports of one peer, and what follows from them."""

    __slots__ = ("_codes", "_epoch", "_last", "_needed", "_samples", "_settings", "choice")

    def __init__(self, settings: FecSettings, codes: Codes) -> None:
        self._codes = codes
        self._epoch: int | None = None
        self._last = (0, 0, 0)
        self._samples: deque[_Sample] = deque(maxlen=64)
        self._needed = float("-inf")  # when as much as is chosen was last needed
        self.change(settings)

    def change(self, settings: FecSettings) -> None:
        """Start with other settings."""
        self._settings = settings
        self.choice = NOTHING
        if settings.mode is FecMode.OFF or settings.parity == 0:
            return
        if settings.mode in (FecMode.FIXED, FecMode.SPREAD):
            depth = SPREAD_DEPTH if settings.mode is FecMode.SPREAD else 1
            self.choice = Choice(settings.data, settings.parity, depth, f"{settings.mode.value} by configuration")
        else:
            self.choice = Choice(0, 0, 1, "no loss reported")

    def report(self, epoch: int, expected: int, accepted: int, gaps: int, now: float) -> None:
        """Take cumulative counts of what has arrived of an epoch with this local index."""
        if epoch != self._epoch:
            self._epoch, self._last = epoch, (0, 0, 0)
        before = self._last
        sent = expected - before[0]
        if sent <= 0 or accepted < before[1]:
            return
        self._last = expected, accepted, gaps
        lost = max(0, sent - (accepted - before[1]))
        self._samples.append(_Sample(now, sent, lost, max(0, gaps - before[2])))
        while self._samples[0].when < now - WINDOW:
            self._samples.popleft()
        if self._settings.mode in (FecMode.AUTO, FecMode.LATENCY) and self._settings.parity:
            self._steer(now)

    def _steer(self, now: float) -> None:
        loss, burst = self._losses()
        wanted = choose(self._codes, loss, burst, self._settings.target, self._settings.overhead)
        current = self.choice
        if _cost(wanted) >= _cost(current):
            self._needed = now
            if _cost(wanted) > _cost(current):
                self.choice = wanted
        elif now - self._needed >= WINDOW:
            self._needed = now
            self.choice = wanted

    def _losses(self) -> tuple[float, float]:
        """Share of datagrams lost and mean burst, over `WINDOW` or lately; (0, 1) if losses come and go.

        A queue that overflows now and then, as TCP makes it, loses many at once and then none for a while. That is no
        business of ours: parity would only fill the queue further.
        """
        samples = list(self._samples)
        return max(_estimate(samples, 0.6), _estimate(samples[-LATELY:], 0.9))


def _estimate(samples: list[_Sample], steadiness: float) -> tuple[float, float]:
    """Loss and mean burst, if there were losses in as many samples as if they came evenly, times `steadiness`."""
    sent = sum(sample.sent for sample in samples)
    lost = sum(sample.lost for sample in samples)
    gaps = max(1, sum(sample.gaps for sample in samples))
    if len(samples) < LATELY or lost < FEW:
        return 0.0, 1.0
    arrives = 1 - min(1.0, gaps / sent)
    expected = sum(1 - arrives**sample.sent for sample in samples)
    if sum(sample.lost > 0 for sample in samples) < steadiness * expected:
        return 0.0, 1.0
    return lost / sent, max(1.0, lost / gaps)


def choose(codes: Codes, loss: float, burst: float, target: float, overhead: float) -> Choice:
    """Find the least parity that leaves less than `target` lost, with at most `overhead`; else the best there is."""
    if loss <= target:
        why = f"{loss:.2%} lost, less than the target of {target:.2%}" if loss else "no loss reported"
        return Choice(0, 0, 1, why)
    loss = min(WORST, float(f"{loss:.1e}"))  # two digits
    burst = min(30.0, max(1.0, round(burst, 1)))
    depth = min(DEEPEST, round(burst / (1 + loss)))
    k, m, rest = _search(codes, loss, max(1.0, burst / depth), target, overhead)
    if not m:
        return Choice(0, 0, 1, f"{loss:.2%} lost, and an overhead of {overhead:.0%} allows no parity")
    bursts = f" in bursts of {burst:.1f}" if depth > 1 else ""
    reached = "" if rest <= target else f", more than the target of {target:.2%}: the overhead is at its limit"
    return Choice(k, m, depth, f"{loss:.2%} lost{bursts}; {k}+{m} leaves {rest:.2%}{reached}")


@lru_cache(256)
def _search(codes: Codes, loss: float, burst: float, target: float, overhead: float) -> tuple[int, int, float]:
    found = (0, 0, loss)
    for k in SIZES:
        for m, rest in _residuals(codes, k, int(overhead * k), loss, burst):
            enough, before = rest <= target, found[2] <= target
            cheaper = before and m / k < found[1] / found[0]
            if (enough and (cheaper or not before)) or (not before and rest < found[2]):
                found = k, m, rest
            if enough:
                break
    return found


def _residuals(codes: Codes, k: int, most: int, loss: float, burst: float) -> list[tuple[int, float]]:
    """Give m and what stays lost with it, for each m that the code has, up to `most`."""
    pairs = [m for m in range(1, most + 1) if codes.get(k, m) is not None]
    if not pairs:
        return []
    if codes.residual is not None:
        return [(m, codes.residual(k, m, loss)) for m in pairs]
    if burst * (1 - loss) <= 1.05:  # what independent losses look like
        return [(m, independent(k, m, loss)) for m in pairs]
    by_length = dict(bursty(k + pairs[-1], loss, burst))
    return [(m, stays_lost(by_length[k + m], m)) for m in pairs]


def _cost(choice: Choice) -> float:
    return choice.m / choice.k if choice.m else 0.0
