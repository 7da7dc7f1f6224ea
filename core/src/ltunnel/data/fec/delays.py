"""Whether a queue stands on the way to a peer: from when datagrams were sent, and when it was heard that they came.

A report names the highest counter that had arrived, and how long it waited after that. The rest of the time since that
counter was used is a round trip, with the queue that the datagram stood in. No clock of the peer's is needed.

A queue makes round trips longer, and it stands: they stay so from one report to the next. On a line with jitter they
are now long, now short; what its jitter explains is no queue.
"""

from __future__ import annotations

from collections import deque
from statistics import median

STEP = 0.001
"""Datagrams sent within so many seconds share a note."""
NOTES = 4096
LEAST = 0.001
SHARE = 0.25
"""A round trip tells of a queue if it exceeds the shortest one by this share of it, and by `LEAST` seconds."""
LOOSE = 0.004
"""Seconds by which a round trip may be uncertain."""
JITTER = 4.0
"""And by so many times what the round trips of one report and the next differ by (median)."""
TRIPS = 16
"""Round trips from which that is known, half of them at least."""
DRIFT = 0.001
"""How fast the shortest round trip is forgotten, per report: by half in six minutes, as routes change."""


class _Note:
    __slots__ = ("end", "first", "when")

    def __init__(self, first: int, when: float) -> None:
        self.first = first
        self.end = first
        self.when = when


class Delays:
    """Round trips of one path."""

    __slots__ = ("_notes", "_steps", "_trip", "queued", "shortest")

    def __init__(self) -> None:
        self._notes: deque[_Note] = deque(maxlen=NOTES)
        self._steps: deque[float] = deque(maxlen=TRIPS)
        self._trip: float | None = None
        self.shortest = float("inf")
        """Seconds of the shortest round trip lately; infinite before the first report."""
        self.queued = False
        """Whether what arrived last had stood in a queue."""

    def begin(self, counter: int, now: float) -> None:
        """Take note that datagrams are sent from a counter on; `end` follows, at the same time."""
        notes = self._notes
        if not notes or now - notes[-1].when >= STEP or notes[-1].end < counter:
            notes.append(_Note(counter, now))

    def end(self, counter: int) -> None:
        """Take note that all below a counter has been sent."""
        self._notes[-1].end = counter

    def restart(self) -> None:
        """Forget counters: new keys count from 0."""
        self._notes.clear()

    def took(self, trip: float) -> None:
        """Take a round trip that was measured otherwise, in seconds."""
        self.shortest = min(self.shortest, trip)

    def heard(self, top: int, held: float, now: float) -> bool:
        """Take a report of the highest counter that has arrived; say whether that one stood in a queue.

        `held` is how many seconds after that the report was sent.
        """
        notes = self._notes
        while len(notes) > 1 and notes[1].first <= top:
            notes.popleft()
        if not notes or top < notes[0].first:
            return self.queued  # forgotten
        trip = now - notes[0].when - held
        if top < notes[0].end:
            least = trip - STEP
        elif len(notes) > 1:  # sent by others than the data path, before what that has sent next
            least = now - notes[1].when - held
        else:
            return self.queued
        shortest = self.shortest
        jitter = JITTER * median(self._steps) if len(self._steps) >= TRIPS // 2 else 0.0
        queued = least - shortest > max(LEAST, SHARE * shortest, jitter)
        if trip - least > LOOSE and not queued:
            return self.queued
        self.queued = queued
        if self._trip is not None:
            self._steps.append(abs(trip - self._trip))
        self._trip = trip
        if trip < shortest:
            self.shortest = max(0.0, trip)
        else:
            self.shortest += DRIFT * (trip - shortest)
        return queued
