"""How shards look, and the numbers of groups.

    data shard     frame | n 2 | used 1 | group 3 | index 1 | k 1 | m 1 | 3
    parity shard   coded row L | used 1 | group 3 | index 1 | k 1 | m 1 | 4

A frame ends with its own type. The coded row of a data shard is ``frame | n``, with zeros in front up to the longest of
the group, L. `used` is the number of data shards that the group holds; 0 in a data shard of a group that is still open.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from ltunnel.constants import SHARD_TRAILER
from ltunnel.wire.types import FrameType

LENGTH = 2
TRAILER = 8
DATA_TRAILER = SHARD_TRAILER
SHARD = Struct(">HIBBBB")
"""What follows the frame in a data shard: length, used and group, index, k, m, frame type."""
PARITY = Struct(">IBBBB")

FEC_DATA, FEC_PARITY = int(FrameType.FEC_DATA), int(FrameType.FEC_PARITY)
"""Plain numbers: looking up a member of an enumeration costs as much as copying a row."""

NUMBERS = 1 << 24
_MASK = NUMBERS - 1
_HALF = NUMBERS >> 1

Trailers = NDArray[np.uint64]
"""Of shards, as numbers."""
_GROUP, _INDEX, _USED = 32, 24, 56  # where these begin in a trailer


def mark(rows: NDArray[np.uint8], base: int, trailers: Trailers) -> None:
    """Write the trailers of a (shard, byte) array, with `base` added to their group numbers."""
    rows[:, -TRAILER:].view(">u8")[:, 0] = trailers + np.uint64(base << _GROUP)


@lru_cache(64)
def data_trailers(count: int, groups: int, k: int, m: int) -> Trailers:
    """Return the trailers of `count` rows, row r being in group r mod `groups`, from group 0 on."""
    row = np.arange(count, dtype=np.uint64)
    index, group = np.divmod(row, np.uint64(groups))
    return _used(count, groups)[group] + _trailers(index, group, k, m, FEC_DATA)


@lru_cache(64)
def parity_trailers(count: int, groups: int, k: int, m: int) -> Trailers:
    """Return the trailers of the parity of `count` rows: m * `groups` rows, of one index in all groups each."""
    index, group = np.divmod(np.arange(m * groups, dtype=np.uint64), np.uint64(groups))
    return _used(count, groups)[group] + _trailers(index, group, k, m, FEC_PARITY)


@lru_cache(256)
def run_trailers(index: int, count: int, k: int, m: int) -> Trailers:
    """Return the trailers of `count` data shards from `index` on, of a group that is still open."""
    indices = np.arange(index, index + count, dtype=np.uint64)
    return _trailers(indices, np.zeros(count, np.uint64), k, m, FEC_DATA)


def _used(count: int, groups: int) -> Trailers:
    rows, more = divmod(count, groups)
    return np.array([rows + 1] * more + [rows] * (groups - more), np.uint64) << np.uint64(_USED)


def _trailers(index: Trailers, group: Trailers, k: int, m: int, kind: int) -> Trailers:
    return (group << np.uint64(_GROUP)) + (index << np.uint64(_INDEX)) + np.uint64(k << 16 | m << 8 | kind)


def trailers_of(rows: NDArray[np.uint8]) -> Trailers:
    """Read the trailers of a (shard, byte) array."""
    return rows[:, -TRAILER:].view(">u8")[:, 0].astype(np.uint64)


def whole_groups(trailers: Trailers) -> tuple[int, int]:
    """Return how many shards from the start are the whole of how many groups, interleaved as `data_trailers` has it."""
    first, count = int(trailers[0]), len(trailers)
    used, k, m = first >> _USED, first >> 16 & 0xFF, first >> 8 & 0xFF
    if used < 2:
        return 0, 0
    groups = -(-count // used)
    if groups >= count or int(trailers[groups]) != first + (1 << _INDEX):
        groups = int((trailers == np.uint64(first + (1 << _INDEX))).argmax())  # where the first group goes on
        count = min(count, used * groups)
    if not (used - 1) * groups < count:
        return 0, 0
    base = np.uint64(first & _MASK << _GROUP)
    alike = (trailers[:count] - base == data_trailers(count, groups, k, m)).all()
    return (count, groups) if alike else (0, 0)


def following(number: int, count: int = 1) -> int:
    """Return the group number `count` further on."""
    return number + count & _MASK


def expand(number: int, top: int) -> int:
    """Return the full number of a group whose low 24 bits are given, near the highest one that is known."""
    return top + ((number - top + _HALF) & _MASK) - _HALF
