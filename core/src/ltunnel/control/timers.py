"""The table of timers: what each one waits for and how long, and the queue that says which is due.

All durations are seconds of monotonic time. Jitter keeps many nodes that lost one hub from coming back as one burst.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from enum import Enum
from itertools import count
from typing import NamedTuple

from ltunnel.constants import OLD_EPOCH_TIME, REKEY_AFTER_TIME
from ltunnel.control.settings import Random


class Schedule(NamedTuple):
    """How a timer repeats: wait `first`, then `factor` times longer each time, at most `cap`; vary by +-`jitter`."""

    first: float
    factor: float = 1.0
    cap: float = 3600.0
    jitter: float = 0.0

    def delay(self, tries: int, random: Random) -> float:
        """Return how long to wait after the try number `tries` (0 is the first)."""
        plain = min(self.cap, self.first * self.factor ** min(tries, 64))
        return plain * (1.0 + self.jitter * (2.0 * uniform(random) - 1.0))


def uniform(random: Random) -> float:
    """Return a number in [0, 1) from a source of random bytes."""
    return int.from_bytes(random(4), "big") / (1 << 32)


class Timer(Enum):
    """What a timer is for. The value is its schedule; keepalive and silence come from the settings instead."""

    INIT = ("an INIT was not answered: send another, with a fresh ephemeral key", Schedule(0.4, 1.25, 3.0, 0.15))
    CONFIRM = ("a CONFIRM was not answered by WELCOME: send the same bytes again", Schedule(0.3, 1.25, 1.0, 0.1))
    REKEY = ("the initiator of an epoch makes the next one", Schedule(REKEY_AFTER_TIME, jitter=0.02))
    REKEY_LATE = ("the responder does it when the initiator did not", Schedule(REKEY_AFTER_TIME + 15.0, jitter=0.02))
    EPOCHS = ("an epoch that was replaced, or never confirmed, is forgotten", Schedule(OLD_EPOCH_TIME))
    KEEPALIVE = ("nothing passed for `keepalive` seconds: PING the hub", Schedule(1.0, jitter=0.0))
    WATCH = ("data was sent and nothing heard: start probing", Schedule(3.0))
    PROBE = ("a probing PING was not answered: send another", Schedule(0.5))
    VALIDATE = ("a new path has not answered: PING it again", Schedule(0.25, 1.5, 2.0))
    SILENCE = ("nothing heard for `timeout` seconds: the peer is gone", Schedule(1.0))
    RETRY = ("the hub refused us: ask again", Schedule(30.0, jitter=0.1))
    RECONNECT = ("the hub said BYE: connect again", Schedule(1.0, 2.0, 8.0, 0.3))
    RACE = ("the next candidate gets its INIT", Schedule(0.3))
    TRIAL = ("a PROBE was not answered: send another", Schedule(0.5, 1.5, 3.0))
    COMEBACK = ("the candidate in use is not the preferred one: try those that are", Schedule(10.0, 2.0, 60.0, 0.1))
    HANG_UP = ("a candidate's flow is not used: close it", Schedule(10.0))
    INTRODUCE = ("a node was told of others: tell it again, in case that was lost", Schedule(1.0, 4.0))
    UNNAMED = ("the hub was met anew and has not named a node again: it is gone", Schedule(30.0))
    IDLE = ("see whether anything passes between this node and another", Schedule(30.0))
    WAY = ("a path to a neighbour: judge the last round of probes, send the next", Schedule(0.5))
    ASK = ("a probe that discovery asked for did not leave: send it again", Schedule(0.05, 1.25, 0.5))
    SOUND = ("a large probe between node and hub was not answered: another, or smaller", Schedule(0.5))
    GLANCE = ("look at the traffic with neighbours, and whether it is answered", Schedule(1.0))
    MESH = ("links of the mesh have changed, or it is time to tell of them", Schedule(1.0))
    AGENT = ("the discovery agent wants to do something", Schedule(1.0))
    NETWORKS = ("a network is refused since somebody is reached in it: see whether that is so", Schedule(60.0))
    HALF_OPEN = ("a RESP was not answered by CONFIRM: forget the handshake", Schedule(6.0))
    REPORT = ("say once a minute who sends handshakes that do not verify", Schedule(60.0))

    def __init__(self, meaning: str, schedule: Schedule) -> None:
        self.meaning = meaning
        self.schedule = schedule


Key = tuple[Timer, Hashable]
"""A timer and whose it is: a session, a candidate, or None for the whole control side."""


class TimerQueue:
    """Deadlines by key; each key has one. Setting, cancelling and asking for the next are O(log n) or better."""

    __slots__ = ("_deadlines", "_heap", "_serial")

    def __init__(self) -> None:
        self._deadlines: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []  # holds stale entries too, told apart by their serial
        self._serial = count()

    def set(self, timer: Timer, owner: Hashable, when: float) -> None:
        """Let a timer fall due at `when`, instead of whenever it was due."""
        key = (timer, owner)
        serial = next(self._serial)
        self._deadlines[key] = (when, serial)
        heapq.heappush(self._heap, (when, serial, key))
        if len(self._heap) > 64 + 4 * len(self._deadlines):
            self._heap = [(when, serial, key) for key, (when, serial) in self._deadlines.items() if serial >= 0]
            heapq.heapify(self._heap)

    def cancel(self, timer: Timer, owner: Hashable) -> None:
        """Stop a timer, whether or not it runs."""
        self._deadlines.pop((timer, owner), None)

    def cancel_all(self, owner: Hashable) -> None:
        """Stop every timer of an owner."""
        for timer in Timer:
            self._deadlines.pop((timer, owner), None)

    def when(self, timer: Timer, owner: Hashable) -> float | None:
        """Return when a timer falls due, or None if it does not run."""
        entry = self._deadlines.get((timer, owner))
        return None if entry is None else entry[0]

    def next(self) -> float | None:
        """Return when the earliest timer falls due, or None."""
        heap, deadlines = self._heap, self._deadlines
        while heap:
            when, serial, key = heap[0]
            entry = deadlines.get(key)
            if entry is not None and entry[1] == serial:
                return when
            heapq.heappop(heap)
        return None

    def due(self, now: float) -> list[Key]:
        """Return the timers that are due, the earliest first. `take` each before acting on it: others may stop it."""
        found: list[Key] = []
        while (when := self.next()) is not None and when <= now:
            found.append(heapq.heappop(self._heap)[2])
            self._deadlines[found[-1]] = (when, -1)  # out of the heap, but still running until taken
        return found

    def take(self, key: Key, now: float) -> bool:
        """Stop a timer if it is due; False if it was stopped or set anew since."""
        entry = self._deadlines.get(key)
        if entry is None or entry[0] > now:
            return False
        del self._deadlines[key]
        return True
