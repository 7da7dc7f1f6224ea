"""Which of two paths is better, and why, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ltunnel.plugin import NextHop, PathClass, PathView

RATIO = 2.0
"""A path of a better kind may take so many times as long, and `Limits.delay` more."""
RETURN = 0.5
"""Coming back to a better kind takes no more than this part of the gaps that lead away from it."""
FASTER = 0.75
MARGIN = 0.005
"""Within a kind the path in use is left for one whose round trip is shorter by a quarter and 5 ms."""

_WORDS = {
    PathClass.LAN: "the LAN",
    PathClass.PUBLIC: "a direct path",
    PathClass.MESH: "a path through another node",
    PathClass.HUB: "the path through the hub",
}


class Limits(NamedTuple):
    """Gaps that outweigh a better kind."""

    loss: float
    """Share of probes."""
    delay: float
    """Seconds."""


class Quality:
    """A path with its figures brought into range: nothing here is NaN or negative."""

    __slots__ = ("loss", "number", "path_class", "rtt", "suspect", "via")

    def __init__(self, path: PathView) -> None:
        self.number = path.number
        self.via = path.via
        self.path_class = path.path_class
        self.suspect = path.suspect
        self.rtt = path.rtt if path.rtt >= 0 else math.inf
        self.loss = min(1.0, path.loss) if path.loss >= 0 else 1.0

    @property
    def rank(self) -> tuple[object, ...]:
        """Sort by it: kind, then round-trip time; the rest only makes the order the same every time."""
        return self.path_class, self.rtt, self.via, self.number

    @property
    def direct(self) -> bool:
        """Whether nobody forwards."""
        return self.path_class in (PathClass.LAN, PathClass.PUBLIC)

    def is_like(self, hop: NextHop) -> bool:
        """Whether it is the path that was chosen."""
        return (self.number, self.via) == (hop.number, hop.via)


def beats(other: Quality, best: Quality, used: Quality | None, limits: Limits) -> bool:
    """Whether `other`, which ranks behind `best`, is to be preferred; `used` is the one in use, if it is offered."""
    stays = other is used
    if best.suspect != other.suspect:  # to the hub only when the path in use is given up
        return best.suspect and (other.direct or stays)
    part = RETURN if stays else 1.0
    if _lossier(best, other, limits.loss * part):
        return True
    if other.path_class == best.path_class:
        return stays and other.rtt * FASTER - MARGIN <= best.rtt and not _lossier(other, best, limits.loss)
    ratio = 1.0 + (RATIO - 1.0) * part
    return math.isfinite(other.rtt) and best.rtt > ratio * other.rtt + limits.delay * part


def reason(best: Quality, used: Quality | None, before: NextHop | None, others: Sequence[Quality]) -> str:
    """Say why a path was chosen: `used` is the one it replaces, if that is still offered."""
    if before is not None and used is None:
        return "the one before does not answer any more"
    if used is not None and used.suspect and not best.suspect:
        return "the one before does not answer"
    rival = used or min(others, key=lambda path: path.rank, default=None)
    if rival is None:
        return "it is the only one"
    if best.path_class < rival.path_class:
        return f"{_WORDS[best.path_class]} comes before {_WORDS[rival.path_class]}"
    if best.loss < rival.loss and best.path_class > rival.path_class:
        return f"it loses {best.loss:.0%}, {_WORDS[rival.path_class]} {rival.loss:.0%}"
    return f"it is faster: {_milliseconds(best.rtt)} instead of {_milliseconds(rival.rtt)}"


def _lossier(one: Quality, other: Quality, gap: float) -> bool:
    return one.loss > other.loss + gap


def _milliseconds(rtt: float) -> str:
    return f"{rtt * 1000:.0f} ms" if math.isfinite(rtt) else "an unknown time"
