"""Preallocated buffers seen as grids of rows, with every view that the hot path needs made once per geometry.

A slice of a memoryview costs as much as a third of sealing a packet, so views are cached by geometry: header length and
segment size when sending, offset, stride and size when receiving. Traffic uses few geometries at a time; a cache that
fills up is emptied.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, ROW_TRAILER
from ltunnel.plugin import Buffer
from ltunnel.wire.types import FrameType

Bytes2D = NDArray[np.uint8]
_INDEX = np.arange(MAX_ROWS, dtype=np.uint32)
_PART = _INDEX << np.uint32(16)

_Grid = TypeVar("_Grid")


class Arena:
    """One bytearray with the two views of it that everything else is cut from."""

    __slots__ = ("array", "data", "view")

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.view: Buffer = memoryview(self.data)
        self.array: NDArray[np.uint8] = np.frombuffer(self.data, np.uint8)


class Nonces:
    """Staging for the headers of a batch, which are also its nonces: (word 4, counter 8) per row, big-endian."""

    __slots__ = ("array", "view", "views", "words")

    def __init__(self) -> None:
        self.array: Bytes2D = np.zeros((MAX_ROWS, DATA_HEADER), np.uint8)
        self.words: NDArray[Any] = self.array.view(">u4")
        """(rows, 3): word, high half of the counter (0 in DATA: epochs end at 2^28), low half."""
        self.view: Buffer = self.array.data.cast("B")
        self.views = [self.view[i * DATA_HEADER : (i + 1) * DATA_HEADER] for i in range(MAX_ROWS)]

    def fill(self, count: int, word: int, first: int) -> None:
        """Write consecutive headers."""
        words = self.words
        words[:count, 0] = word
        words[:count, 1] = 0
        words[:count, 2] = _INDEX[:count] + np.uint32(first)

    def fill_parts(self, count: int, word: int, middle: int, first: int) -> None:
        """Write the headers of neighbouring parts of a record, the first with `middle`; see `ltunnel.data.records`."""
        words = self.words
        words[:count, 0] = word
        words[:count, 1] = _PART[:count] + np.uint32(middle)
        words[:count, 2] = _INDEX[:count] + np.uint32(first)

    def prefix(self, count: int) -> bytes:
        """Return the first `count` headers as they stand on the wire."""
        return self.array[:count].tobytes()


class RowGrid:
    """Where rows of one geometry are laid out (`staging`) and where their datagrams go (from HEADROOM on).

    A row's plaintext is ``payload (seg) | header (header_length) | trailer (8)``; its datagram adds DATA_OVERHEAD, and
    its slot the `prefix` that the transport wants in front of each.
    """

    __slots__ = ("headers", "indices", "limit", "plain", "prefix", "sealed", "slot", "staging", "tail")

    def __init__(self, out: Arena, header_length: int, seg: int, prefix: int) -> None:
        length = seg + header_length + ROW_TRAILER
        self.prefix = prefix
        self.slot = slot = prefix + length + DATA_OVERHEAD
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // slot))
        """Rows that one call may send."""
        self.staging: Bytes2D = np.zeros((self.limit, length), np.uint8)
        self.staging[:, -1] = FrameType.ROW
        self.indices = self.staging[:, -2]
        self.indices[:] = np.arange(self.limit)
        self.tail = self.staging[:, seg:-2]
        """Header and trailer but for index and type, the same in all rows of a super-packet."""
        whole = self.staging.data.cast("B")
        self.plain = [whole[i * length : (i + 1) * length] for i in range(self.limit)]
        end = HEADROOM + self.limit * slot
        self.headers = out.array[HEADROOM:end].reshape(self.limit, slot)[:, prefix : prefix + DATA_HEADER]
        self.sealed = [out.view[at + prefix + DATA_HEADER : at + slot] for at in range(HEADROOM, end, slot)]


class ReceiveGrid:
    """Datagrams of `size` bytes received at a fixed stride."""

    __slots__ = ("_outputs", "bodies", "headers", "sealed", "start", "stride")

    def __init__(self, source: Arena, start: int, stride: int, size: int) -> None:
        count = max(1, min(MAX_ROWS, (len(source.data) - start) // stride))
        self.start, self.stride = start, stride
        grid = source.array[start : start + count * stride].reshape(count, stride)
        self.headers = grid[:, :DATA_HEADER]
        self.bodies = grid[:, DATA_HEADER:size]
        starts = range(start, start + count * stride, stride)
        self.sealed = [source.view[at + DATA_HEADER : at + size] for at in starts]
        self._outputs: dict[tuple[Arena, int], list[Buffer]] = {}

    def outputs(self, target: Arena, step: int, length: int) -> list[Buffer]:
        """Return views of `length` bytes at multiples of `step`: row i + 1 overwrites what row i has after `step`."""
        views = self._outputs.get((target, step))
        if views is None:
            if len(self._outputs) >= 8:
                self._outputs.clear()
            count = min(len(self.sealed), (len(target.data) - length) // step + 1)
            views = self._outputs[target, step] = [target.view[i * step : i * step + length] for i in range(count)]
        return views


class GridCache(Generic[_Grid]):
    """Geometry -> grid, bounded: hostile traffic of ever new sizes must not cost memory."""

    __slots__ = ("_grids", "_limit", "_make")

    def __init__(self, make: Callable[..., _Grid], limit: int) -> None:
        self._grids: dict[tuple[int, ...], _Grid] = {}
        self._make = make
        self._limit = limit

    def get(self, *geometry: int) -> _Grid:
        """Return the grid for a geometry, made on first use."""
        grid = self._grids.get(geometry)
        if grid is None:
            if len(self._grids) >= self._limit:
                self._grids.clear()
            grid = self._grids[geometry] = self._make(*geometry)
        return grid
