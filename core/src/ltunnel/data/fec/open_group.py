"""A group that is being filled, row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltunnel.data.fec.layout import (
    DATA_TRAILER,
    FEC_DATA,
    FEC_PARITY,
    LENGTH,
    PARITY,
    SHARD,
    TRAILER,
    mark,
    run_trailers,
)
from ltunnel.data.grid import Arena
from ltunnel.plugin import Buffer, FecCode
from ltunnel.session import Epoch


class OpenGroup:
    """Up to k frames of at most `room` bytes, each a shard's plaintext that ends where its row ends.

    So rows of different lengths stand as the code wants them, and nothing is copied for it.
    """

    __slots__ = (
        "_arena",
        "_lengths",
        "_longest",
        "_room",
        "_stride",
        "code",
        "count",
        "due",
        "epoch",
        "number",
    )

    def __init__(self, code: FecCode, room: int, number: int, epoch: Epoch, due: float) -> None:
        self.code = code
        self.number = number
        self.epoch = epoch
        self.due = due
        """When it is closed, full or not (monotonic seconds)."""
        self.count = 0
        self._room = room
        self._stride = room + DATA_TRAILER
        self._arena = Arena(code.k * self._stride)
        self._lengths: list[int] = []
        self._longest = 0

    @property
    def is_full(self) -> bool:
        """Whether it holds k frames."""
        return self.count == self.code.k

    def takes(self, size: int) -> bool:
        """Whether a frame of `size` bytes fits."""
        return size <= self._room

    def add(self, source: Buffer) -> Buffer:
        """Take a frame; return the plaintext of its data shard."""
        size = len(source)
        end = (self.count + 1) * self._stride
        middle = end - DATA_TRAILER
        view = self._arena.view
        view[middle - size : middle] = source
        code = self.code
        SHARD.pack_into(self._arena.data, middle, size, self.number, self.count, code.k, code.m, FEC_DATA)
        self.count += 1
        self._lengths.append(size)
        if size > self._longest:
            self._longest = size
        return view[middle - size : end]

    def add_rows(self, rows: Any) -> int:
        """Take as many data shards as fit of `rows`, an array that lacks but their trailers; return how many."""
        code, count, length = self.code, self.count, rows.shape[1]
        rows = rows[: code.k - count]
        taken, size = len(rows), length - DATA_TRAILER
        mark(rows, self.number, run_trailers(count, taken, code.k, code.m))
        grid = self._arena.array.reshape(code.k, self._stride)
        grid[count : count + taken, self._stride - length :] = rows
        self.count += taken
        self._lengths += [size] * taken
        self._longest = max(self._longest, size)
        return taken

    def parity(self) -> Any:
        """Compute the parity of what is in it: an array of m plaintexts of parity shards."""
        code, longest, stride = self.code, self._longest + LENGTH, self._stride
        rows = self._arena.array[: self.count * stride].reshape(self.count, stride)[:, stride - TRAILER - longest :]
        for row, length in zip(rows, self._lengths, strict=True):
            if length + LENGTH < longest:
                row[: longest - LENGTH - length] = 0
        out = np.empty((code.m, longest + TRAILER), np.uint8)
        code.encode(rows[:, :longest], out[:, :longest])
        head, data = self.count << 24 | self.number, out.data.cast("B")
        for index in range(code.m):
            PARITY.pack_into(data, index * (longest + TRAILER) + longest, head, index, code.k, code.m, FEC_PARITY)
        return out
