"""XOR parity for ltunnel: one parity row for k data rows, or m of them, interleaved."""

from __future__ import annotations

from collections.abc import MutableSequence
from functools import lru_cache
from typing import Any

import numpy as np

from ltunnel.plugin import FecDescriptor, NoOptions, Options, PluginInfo, hookimpl

MAX_SHARDS = 255
_PATTERNS = 512

_xor = np.bitwise_xor
_sum = np.bitwise_xor.reduce


class XorParity:
    """Parity row j is the XOR of the data rows i with ``i % m == j``: one loss in each such column is healed.

    Needs ``m <= k``, since a column without data rows would protect nothing. A group with fewer than `m` data rows has
    parity rows of zeros at its end.
    """

    def __init__(self, k: int, m: int) -> None:
        if k < 1 or m < 1 or k + m > MAX_SHARDS:
            raise ValueError(f"fec_xor: {k}+{m} rows, needs k and m of at least 1 and k + m of at most {MAX_SHARDS}")
        if m > k:
            raise ValueError(f"fec_xor: {k}+{m} rows, needs no more parity rows than data rows")
        self.k = k
        self.m = m
        self._repair = lru_cache(_PATTERNS)(self._plan)

    def encode(self, rows: Any, parity: Any) -> None:
        """Compute `parity` (m, L) of `rows` (at most k, L); see `ltunnel.plugin.FecCode`."""
        if self.m == 1:
            _sum(rows, 0, out=parity[0])
            return
        used, length = rows.shape
        whole = used - used % self.m
        _sum(rows[:whole].reshape(-1, self.m, length), 0, out=parity)
        if whole < used:
            rest = parity[: used - whole]
            _xor(rest, rows[whole:], rest)

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        """Restore missing data rows of `rows` (k + m, L) in place; see `ltunnel.plugin.FecCode`."""
        repair, whole = self._repair(bytes(map(bool, present)))
        for lost, column in repair:
            row = rows[lost]
            _xor(row, _sum(rows[column], 0), row)  # what stood in the row is in both and cancels itself out
            present[lost] = True
        return whole

    def _plan(self, present: bytes) -> tuple[list[tuple[int, slice | list[int]]], bool]:
        """For a pattern, a byte for each row: the data rows to restore, each with its column; whether that is all."""
        k, m = self.k, self.m
        repair: list[tuple[int, slice | list[int]]] = []
        whole = True
        for row in (row for row in range(k) if not present[row]):
            first = row % m
            column = [*range(first, k, m), k + first]
            if not all(present[other] for other in column if other != row):
                whole = False
                continue
            # Where columns are full the parity row stands at the same distance, and no rows need be copied.
            repair.append((row, slice(first, None, m) if k % m == 0 else column))
        return repair, whole


def _create(_options: Options, k: int, m: int) -> XorParity:
    return XorParity(k, m)


def residual(k: int, m: int, loss: float) -> float:
    """Share of data rows that stay lost: a row is restored if all others of its column are there."""
    sizes = [len(range(first, k, m)) for first in range(m)]
    healed = sum(size * (1 - loss) ** size for size in sizes) / k
    return loss * (1 - healed)


@hookimpl
def ltunnel_plugin_info() -> PluginInfo:
    """Say who this is."""
    return PluginInfo(name="fec_xor", summary="XOR parity: one of k + 1 packets may be lost", api=(1, 0))


@hookimpl
def ltunnel_fec() -> FecDescriptor:
    """Provide the code."""
    return FecDescriptor(options=NoOptions, wire_name="xor", create=_create, max_shards=MAX_SHARDS, residual=residual)
