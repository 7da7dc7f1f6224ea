"""Whether a queue stands on the way to a peer: from when datagrams were sent, and when it was heard that they came.

A report names the highest counter that had arrived. How long ago that was sent is a round trip, with the queue that the
datagram stood in. No clock of the peer's is needed, nor anything on the wire.
"""

from __future__ import annotations

from collections import deque

STEP = 0.001
"""Seconds between notes of counters at least."""
NOTES = 4096
LEAST = 0.001
SHARE = 0.25
"""A round trip tells of a queue if it exceeds the shortest one by this share of it, and by `LEAST` seconds."""
DRIFT = 0.001
"""How fast the shortest round trip is forgotten, per report: by half in six minutes, as routes change."""


class Delays:
    """Round trips of one path."""

    __slots__ = ("_notes", "shortest")

    def __init__(self) -> None:
        self._notes: deque[tuple[int, float]] = deque(maxlen=NOTES)
        self.shortest = float("inf")
        """Seconds of the shortest round trip lately; infinite before the first report."""

    def sent(self, counter: int, now: float) -> None:
        """Take note of when a counter is used."""
        notes = self._notes
        if not notes or now - notes[-1][1] >= STEP:
            notes.append((counter, now))

    def restart(self) -> None:
        """Forget counters: new keys count from 0."""
        self._notes.clear()

    def took(self, trip: float) -> None:
        """Take a round trip that was measured otherwise, in seconds."""
        self.shortest = min(self.shortest, trip)

    def heard(self, top: int, gap: float, now: float) -> bool:
        """Take a report of the highest counter that has arrived; say whether that one stood in a queue.

        `gap` is the mean time between datagrams: as long as that the report itself may have waited.
        """
        notes = self._notes
        while len(notes) > 1 and notes[1][0] <= top:
            notes.popleft()
        if len(notes) < 2 or notes[0][0] > top:
            return False  # it may have been sent at any time since the last note
        longest, least = now - notes[0][1], now - notes[1][1] - gap
        shortest = self.shortest
        if longest < shortest:
            self.shortest = longest
            return False
        self.shortest += DRIFT * (longest - shortest)
        return least - shortest > max(LEAST, SHARE * shortest)
