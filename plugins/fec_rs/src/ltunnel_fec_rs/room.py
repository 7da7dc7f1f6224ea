"""Memory in which `ltunnel_fec_rs.mix.Planes` works."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ltunnel_fec_rs.field import Bytes

FOUR = 4
"""Rows that are summed in all ways. With 5 or 6 it is no faster and needs more cache."""

GATHERED = 384
"""Sums gathered in one step, about 0.5 MB with rows of 1400 B: they should stay in the second-level cache."""

_ALIGN = 64  # bytes; widths are rounded up, for the views as 64-bit words and so that few layouts suffice
_LAYOUTS = 32


class Layout:
    """Views of a `Room`'s memory for a matrix of `count` x `rows` and rows of `width` bytes."""

    __slots__ = ("bits", "fours", "gathered", "none", "overflow", "planes", "rows", "steps", "sums", "words")

    def __init__(self, memory: Bytes, count: int, rows: int, width: int) -> None:
        lines = memory[: memory.size // width * width].reshape(-1, width)
        self.fours = -(-rows // FOUR)
        ends = np.cumsum(_parts_of(count, rows))
        own, sums, self.planes, overflow, self.gathered = np.split(lines[: ends[-1]], ends[:-1])
        self.rows = own[:rows]
        own, self.sums = own.reshape(FOUR, -1), sums
        table = sums.reshape(1 << FOUR, -1)
        self.none = table[0]
        self.steps = [(table[: 1 << i], own[i], table[1 << i : 2 << i]) for i in range(FOUR)]
        self.bits = self.planes.reshape(8, -1)
        self.words: npt.NDArray[np.uint64] = self.bits[1:].view(np.uint64)
        self.overflow: npt.NDArray[np.uint64] = overflow.reshape(7, -1).view(np.uint64)


def _parts_of(count: int, rows: int) -> tuple[int, ...]:
    """Return how many lines of memory the rows, sums, planes, overflow and gathered sums take."""
    fours = -(-rows // FOUR)
    gathered = min(max(GATHERED, fours), 8 * count * fours)
    return FOUR * fours, fours << FOUR, 8 * count, 7 * count, gathered


class Room:
    """Memory to work in, kept between calls: fresh memory of this size would be mapped and cleared each time."""

    __slots__ = ("_layouts", "_memory")

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self._layouts: dict[tuple[int, int, int], Layout] = {}

    def lay_out(self, count: int, rows: int, length: int) -> Layout:
        """Return views for a matrix of `count` x `rows` and rows of at least `length` bytes."""
        width = -(-length // _ALIGN) * _ALIGN
        key = count, rows, width
        layout = self._layouts.get(key)
        if layout is None:
            need = sum(_parts_of(count, rows)) * width
            if need > self._memory.size:
                self._memory = np.empty(need, np.uint8)
                self._layouts.clear()
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = Layout(self._memory, count, rows, width)
        return layout
