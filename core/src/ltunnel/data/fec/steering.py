"""How much parity a peer gets, and why: from what its path loses, with hysteresis.

More parity as soon as three reports in a row tell of losses, less only after ten seconds in which less would have
done. A path that loses little gets none. If losses grow with the parity as they do where the line is full, it goes.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.losses import LATELY, START, WINDOW, Losses
from ltunnel.data.fec.residual import bursty, independent, stays_lost
from ltunnel.data.fec.settings import FecMode, FecSettings

REFRAIN = 60.0
"""Seconds without parity after it has made losses worse."""
SIZES = (10, 20)
"""Data shards of groups to choose from."""
DEEPEST = 4
"""Groups to spread bursts over."""
WORST = 0.5
"""A path that loses more is taken for one that loses so much."""
EVEN = 1.05
"""What independent losses look like: mean burst by share that arrives, at most."""
SPREAD_DEPTH = 4


class Choice(NamedTuple):
    """What is sent: k data and m parity shards (0: none at all), `depth` groups filled in turn."""

    k: int
    m: int
    depth: int
    why: str
    loss: float = 0.0
    """Independent losses against which it was chosen; 0 where they come in bursts, or were not asked for."""


NOTHING = Choice(0, 0, 1, "off")
EXEMPT = Choice(0, 0, 1, "the transport repairs losses itself")


class Steering:
    """Reports of one peer, and what follows from them."""

    __slots__ = ("_bad", "_codes", "_needed", "_refrain", "_reports", "_settings", "choice", "losses")

    def __init__(self, settings: FecSettings, codes: Codes) -> None:
        self._codes = codes
        self.losses = Losses()
        self._needed = float("-inf")  # when as much as is chosen was last needed
        self._refrain = float("-inf")  # until when parity would do harm
        self.change(settings)

    def change(self, settings: FecSettings) -> None:
        """Start with other settings."""
        self._settings = settings
        self._bad, self._reports = 1.0, 0
        self.choice = NOTHING
        if settings.mode is FecMode.OFF or settings.parity == 0:
            return
        if settings.mode in (FecMode.FIXED, FecMode.SPREAD):
            depth = SPREAD_DEPTH if settings.mode is FecMode.SPREAD else 1
            self.choice = Choice(settings.data, settings.parity, depth, f"{settings.mode.value} by configuration")
        else:
            self.choice = Choice(0, 0, 1, "no loss to repair")

    def moved(self) -> None:
        """Take note that the path is another one: what the old one lost says nothing of it."""
        self.losses.forget()
        self._refrain = float("-inf")

    def report(self, epoch: int, expected: int, accepted: int, gaps: int, now: float) -> None:
        """Take cumulative counts of what has arrived of an epoch with this local index."""
        new = self.losses.report(epoch, expected, accepted, gaps, now)
        if new and self._settings.mode in (FecMode.AUTO, FecMode.LATENCY) and self._settings.parity:
            self._steer(now)

    def _steer(self, now: float) -> None:
        current, settings = self.choice, self._settings
        if self._harms():
            self._refrain = now + REFRAIN
        if now < self._refrain:
            self.choice = Choice(0, 0, 1, "losses grew with the parity: the line is full")
            return
        loss, burst = self.losses.path
        target = settings.target if current.m else max(settings.target, START)
        wanted = choose(self._codes, loss, burst, target, settings.target, settings.overhead)
        if _cost(wanted) > _cost(current):
            self._needed = now
            if not current.m:
                self._watch(_cost(wanted))
            self.choice = wanted
        elif _cost(wanted) == _cost(current):
            self._needed = now
            self.choice = current if current.m else wanted
        elif now - self._needed >= WINDOW:
            self._needed = now
            self.choice = wanted

    def _watch(self, cost: float) -> None:
        """Parity goes out from now on: work out what would be lost if the line was full already.

        A full line carries no more than before, so it would lose all that is added.
        """
        shares = self.losses.lately()
        lost = sum(shares) / len(shares)
        full = 1 - (1 - lost) / (1 + cost)
        self._bad = (lost + full) / 2
        self._reports = 0

    def _harms(self) -> bool:
        """Whether losses have grown at least half as far as they would on a line that was full already."""
        self._reports += 1
        # The first report after the change tells of what was sent before, too.
        return self._reports == LATELY + 1 and min(self.losses.lately()) > self._bad


def choose(codes: Codes, loss: float, burst: float, least: float, target: float, overhead: float) -> Choice:
    """Find the least parity that leaves less than `target` lost, with at most `overhead`; else the best there is.

    None at all if no more than `least` is lost.
    """
    if loss <= least:
        why = f"{loss:.2%} lost, parity begins at {least:.2%}" if loss else "no loss to repair"
        return Choice(0, 0, 1, why)
    loss = min(WORST, float(f"{loss:.1e}"))  # two digits
    burst = min(30.0, max(1.0, round(burst, 1)))
    depth = min(DEEPEST, round(burst / (1 + loss)))
    k, m, rest = _search(codes, loss, max(1.0, burst / depth), target, overhead)
    if not m:
        return Choice(0, 0, 1, f"{loss:.2%} lost, and an overhead of {overhead:.0%} allows no parity")
    bursts = f" in bursts of {burst:.1f}" if depth > 1 else ""
    reached = "" if rest <= target else f", more than the target of {target:.2%}: the overhead is at its limit"
    even = loss if burst * (1 - loss) <= EVEN else 0.0
    return Choice(k, m, depth, f"{loss:.2%} lost{bursts}; {k}+{m} leaves {rest:.2%}{reached}", even)


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
    if burst * (1 - loss) <= EVEN:
        return [(m, independent(k, m, loss)) for m in pairs]
    by_length = dict(bursty(k + pairs[-1], loss, burst))
    return [(m, stays_lost(by_length[k + m], m)) for m in pairs]


def _cost(choice: Choice) -> float:
    return choice.m / choice.k if choice.m else 0.0
