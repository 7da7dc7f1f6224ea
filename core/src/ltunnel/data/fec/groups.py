"""What has come of the groups of one epoch, and what can be made again from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.layout import LENGTH, expand
from ltunnel.plugin import Buffer
from ltunnel.session.fec import FecStats

Row = bytes | Buffer

REMEMBERED = 4096
"""Groups of which it is known what has been delivered."""
MOST_BYTES = 8 << 20
"""Shards kept for one epoch, in bytes."""
PATIENCE = 0.5
"""Seconds after which a group is given up."""

_ENTRY = 100  # bytes that a kept shard costs besides its own


class Group:
    """One group. `have` says which data shards have been delivered or recovered, one bit for each."""

    __slots__ = ("born", "data", "have", "highest", "k", "m", "number", "parity", "recovered", "size", "used")

    def __init__(self, number: int, k: int, m: int, born: float) -> None:
        self.number = number
        self.k = k
        self.m = m
        self.used = 0
        """Data shards that it holds, 0 while that is not known."""
        self.born = born
        self.have = 0
        self.highest = -1
        self.data: dict[int, Row] | None = {}
        """index -> coded row without the zeros in front. None once nothing is left to be done."""
        self.parity: dict[int, Row] = {}
        self.recovered = 0
        self.size = 0
        """Bytes kept."""


class Groups:
    """The groups of one epoch. All shards are authentic; what they say may still be contradictory."""

    def __init__(self, codes: Codes, stats: FecStats) -> None:
        self._codes = codes
        self._stats = stats
        self._groups: dict[int, Group | None] = {}  # None: every data shard has been delivered
        self._waiting: dict[int, Group] = {}
        self._top = 0
        self._size = 0

    def next_timeout(self) -> float | None:
        """Return when a group is to be given up, or None."""
        return next(iter(self._waiting.values())).born + PATIENCE if self._waiting else None

    def expire(self, now: float) -> None:
        """Give up groups that have waited for too long."""
        while self._waiting:
            group = next(iter(self._waiting.values()))
            if group.born + PATIENCE > now:
                return
            self._give_up(group)

    def number(self, low: int) -> int:
        """Return the full number of a group."""
        number = expand(low, self._top)
        if number > self._top:
            self._top = number
        return number

    def is_done(self, low: int) -> bool:
        """Whether nothing is left to be done for a group: parity has nothing to repair."""
        try:
            group = self._groups[expand(low, self._top)]
        except KeyError:
            return False
        return group is None or group.data is None

    def whole(self, number: int, count: int = 1) -> bool:
        """Take note that all data shards of `count` groups have come at once. False when one is known already."""
        numbers = range(number, number + count)
        if number <= self._top - REMEMBERED or any(each in self._groups for each in numbers):
            return False
        self._top = max(self._top, numbers[-1])
        for each in numbers:
            self._remember(each, None)
        return True

    def take_data(self, low: int, used: int, index: int, k: int, m: int, row: bytes, now: float) -> bool:
        """Take a data shard; say whether its frame is to be delivered. `row` is its coded row."""
        stats = self._stats
        group = self._find(low, used, k, m, now)
        if group is None:
            stats.late += 1
            return False
        if not self._agrees(group, used, k, m) or index >= (group.used or k):
            stats.refused += 1
            return False
        bit = 1 << index
        if group.have & bit:
            stats.late += 1
            return False
        group.have |= bit
        group.highest = max(group.highest, index)
        if group.data is not None:
            self._keep(group, group.data, index, row)
            if group.have == (1 << (group.used or k)) - 1:
                stats.wasted += len(group.parity)
                self._finish(group)
        return True

    def mark(self, low: int, used: int, indices: Sequence[int], k: int, m: int, now: float) -> Group | None:
        """Take note of data shards of one group, all to be delivered; what `keep` is to be given follows from `data`.

        None where they have to be taken one by one; nothing was done then.
        """
        group, mask = self._find(low, used, k, m, now), 0
        for index in indices:
            mask |= 1 << index
        if group is None or group.have & mask or mask.bit_count() != len(indices):
            return None
        if not self._agrees(group, used, k, m) or mask >> (group.used or k):
            return None
        group.have |= mask
        group.highest = max(group.highest, mask.bit_length() - 1)
        if group.data is not None and group.have == (1 << (group.used or k)) - 1:
            self._stats.wasted += len(group.parity)
            self._finish(group)
        return group

    def keep(self, group: Group, indices: Sequence[int], rows: Sequence[Row]) -> None:
        """Keep the coded rows of data shards that were marked."""
        if group.data is not None:
            group.data.update(zip(indices, rows, strict=True))
            self._grow(group, sum(map(len, rows)) + len(rows) * _ENTRY)

    def take_parity(
        self, low: int, used: int, index: int, k: int, m: int, row: bytes, now: float
    ) -> list[tuple[int, bytes]]:
        """Take a parity shard; return the frames that can be made again with it, by index."""
        stats = self._stats
        group = self._find(low, used, k, m, now)
        if group is None:
            stats.wasted += 1
            return []
        if not used or not self._agrees(group, used, k, m) or index >= m or used <= group.highest:
            stats.refused += 1
            return []
        group.used = used
        if group.data is None or group.have == (1 << used) - 1:
            stats.wasted += 1
            self._finish(group)
            return []
        if index not in group.parity:
            self._keep(group, group.parity, index, row)
        return self._recover(group, now)

    def _recover(self, group: Group, now: float) -> list[tuple[int, bytes]]:
        """Make again what is missing, if there is enough."""
        data, parity, k, used = group.data, group.parity, group.k, group.used
        mds = self._codes.residual is None
        if data is None or (mds and len(data) + len(parity) < used):
            return []
        code = self._codes.get(k, group.m)
        length = max(map(len, parity.values()))
        if (
            code is None
            or any(len(row) != length for row in parity.values())
            or max(map(len, data.values()), default=0) > length
        ):
            self._stats.refused += 1
            self._finish(group)
            return []
        rows = np.zeros((k + group.m, length), np.uint8)
        present = [False] * used + [True] * (k - used) + [False] * group.m
        for place, row in [*data.items(), *((k + j, row) for j, row in parity.items())]:
            rows[place, length - len(row) :] = np.frombuffer(row, np.uint8)
            present[place] = True
        whole = code.recover(rows, present)
        found = [
            (index, rows[index].tobytes()) for index in range(used) if present[index] and not group.have >> index & 1
        ]
        if found:
            stats, delay = self._stats, now - group.born
            stats.recovered += len(found)
            stats.delay += delay * len(found)
            stats.longest_delay = max(stats.longest_delay, delay)
            group.recovered += len(found)
        for index, row in found:
            group.have |= 1 << index
            if group.data is not None and not whole:
                self._keep(group, group.data, index, row)
        if whole:
            self._stats.wasted += max(0, len(parity) - group.recovered)
            self._finish(group)
        return found

    # ---------------------------------------------------------------- bookkeeping

    def _find(self, low: int, used: int, k: int, m: int, now: float) -> Group | None:
        """Return a group, perhaps a new one. None when there is nothing left to be done for it, or it is too old."""
        number = self.number(low)
        try:
            return self._groups[number]
        except KeyError:
            pass
        if number <= self._top - REMEMBERED:
            return None
        group = Group(number, k, m, now)
        group.used = used
        self._remember(number, group)
        self._waiting[number] = group
        return group

    @staticmethod
    def _agrees(group: Group, used: int, k: int, m: int) -> bool:
        return group.k == k and group.m == m and used <= k and (not used or not group.used or used == group.used)

    def _remember(self, number: int, group: Group | None) -> None:
        if len(self._groups) >= REMEMBERED:
            oldest = self._groups.pop(next(iter(self._groups)))
            if oldest is not None:
                self._give_up(oldest)
        self._groups[number] = group

    def _keep(self, group: Group, rows: dict[int, Row], index: int, row: Row) -> None:
        rows[index] = row
        self._grow(group, len(row) + _ENTRY)

    def _grow(self, group: Group, size: int) -> None:
        group.size += size
        self._size += size
        while self._size > MOST_BYTES:
            self._give_up(next(iter(self._waiting.values())))

    def _give_up(self, group: Group) -> None:
        """Take what is missing of a group for lost."""
        if group.data is not None:
            expected = group.used or group.highest + 1
            self._stats.lost += max(0, expected - group.have.bit_count())
            self._finish(group)

    def _finish(self, group: Group) -> None:
        """Free what is kept of a group; what has been delivered stays known."""
        if group.data is not None:
            self._size -= group.size
            group.data, group.parity, group.size = None, {}, 0
            self._waiting.pop(group.number, None)


def frame_of(row: bytes) -> bytes | None:
    """Take the frame out of a recovered row; None when the row is none."""
    length = int.from_bytes(row[-LENGTH:], "big")
    start = len(row) - LENGTH - length
    if length == 0 or start < 0 or row.count(0, 0, start) != start:
        return None
    return row[start:-LENGTH]
