"""What the paths to one destination have done: one that failed in use has to hold before it is used again."""

from __future__ import annotations

FIRST_HOLD = 2.0
LONGEST_HOLD = 32.0
"""Seconds that a path must work after it has failed; twice as long each time, between these two."""
FORGIVEN = 300.0
"""A path that was in use for so long has made up for all failures."""


class _Record:
    __slots__ = ("failures", "since", "taken")

    def __init__(self, now: float) -> None:
        self.since: float | None = now  # since when it has worked; None while it does not
        self.failures = 0
        self.taken = now  # when it was last chosen


class History:
    """Records by path number."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}

    def look(self, offered: set[int], used: int | None, now: float) -> None:
        """Take note of which paths work now, and of the one that was in use until now."""
        for number, record in list(self._records.items()):
            if number in offered:
                if record.since is None:
                    record.since = now
            elif record.since is not None:
                record.since = None
                if number == used:
                    record.failures = 1 if now - record.taken >= FORGIVEN else record.failures + 1
        for number in offered - self._records.keys():
            self._records[number] = _Record(now)
        for number in [number for number in self._records if number not in offered][:-64]:
            del self._records[number]

    def take(self, number: int, now: float) -> None:
        """Take note that a path is chosen."""
        self._records[number].taken = now

    def held(self, number: int, now: float) -> bool:
        """Whether a path has worked for long enough to be trusted again."""
        record = self._records[number]
        if not record.failures:
            return True
        hold = min(LONGEST_HOLD, FIRST_HOLD * 2 ** min(record.failures - 1, 16))
        return record.since is not None and now - record.since >= hold
