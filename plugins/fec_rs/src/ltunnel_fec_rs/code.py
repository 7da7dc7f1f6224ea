"""The code: what to compute out of what, for encoding and for each pattern of losses."""

from __future__ import annotations

from collections.abc import MutableSequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ltunnel_fec_rs.field import coefficients
from ltunnel_fec_rs.mix import Mix, make_mix
from ltunnel_fec_rs.room import Room

MAX_SHARDS = 255
"""Rows of a group at most: one for each element of the field but zero."""

_ENCODERS = 32  # numbers of data rows, of one code, for which the matrix is kept
_CACHED = 1 << 16  # coefficients of recovery matrices that a code keeps: 1 MB or two
_PATTERNS = 512

_xor = np.bitwise_xor
_sum = np.bitwise_xor.reduce


@dataclass(frozen=True, slots=True)
class Repair:
    """How to restore the rows of one pattern of losses."""

    lost: tuple[int, ...]
    """All data rows that are missing."""
    mix: Mix | None
    """Makes the rows `restored` out of the rows `known`, where there are any."""
    restored: npt.NDArray[np.intp]
    known: npt.NDArray[np.intp]
    last: int | None
    """A row that is the sum of all others, once those are there."""


class ReedSolomon:
    """Reed-Solomon code over GF(256) with `k` data and `m` parity rows: any `k` of them determine all.

    Byte-identical, in every column, to ``reedsolo.RSCodec(m)``; a group with fewer than `k` data rows has zeros behind
    them, which cost nothing in encoding. Threads may use codes of their own at once, but not one code.

    The polynomial 1 is among those of which `ltunnel_fec_rs.field` speaks: all rows of a group add up to zero. So one
    row, in encoding the last parity row, comes without a multiplication.
    """

    def __init__(self, k: int, m: int) -> None:
        if k < 1 or m < 1 or k + m > MAX_SHARDS:
            raise ValueError(f"fec_rs: {k}+{m} rows, needs k and m of at least 1 and k + m of at most {MAX_SHARDS}")
        self.k = k
        self.m = m
        self._room = Room()
        self._encoder = lru_cache(_ENCODERS)(self._plan_encoding)
        self._repair = lru_cache(min(_PATTERNS, max(8, _CACHED // (k * m))))(self._plan_repair)

    def encode(self, rows: Any, parity: Any) -> None:
        """Compute `parity` (m, L) of `rows` (at most k, L); see `ltunnel.plugin.FecCode`."""
        last = parity[-1]
        _sum(rows, 0, out=last)
        if self.m > 1:
            others = parity[:-1]
            self._encoder(len(rows)).apply(rows, others, self._room)
            _xor(last, _sum(others, 0), last)

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        """Restore missing data rows of `rows` (k + m, L) in place; see `ltunnel.plugin.FecCode`."""
        repair = self._repair(bytes(map(bool, present)))
        if repair is None:
            return False
        if repair.mix:
            restored = np.empty((len(repair.restored), rows.shape[1]), np.uint8)
            repair.mix.apply(rows[repair.known], restored, self._room)
            rows[repair.restored] = restored
        if repair.last is not None:
            row = rows[repair.last]
            _xor(row, _sum(rows, 0), row)  # what stood in the row is in both and cancels itself out
        for lost in repair.lost:
            present[lost] = True
        return True

    def _plan_encoding(self, used: int) -> Mix:
        return make_mix(coefficients(self.k + self.m, range(self.k, self.k + self.m), range(used))[:-1])

    def _plan_repair(self, present: bytes) -> Repair | None:
        """Plan for a pattern, a byte for each row; None when too much is missing."""
        k, total = self.k, self.k + self.m
        lost = [row for row in range(k) if not present[row]]
        arrived = [row for row in range(k, total) if present[row]]
        if len(lost) > len(arrived):
            return None
        known = [row for row in range(k) if present[row]] + arrived[: len(lost)]
        missing = tuple(lost)
        unknown = lost + [row for row in range(k, total) if row not in known]
        last = lost.pop() if lost and len(arrived) == self.m else None
        mix = make_mix(coefficients(total, unknown, known)[: len(lost)]) if lost else None
        return Repair(missing, mix, np.array(lost, np.intp), np.array(known, np.intp), last)
