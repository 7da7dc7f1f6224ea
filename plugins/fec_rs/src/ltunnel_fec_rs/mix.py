"""Multiply a matrix over GF(256) with rows: ``out[j] = sum of matrix[j, i] * rows[i]``, whole rows at a time.

Two ways, since neither is good at everything; at 40 to 50 coefficients they take the same time:

`Tables`, for few coefficients
    One `bytearray.translate` for each coefficient, one XOR over the products.

`Planes`, for many
    A coefficient is eight bits, so out[j] = sum of 2^b * S[b, j], where S[b, j] is the XOR of those rows whose
    coefficient has bit b. For the S, rows are taken in fours and all 16 sums of each four are made first ("four
    Russians": Arlazarov, Dinic, Kronrod, Faradzhev, 1970); each S is then one XOR of a sum from each four. Multiplying
    by 2^b is a shift, whose low byte and overflow are summed apart; the overflow is reduced once, by 2^8 = 0x1D.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np

from ltunnel_fec_rs.field import PRIMITIVE, PRODUCTS, Bytes
from ltunnel_fec_rs.room import FOUR, GATHERED, Room

_FEW = 48  # coefficients

_SHIFTED = (1 << np.arange(8)).astype(np.uint8)[:, None]
_OVERFLOW = np.arange(7, 0, -1, dtype=np.uint64)[:, None]
_OVERFLOWN = np.array([0x0101010101010101 * ((1 << bit) - 1) for bit in range(1, 8)], np.uint64)[:, None]
_REDUCED = PRODUCTS[PRIMITIVE & 0xFF]

_xor = np.bitwise_xor
_sum = np.bitwise_xor.reduce
_translate = bytearray.translate
_join = b"".join


class Mix(Protocol):
    """A matrix that is ready to be applied."""

    def apply(self, rows: Bytes, out: Bytes, room: Room) -> None:
        """Fill `out` (r, L) from `rows` (n, L). Bytes within a row are contiguous, rows need not be."""
        ...


def make_mix(matrix: Bytes) -> Mix:
    """Choose the way for a matrix (r, n)."""
    return Tables(matrix) if matrix.size <= _FEW else Planes(matrix)


@lru_cache(256)
def _cuts(count: int, length: int) -> list[slice]:
    return [slice(at, at + length) for at in range(0, count * length, length)]


class Tables:
    """A table for each coefficient."""

    __slots__ = ("_count", "_rows", "_tables")

    def __init__(self, matrix: Bytes) -> None:
        self._count, self._rows = matrix.shape
        self._tables = [PRODUCTS[c] for c in matrix.ravel().tolist()]

    def apply(self, rows: Bytes, out: Bytes, room: Room) -> None:  # noqa: ARG002
        """See `Mix`."""
        # A bytearray translates in two thirds of the time that a bytes object of the same length takes.
        singles = map(bytearray(rows).__getitem__, _cuts(*rows.shape))
        products = _join(map(_translate, [*singles] * self._count, self._tables))
        _sum(np.frombuffer(products, np.uint8).reshape(self._count, self._rows, -1), 1, out=out)


class Planes:
    """A plane for each bit of the coefficients."""

    __slots__ = ("_count", "_parts", "_rows")

    def __init__(self, matrix: Bytes) -> None:
        count, rows = self._count, self._rows = matrix.shape
        fours = -(-rows // FOUR)
        bits = np.zeros((8, count, FOUR * fours), np.intp)
        bits[:, :, :rows] = matrix >> np.arange(8, dtype=np.uint8)[:, None, None] & 1
        # Row i is number i // fours in four i % fours, so that one step adds a row to all fours.
        sums = (1 << np.arange(FOUR)) @ bits.reshape(8, count, FOUR, fours)
        places = (sums * fours + np.arange(fours)).reshape(8 * count, fours).T
        step = max(1, GATHERED // fours)
        self._parts = [
            (np.ascontiguousarray(places[:, at : at + step]).ravel(), at, min(at + step, 8 * count))
            for at in range(0, 8 * count, step)
        ]

    def apply(self, rows: Bytes, out: Bytes, room: Room) -> None:
        """See `Mix`."""
        length = rows.shape[1]
        views = room.lay_out(self._count, self._rows, length)
        views.rows[:, :length] = rows
        views.none.fill(0)
        for step in views.steps:
            _xor(*step)
        flat, fours, planes = views.gathered, views.fours, views.planes
        for places, begin, end in self._parts:
            chosen = flat[: len(places)]
            views.sums.take(places, 0, chosen, "clip")
            _sum(chosen.reshape(fours, end - begin, -1), 0, out=planes[begin:end])
        np.right_shift(views.words, _OVERFLOW, views.overflow)
        np.bitwise_and(views.overflow, _OVERFLOWN, views.overflow)
        np.multiply(views.bits, _SHIFTED, views.bits)
        high = bytearray(_sum(views.overflow, 0)).translate(_REDUCED)
        low = _sum(views.bits, 0)
        _xor(low, np.frombuffer(high, np.uint8), low)
        out[:] = low.reshape(len(out), -1)[:, :length]
