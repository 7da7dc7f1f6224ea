"""Where shards are laid out, and where their datagrams go, with every view that is needed made once per geometry."""

from __future__ import annotations

import numpy as np

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, ROW_TRAILER
from ltunnel.data.fec.layout import DATA_TRAILER
from ltunnel.data.grid import Arena, Bytes2D
from ltunnel.wire.types import FrameType

SLACK = 0.15
"""Share of parity more than asked for that is sent to have all rows of a super-packet in groups of their own."""
BULK = 30
"""Rows of a super-packet that TCP makes only where it is so fast that work counts more than bytes."""

_MOST_PARITY = 255  # parity shards of one block


class Slots:
    """Where datagrams with plaintexts of one length go in the out arena, from HEADROOM on."""

    __slots__ = ("headers", "limit", "prefix", "sealed", "slot")

    def __init__(self, out: Arena, length: int, prefix: int) -> None:
        self.prefix = prefix
        self.slot = slot = prefix + length + DATA_OVERHEAD
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // slot))
        end = HEADROOM + self.limit * slot
        self.headers = out.array[HEADROOM:end].reshape(self.limit, slot)[:, prefix : prefix + DATA_HEADER]
        self.sealed = [out.view[at + prefix + DATA_HEADER : at + slot] for at in range(HEADROOM, end, slot)]


class ShardGrid:
    """Rows of one geometry laid out as data shards: ``payload | header | row trailer 8 | n 2 | shard trailer 8``.

    Behind the `limit` rows that one call may send is room for rows of zeros, where groups are not equally long.
    """

    __slots__ = ("frame", "indices", "length", "limit", "plain", "staging", "tail")

    def __init__(self, header_length: int, seg: int, prefix: int) -> None:
        self.frame = seg + header_length + ROW_TRAILER
        self.length = length = self.frame + DATA_TRAILER
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // (prefix + length + DATA_OVERHEAD)))
        self.staging: Bytes2D = np.zeros((self.limit + self.limit // 2 + 1, length), np.uint8)
        self.tail = self.staging[:, seg : self.frame - 2]
        self.indices = self.staging[:, self.frame - 2]
        self.restore(0, len(self.staging))
        whole = self.staging.data.cast("B")
        self.plain = [whole[i * length : (i + 1) * length] for i in range(self.limit)]

    def restore(self, at: int, stop: int) -> None:
        """Write what is always the same in rows."""
        frame, rows = self.frame, self.staging[at:stop]
        rows[:, frame - 1] = FrameType.ROW
        rows[:, frame] = frame >> 8
        rows[:, frame + 1] = frame & 0xFF
        self.indices[at:stop] = np.arange(at, stop)


def deal(rows: int, k: int, m: int) -> tuple[int, int]:
    """Return how many of the rows of a super-packet go to groups of their own, and to how many.

    All of them, if they are `BULK` and that makes no more than `SLACK` more parity than full groups have; else those of
    full groups.
    """
    groups = -(-rows // k)
    if rows >= BULK and groups * k <= (1 + SLACK) * rows and groups * m <= _MOST_PARITY:
        return rows, groups
    groups = min(rows // k, max(1, _MOST_PARITY // m))
    return groups * k, groups
