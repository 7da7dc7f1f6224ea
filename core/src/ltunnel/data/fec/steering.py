"""How much parity a peer gets, and why: from what its path loses, with hysteresis.

More parity as soon as three reports in a row tell of losses, or one of the first ones (`ltunnel.data.fec.onset`), less
only after ten seconds in which less would have done. A path that loses little gets none. If losses grow with the parity
as they do where the line is full, it goes. The more datagrams are sent, the larger are the groups, as far as they fill
before their deadline: large ones need less parity.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.losses import LATELY, NONE, START, WINDOW, Loss, Losses
from ltunnel.data.fec.onset import Onset
from ltunnel.data.fec.residual import bursty, independent, stays_lost
from ltunnel.data.fec.settings import CONFIGURATION, GRACE, FecMode, FecSettings
from ltunnel.data.fec.sounding import KNOWN, SOUNDINGS
from ltunnel.wire.frames import Report

REFRAIN = 60.0
"""Seconds without parity after it has made losses worse."""
SIZES = (10, 12, 14, 16, 18, 24)
"""Data shards of groups to choose from."""
SUSPECTED = Loss(0.1, 1.0)
"""What a line is prepared for while it is sounded."""
PACE = 0.1
"""Seconds over which it is counted how many datagrams are sent, at least."""
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
UNUSED = Choice(0, 0, 1, "nothing sent yet")
EXEMPT = Choice(0, 0, 1, "the transport repairs losses itself")


class Steering:
    """Reports of one peer, and what follows from them."""

    __slots__ = (
        "_bad", "_codes", "_counted", "_counted_at", "_held", "_needed", "_onset", "_pace", "_refrain", "_reports",
        "_settings", "_sounded", "_sounding", "choice", "losses",
    )  # fmt: skip

    def __init__(self, settings: FecSettings, codes: Codes, by: str = CONFIGURATION) -> None:
        self._codes = codes
        self.losses = Losses()
        self._needed = float("-inf")  # when as much as is chosen was last needed
        self._refrain = float("-inf")  # until when parity would do harm
        self._sounded = float("-inf")
        self._counted, self._counted_at, self._pace = 0, float("-inf"), 0.0
        self.change(settings, by)

    def change(self, settings: FecSettings, by: str = CONFIGURATION) -> None:
        """Start with other settings. `by` says for status output whose they are."""
        self._settings = settings
        self._bad, self._reports = 1.0, 0
        self._onset: Onset | None = None
        self._sounding: tuple[int, int] | None = None  # epoch and counter behind soundings not yet told of
        self._held = NONE
        self.choice = NOTHING
        if settings.mode is FecMode.OFF or settings.parity == 0:
            return
        if settings.mode in (FecMode.FIXED, FecMode.SPREAD):
            depth = SPREAD_DEPTH if settings.mode is FecMode.SPREAD else 1
            self.choice = Choice(settings.data, settings.parity, depth, f"{settings.mode.value} by {by}")
        else:
            self.choice = Choice(0, 0, 1, "no loss to repair")

    def moved(self) -> None:
        """Take note that the path is another one: what the old one lost says nothing of it."""
        self.losses.forget()
        self._refrain = float("-inf")
        self._onset = None
        self.give_up()

    def report(self, epoch: int, report: Report, now: float) -> None:
        """Take cumulative counts of what has arrived of an epoch with this local index."""
        if not self.losses.report(epoch, report, now):
            return
        self._count(now)
        if self.is_automatic:
            sounding = self._sounding
            if sounding is not None and (epoch != sounding[0] or report.expected >= sounding[1]):
                self.give_up()
            self._steer(now, just_sounded=sounding is not None)

    @property
    def is_automatic(self) -> bool:
        """Whether what is sent follows from the losses."""
        return self._settings.mode in (FecMode.AUTO, FecMode.LATENCY) and self._settings.parity > 0

    def is_unsure(self, now: float) -> bool:
        """Whether no parity is sent, and nothing is known that is not old."""
        if self.choice.m or now < self._sounded + KNOWN or now < self._refrain or not self.is_automatic:
            return False
        return self.losses.sent_since(now - KNOWN) < SOUNDINGS

    def sounded(self, epoch: int, counter: int, now: float) -> None:
        """Take note that the line is sounded, in an epoch and up to a counter.

        What is sent until the answer comes goes into groups, of which the answer says whether they get parity.
        """
        settings = self._settings
        self._sounded, self._sounding = now, (epoch, counter)
        choice = choose(self._codes, SUSPECTED, 0.0, settings.target, settings.overhead)
        self.choice = choice._replace(why="the line is sounded")

    def give_up(self) -> None:
        """Wait no longer for an answer to soundings."""
        if self._sounding is not None:
            self._sounding = None
            self.choice = Choice(0, 0, 1, "no loss to repair")

    @property
    def is_sounding(self) -> bool:
        """Whether soundings are not answered yet."""
        return self._sounding is not None

    @property
    def withholds(self) -> bool:
        """Whether groups that are closed now get no parity."""
        return self.is_automatic and (self._sounding is not None or not self.choice.m)

    def _count(self, now: float) -> None:
        """Keep how many datagrams a second are sent, parity left out."""
        self._counted += self.losses.newest.sent
        if now - self._counted_at >= PACE:
            self._pace = self._counted / (now - self._counted_at) / (1 + _cost(self.choice))
            self._counted, self._counted_at = 0, now

    def _steer(self, now: float, *, just_sounded: bool) -> None:
        if self._harms(now):
            self._refrain = now + REFRAIN
        if now < self._refrain:
            self._onset, self._sounding, self._held = None, None, NONE
            self.choice = Choice(0, 0, 1, "losses grew with the parity: the line is full")
            return
        held = self._begin(now, just_sounded=just_sounded)
        if held is None:
            if self._sounding is not None:
                return
            held = self._follow(now)
        settings = self._settings
        target = settings.target if self.choice.m else max(settings.target, START)
        self._held = held
        fits = self._pace * settings.deadline * (1 + GRACE)
        self.choice = choose(self._codes, held, target, settings.target, settings.overhead, fits)

    def _begin(self, now: float, *, just_sounded: bool) -> Loss | None:
        """Return the losses that parity begins with, or has begun with a moment ago; None: it goes by the usual rules.

        These take over with what has been found out.
        """
        onset, losses = self._onset, self.losses
        if onset is None:
            first = losses.sounding() if just_sounded else None
            if first is None:
                return None
            self._sounding = None
            self._onset = onset = Onset(first, now)
            self._watch(self._cost_of(onset.guess), onset.most)
            return onset.guess
        onset.add(losses.newest)
        if onset.is_wrong or onset.is_over(now):
            self._onset = None
            self._held = NONE if onset.is_wrong else onset.found
            self._needed = now - WINDOW / 2  # it was a guess
            losses.known(self._held)
            return self._held
        return onset.guess

    def _follow(self, now: float) -> Loss:
        """Return the losses to go by: the worst lately."""
        loss, held = self.losses.path, self._held
        cost, before = self._cost_of(loss), self._cost_of(held)
        if cost >= before:
            self._needed = now
            if cost and not before:
                shares = self.losses.lately()
                self._watch(cost, sum(shares) / len(shares))
            return loss if cost > before or not cost else held
        if now - self._needed >= WINDOW:
            self._needed = now
            return loss
        return held

    def _cost_of(self, loss: Loss) -> float:
        """Return how much parity for each data shard these losses ask for."""
        settings = self._settings
        least = settings.target if self.choice.m else max(settings.target, START)
        return _cost(choose(self._codes, loss, least, settings.target, settings.overhead))

    def _watch(self, cost: float, lost: float) -> None:
        """Parity goes out from now on: work out what would be lost if the line was full already.

        A full line carries no more than before, when `lost` was lost, so it would lose all that is added.
        """
        full = 1 - (1 - lost) / (1 + cost)
        self._bad = (lost + full) / 2
        self._reports = 0

    def _harms(self, now: float) -> bool:
        """Whether losses have grown at least half as far as they would on a line that was full already."""
        if self._onset is not None or self.losses.started < now:
            return False  # a TCP that begins fills a queue once in any case; or it counts as one with the report before
        self._reports += 1
        # The first report after the change tells of what was sent before, too.
        return self._reports == LATELY + 1 and min(self.losses.lately()) > self._bad


def choose(
    codes: Codes, path: Loss, least: float, target: float, overhead: float, fits: float = float("inf")
) -> Choice:
    """Find the least parity that leaves less than `target` lost, with at most `overhead`; else the best there is.

    None at all if no more than `least` is lost. Groups are no larger than `fits`, if there are such.
    """
    loss, burst = path
    if loss <= least:
        why = f"{loss:.2%} lost, parity begins at {least:.2%}" if loss else "no loss to repair"
        return Choice(0, 0, 1, why)
    loss = min(WORST, float(f"{loss:.1e}"))  # two digits
    burst = min(30.0, max(1.0, round(burst, 1)))
    depth = min(DEEPEST, round(burst / (1 + loss)))
    sizes = tuple(k for k in SIZES if k <= fits / depth) or SIZES[:1]
    k, m, rest = _search(codes, sizes, loss, max(1.0, burst / depth), target, overhead)
    if not m:
        return Choice(0, 0, 1, f"{loss:.2%} lost, and an overhead of {overhead:.0%} allows no parity")
    bursts = f" in bursts of {burst:.1f}" if depth > 1 else ""
    reached = "" if rest <= target else f", more than the target of {target:.2%}: the overhead is at its limit"
    even = loss if burst * (1 - loss) <= EVEN else 0.0
    return Choice(k, m, depth, f"{loss:.2%} lost{bursts}; {k}+{m} leaves {rest:.2%}{reached}", even)


@lru_cache(256)
def _search(
    codes: Codes, sizes: tuple[int, ...], loss: float, burst: float, target: float, overhead: float
) -> tuple[int, int, float]:
    found = (0, 0, loss)
    for k in sizes:
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
