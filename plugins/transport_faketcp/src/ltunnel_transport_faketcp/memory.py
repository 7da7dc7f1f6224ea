"""Memory that the readers of all connections share: whoever connects may have some of it, together they have little."""

from __future__ import annotations

from typing import Protocol

LIMIT = 8 << 20
"""Bytes. What lacks something for longer than a moment is mostly lost, so that more would not help."""


class Keeper(Protocol):
    """Who keeps something."""

    def forget(self) -> None:
        """Drop what is kept."""
        ...


class Memory:
    """Knows who keeps how much. When that is too much, those drop theirs in whom nothing has changed for longest."""

    def __init__(self, limit: int = LIMIT) -> None:
        self.total = 0
        """Bytes that are kept."""
        self._limit = limit
        self._kept: dict[Keeper, int] = {}

    def note(self, keeper: Keeper, size: int) -> None:
        """Take note that somebody keeps `size` bytes now."""
        kept = self._kept
        self.total += size - kept.pop(keeper, 0)
        if size:
            kept[keeper] = size
        while self.total > self._limit:
            oldest = next(iter(kept))
            self.total -= kept.pop(oldest)
            oldest.forget()
