"""Telling peers what has arrived from them, so that they can judge the path. Twice a second, while they send.

A report of new losses goes twice: the way back may lose as much. Where FEC waits for it the first losses are told at
once, those that follow each time later, until they are told with all else. Where datagrams overtake each other nobody
knows at once what is lost and what is late. Told at once is also what comes first after a while: that nothing of it was
lost, and how long a round trip takes before there is a queue.
"""

from __future__ import annotations

from collections.abc import Mapping

from ltunnel.plugin import Flow
from ltunnel.session import Epoch
from ltunnel.wire.frames import Report

INTERVAL = 0.5
LEAST = 64
"""Datagrams that a report covers at least, unless FEC waits for it."""
AT_ONCE = 0.008
"""Seconds for which the first losses are gathered; twice as long each time."""
FIRST = 40
"""Datagrams that are told of at once if no report was sent for `QUIET` seconds."""
QUIET = 3.0
HASTE = 6
"""How often losses are told before their turn, until it has been quiet for as many reports."""
_WHOLE = -1  # in place of a number of late ones: nothing is lost

_Reports = list[tuple[int, Flow, bytes]]


class Reporter:
    """Knows when reports are due and makes them. `hastes`: first losses are told before their turn."""

    __slots__ = ("_due", "_hastes", "_least", "_news", "_sessions")

    def __init__(self, sessions: Mapping[int, Epoch], least: int = LEAST, *, hastes: bool = False) -> None:
        self._sessions = sessions
        self._least = least
        self._hastes = hastes
        self._due: float | None = None
        self._news: dict[Epoch, tuple[float, int]] = {}  # when losses are to be told, how many were late before

    def heard(self, epoch: Epoch, now: float) -> None:
        """Take note that something was accepted."""
        epoch.heard = now
        if self._due is None:
            self._due = now + INTERVAL
        if self._hastes and epoch not in self._news:
            if _missing(epoch) > epoch.reported_lost and epoch.haste < HASTE:
                self._news[epoch] = now + AT_ONCE * (1 << epoch.haste), epoch.window.late
            elif _is_first(epoch, now):
                self._news[epoch] = now + AT_ONCE, _WHOLE

    def next_timeout(self) -> float | None:
        """Return when `take` has something, or None."""
        if not self._news:
            return self._due
        news = min(due for due, _ in self._news.values())
        return news if self._due is None else min(news, self._due)

    def take(self, now: float) -> _Reports:
        """Return the reports that are due: (transport, flow, datagram)."""
        reports: _Reports = []
        for epoch in [epoch for epoch, (due, _) in self._news.items() if due <= now]:
            _, late = self._news.pop(epoch)
            if self._sessions.get(epoch.local_index) is not epoch:
                continue
            if _missing(epoch) > epoch.reported_lost:
                epoch.haste += 1
                if epoch.window.late == late:
                    reports += self._of(epoch, now)
            elif late == _WHOLE and _is_first(epoch, now):
                reports += self._of(epoch, now)
        if self._due is not None and self._due <= now:
            self._due = None
            for epoch in self._sessions.values():
                if epoch.window.accepted - epoch.reported >= self._least:
                    if epoch.haste and _missing(epoch) <= epoch.reported_lost:
                        epoch.haste -= 1
                    reports += self._of(epoch, now)
        return reports

    @staticmethod
    def _of(epoch: Epoch, now: float) -> _Reports:
        """Tell the peer of an epoch what has arrived; nothing where that cannot be."""
        window, path = epoch.window, epoch.peer.path
        if path is None or path.budget is not None or not epoch.usable(now):
            return []
        lost = _missing(epoch)
        report = Report(window.top + 1, window.accepted, min(window.gaps, lost), int((now - epoch.heard) * 1e6))
        copies = 2 if lost > epoch.reported_lost else 1
        epoch.reported, epoch.reported_lost, epoch.told = window.accepted, lost, now
        return [(path.transport, path.flow, epoch.seal_frame(report.TYPE, report.pack())) for _ in range(copies)]


def _is_first(epoch: Epoch, now: float) -> bool:
    """Whether so many have come as are told of at once after a while."""
    return epoch.window.accepted - epoch.reported >= FIRST and now - epoch.told >= QUIET


def _missing(epoch: Epoch) -> int:
    """How many counters below the highest have not come."""
    return epoch.window.top + 1 - epoch.window.accepted
