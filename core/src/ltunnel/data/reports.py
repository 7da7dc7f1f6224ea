"""Telling peers what has arrived from them, so that they can judge the path. Twice a second, while they send.

A report of new losses goes twice: the way back may lose as much.
"""

from __future__ import annotations

from collections.abc import Mapping

from ltunnel.plugin import Flow
from ltunnel.session import Epoch
from ltunnel.wire.frames import Report

INTERVAL = 0.5
LEAST = 64
"""Datagrams that a report covers at least, unless FEC waits for it."""


class Reporter:
    """Knows when reports are due and makes them."""

    __slots__ = ("_due", "_least", "_sessions")

    def __init__(self, sessions: Mapping[int, Epoch], least: int = LEAST) -> None:
        self._sessions = sessions
        self._least = least
        self._due: float | None = None

    def heard(self, now: float) -> None:
        """Take note that something was accepted."""
        if self._due is None:
            self._due = now + INTERVAL

    def next_timeout(self) -> float | None:
        """Return when `take` has something, or None."""
        return self._due

    def take(self, now: float) -> list[tuple[int, Flow, bytes]]:
        """Return the reports that are due: (transport, flow, datagram)."""
        if self._due is None or now < self._due:
            return []
        self._due = None
        reports = []
        for epoch in self._sessions.values():
            accepted, path = epoch.window.accepted, epoch.peer.path
            if (
                accepted - epoch.reported < self._least
                or path is None
                or path.budget is not None
                or not epoch.usable(now)
            ):
                continue
            epoch.reported = accepted
            window = epoch.window
            lost = window.top + 1 - accepted
            report = Report(window.top + 1, accepted, min(window.gaps, lost))
            copies = 2 if lost > epoch.reported_lost else 1
            epoch.reported_lost = lost
            for _ in range(copies):
                reports.append((path.transport, path.flow, epoch.seal_frame(report.TYPE, report.pack())))
        return reports
