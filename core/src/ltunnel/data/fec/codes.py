"""The codes of a plugin, made when they are first needed."""

from __future__ import annotations

from collections.abc import Callable

from ltunnel.plugin import FecCode

LIMIT = 64


class Codes:
    """(k, m) -> code, bounded: a peer that names ever new pairs must not cost memory."""

    def __init__(
        self,
        name: str,
        create: Callable[[int, int], FecCode],
        *,
        wire_name: str = "",
        max_shards: int = 255,
        residual: Callable[[int, int, float], float] | None = None,
    ) -> None:
        self.name = name
        """The plugin's."""
        self.wire_name = wire_name or name
        self.max_shards = max_shards
        self.residual = residual
        """(k, m, loss) -> share of packets that stay lost; None for a code that restores any m of k + m."""
        self._create = create
        self._codes: dict[tuple[int, int], FecCode | None] = {}

    def get(self, k: int, m: int) -> FecCode | None:
        """Return a code, or None when the plugin has none for this pair."""
        pair = k, m
        if pair not in self._codes:
            if len(self._codes) >= LIMIT:
                self._codes.clear()
            self._codes[pair] = self._make(k, m)
        return self._codes[pair]

    def _make(self, k: int, m: int) -> FecCode | None:
        if k < 1 or m < 1 or k + m > self.max_shards:
            return None
        try:
            return self._create(k, m)
        except ValueError:
            return None
