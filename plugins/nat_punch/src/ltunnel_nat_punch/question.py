"""A question to the hub, repeated until it is answered or given up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ltunnel.plugin import Address, Query


@dataclass(slots=True)
class Question:
    """A question that is being asked; `gaps` are the seconds after each try, after the last of which it is over."""

    query: Query
    next: float
    gaps: Sequence[float]
    tries: int = 0
    answer: Address | None = None

    def due(self, now: float) -> bool:
        """Whether it is to be asked now; it then counts as asked."""
        if self.answer is not None or self.tries == len(self.gaps) or now < self.next:
            return False
        self.next = now + self.gaps[self.tries]
        self.tries += 1
        return True

    def over(self, now: float) -> bool:
        """Whether it is answered or given up."""
        return self.answer is not None or (self.tries == len(self.gaps) and now >= self.next)
