"""Parity of records, so that on a path that loses nothing FEC costs what it adds, and no seal for each row.

    parity frame   coded slice (part size) | counter 4 | parts 1 | last 2 | groups 1 | group 1 | index 1 | k 1 | m 1 | 7

A record's ciphertext is cut into parts as without FEC (`ltunnel.data.records`). Part i is row i // groups of group
i mod groups; rows have the size of a part, the last part (`last` bytes) with zeros behind. `counter` is that of part 0.
Each parity slice is sealed as a datagram of its own, so that only a peer says how a record is coded. Parts are not:
what is made again from them counts only if the record opens.
"""

from __future__ import annotations

from functools import lru_cache
from struct import Struct
from typing import NamedTuple

import numpy as np

from ltunnel.constants import BUNDLE_ENTRY, MAX_DATAGRAM, MAX_ROWS, SHARD_TRAILER
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.grids import BULK
from ltunnel.data.fec.residual import enough
from ltunnel.data.grid import Arena, Bytes2D
from ltunnel.plugin import FecCode
from ltunnel.session.fec import FecStats
from ltunnel.wire.types import FrameType

TRAILER = Struct(">IBHBBBBBB")
HEAD = Struct(">IB")
"""Where a trailer begins: which record it is of."""
RECORD_PARITY = int(FrameType.RECORD_PARITY)

SLACK = 0.2
"""Share of parity more than asked for that a record may have because its parts do not fill its groups."""
MOST_SLICES = 255
MOST_BYTES = 2 * MAX_DATAGRAM
"""Parity of one record."""
MOST_PLACES = 2 * MAX_ROWS
"""Rows of all groups of a record, with those that it does not fill."""


class Plan(NamedTuple):
    """How a record is coded."""

    parts: int
    groups: int
    slices: int
    """Of parity, for each group: of m those that make it as safe as a full one."""


def largest_part(mtu: int) -> int:
    """Return the size of parts whose parity fits in a datagram to a peer with this MTU."""
    return mtu + BUNDLE_ENTRY + SHARD_TRAILER - TRAILER.size


def plan(length: int, size: int, code: FecCode, codes: Codes) -> Plan | None:
    """Say how `length` bytes of ciphertext in parts of `size` are coded; None where shards of rows do better."""
    parts = -(-length // size)
    groups = -(-parts // code.k)
    used = -(-parts // groups)
    slices = enough(code.k, code.m, used) if codes.residual is None else min(code.m, used)
    total = groups * slices
    if parts < BULK or total * code.k > (1 + SLACK) * code.m * parts:
        return None
    if total > MOST_SLICES or total * size > MOST_BYTES or groups * code.k > MOST_PLACES:
        return None
    return Plan(parts, groups, slices)


def parity_of(ciphertext: Arena, length: int, size: int, plan: Plan, code: FecCode, counter: int) -> Bytes2D:
    """Compute the parity frames of ``ciphertext[:length]``, of whose parts the first has `counter`: an array of them.

    What lies behind the ciphertext, less than `groups` parts, is overwritten.
    """
    parts, groups, slices = plan
    used = -(-parts // groups)
    stop, width = used * groups * size, groups * size
    ciphertext.array[length:stop] = 0
    coded = np.empty((code.m, width), np.uint8)
    code.encode(ciphertext.array[:stop].reshape(used, width), coded)
    frames = np.empty((slices * groups, size + TRAILER.size), np.uint8)
    frames[:, :size] = coded[:slices].reshape(-1, size)
    frames[:, size:] = _trailers(plan, length - (parts - 1) * size, code.k, code.m)
    frames[:, size : size + 4] = np.frombuffer(counter.to_bytes(4, "big"), np.uint8)
    return frames


@lru_cache(64)
def _trailers(plan: Plan, last: int, k: int, m: int) -> Bytes2D:
    """Return the trailers of a record's parity frames, with a counter of 0."""
    parts, groups, slices = plan
    rows = [
        TRAILER.pack(0, parts, last, groups, group, index, k, m, RECORD_PARITY)
        for index in range(slices)
        for group in range(groups)
    ]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, TRAILER.size)


class Shape(NamedTuple):
    """What all parity frames of a record agree on."""

    parts: int
    size: int
    last: int
    groups: int
    k: int
    m: int

    def has(self, group: int, index: int) -> bool:
        """Whether there can be such a record, and such a slice of its parity."""
        return (
            0 < self.parts <= MAX_ROWS
            and 0 < self.last <= self.size
            and self.size * self.parts <= MAX_DATAGRAM
            and group < self.groups <= self.parts <= self.groups * self.k <= MOST_PLACES
            and index < self.m
        )


class RecordParity:
    """The parity that has come of one record."""

    __slots__ = ("_code", "_rows", "shape", "stats")

    def __init__(self, shape: Shape, code: FecCode, stats: FecStats) -> None:
        self.shape = shape
        self.stats = stats
        self._code = code
        self._rows: list[dict[int, bytes]] = [{} for _ in range(shape.groups)]  # index -> coded slice, by group

    @property
    def count(self) -> int:
        """How many slices are here."""
        return sum(map(len, self._rows))

    def keep(self, group: int, index: int, row: bytes) -> bool:
        """Keep a slice. False if it is here already, or there is more than any record has."""
        if index in self._rows[group] or (self.count + 1) * self.shape.size > MOST_BYTES:
            return False
        self._rows[group][index] = row
        return True

    def restore(self, ciphertext: Arena, have: int, last: int) -> dict[int, bytes] | None:
        """Make the parts that are missing, those whose bit is not set in `have`; None if too much is.

        The others lie in `ciphertext`; the last one has `last` bytes, if it is there.
        """
        parts, groups = self.shape.parts, self.shape.groups
        missing: dict[int, list[int]] = {}
        for part in range(parts):
            if not have >> part & 1:
                missing.setdefault(part % groups, []).append(part)
        if any(len(lost) > len(self._rows[group]) for group, lost in missing.items()):
            return None
        found: dict[int, bytes] = {}
        for group, lost in missing.items():
            rows = self._group(group, ciphertext, lost, last)
            if rows is None:
                return None
            for part in lost:
                size = self.shape.last if part == parts - 1 else self.shape.size
                found[part] = rows[part // groups, :size].tobytes()
        return found

    def _group(self, group: int, ciphertext: Arena, lost: list[int], last: int) -> Bytes2D | None:
        """Lay a group out and make the parts `lost` in it."""
        parts, size, _, groups, k, m = self.shape
        rows = np.zeros((k + m, size), np.uint8)
        present = [True] * k + [False] * m
        for place, part in enumerate(range(group, parts, groups)):
            if part in lost:
                present[place] = False
                continue
            length = last if part == parts - 1 else size
            rows[place, :length] = ciphertext.array[part * size : part * size + length]
        for index, row in self._rows[group].items():
            rows[k + index] = np.frombuffer(row, np.uint8)
            present[k + index] = True
        self._code.recover(rows, present)
        return rows if all(present[:k]) else None
