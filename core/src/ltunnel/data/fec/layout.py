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

Bytes3D = NDArray[np.uint8]
Trailers = NDArray[np.uint64]
"""Of shards, as numbers."""

_NEXT_INDEX = np.arange(256, dtype=np.uint64) << np.uint64(24)


def mark(rows: Bytes3D, used: int, base: int, k: int, m: int, kind: int, index: int = 0) -> None:
    """Write the trailers of an (index, group, byte) array of shards, from `index` on, of the groups from `base` on."""
    count, groups, _ = rows.shape
    if base + groups > NUMBERS:  # they begin again at 0
        first = NUMBERS - base
        mark(rows[:, first:], used, 0, k, m, kind, index)
        rows, groups = rows[:, :first], first
    trailers = _trailers(count, groups, used, k, m, kind) + np.uint64(base << 32 | index << 24)
    rows[:, :, -TRAILER:].view(">u8")[:, :, 0] = trailers


def trailers_of(rows: NDArray[np.uint8]) -> Trailers:
    """Read the trailers of a (shard, byte) array."""
    return rows[:, -TRAILER:].view(">u8").ravel().astype(np.uint64)


def whole_groups(trailers: Trailers) -> int:
    """Count the shards from the start that are the whole of some groups, interleaved as `mark` numbers them."""
    first = int(trailers[0])
    used = first >> 56
    if used < 2 or first >> 24 & 0xFF:
        return 0
    groups = int((trailers == np.uint64(first + (1 << 24))).argmax())  # where the first group goes on
    count = used * groups
    if not 0 < count <= len(trailers) or (first >> 32 & _MASK) + groups > NUMBERS:
        return 0
    return count if ((trailers[:count] - trailers[0]) == _trailers(used, groups, 0, 0, 0, 0).ravel()).all() else 0


def are_a_run(trailers: Trailers) -> bool:
    """Whether shards follow each other in one group."""
    first = int(trailers[0])
    fits = (first >> 24 & 0xFF) + len(trailers) <= 255
    return fits and bool((trailers - trailers[0] == _NEXT_INDEX[: len(trailers)]).all())


@lru_cache(64)
def _trailers(count: int, groups: int, used: int, k: int, m: int, kind: int) -> NDArray[np.uint64]:
    """Return the trailers of groups 0, 1, ... as numbers."""
    group = np.arange(groups, dtype=np.uint64) << np.uint64(32)
    index = np.arange(count, dtype=np.uint64)[:, None] << np.uint64(24)
    return group + index + np.uint64(used << 56 | k << 16 | m << 8 | kind)


def following(number: int, count: int = 1) -> int:
    """Return the group number `count` further on."""
    return number + count & _MASK


def expand(number: int, top: int) -> int:
    """Return the full number of a group whose low 24 bits are given, near the highest one that is known."""
    return top + ((number - top + _HALF) & _MASK) - _HALF
