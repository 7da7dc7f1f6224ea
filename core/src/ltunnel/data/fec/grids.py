"""Where shards are laid out, and where their datagrams go, with every view that is needed made once per geometry."""

from __future__ import annotations

import numpy as np

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, ROW_TRAILER
from ltunnel.data.fec.layout import DATA_TRAILER
from ltunnel.data.grid import Arena, Bytes2D
from ltunnel.wire.types import FrameType


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
    """Rows of one geometry laid out as data shards: ``payload | header | row trailer 8 | n 2 | shard trailer 8``."""

    __slots__ = ("indices", "length", "limit", "plain", "staging", "tail")

    def __init__(self, header_length: int, seg: int, prefix: int) -> None:
        frame = seg + header_length + ROW_TRAILER
        self.length = length = frame + DATA_TRAILER
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // (prefix + length + DATA_OVERHEAD)))
        self.staging: Bytes2D = np.zeros((self.limit, length), np.uint8)
        self.staging[:, frame - 1] = FrameType.ROW
        self.staging[:, frame] = frame >> 8
        self.staging[:, frame + 1] = frame & 0xFF
        self.tail = self.staging[:, seg : frame - 2]
        self.indices = self.staging[:, frame - 2]
        self.indices[:] = np.arange(self.limit)
        whole = self.staging.data.cast("B")
        self.plain = [whole[i * length : (i + 1) * length] for i in range(self.limit)]
