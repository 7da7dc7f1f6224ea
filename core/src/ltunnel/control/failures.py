"""Handshakes that do not verify, counted as they come and told now and then; the words are in `diagnosis`."""

from __future__ import annotations

from ltunnel.control.context import Context
from ltunnel.control.diagnosis import FailureReport
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Drop

_FIRST_REPORT = 1.0
"""Seconds from the first handshake that does not verify to the first line about it."""


class Failures:
    """Drops what cannot be put down to a peer, and says once a minute who sends what does not verify."""

    __slots__ = ("_ctx", "_report", "_reported")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._report = FailureReport()
        self._reported = float("-inf")

    def __len__(self) -> int:
        """Return how many addresses the next report knows of."""
        return len(self._report)

    def drop(self, reason: Drop, transport: int, flow: Flow, now: float) -> None:
        """Count a datagram that was dropped."""
        ctx = self._ctx
        ctx.stats.drop(reason)
        if reason not in (Drop.MAC, Drop.STACK):
            return
        self._report.count(ctx.describe(transport, flow), reason)
        if ctx.timers.when(Timer.REPORT, None) is None:
            after = self._reported + Timer.REPORT.schedule.first
            ctx.timers.set(Timer.REPORT, None, max(now + _FIRST_REPORT, after))

    def report_due(self, now: float) -> None:
        """REPORT: tell the owner."""
        self._reported = now
        self._ctx.events.extend(self._report.take(self._ctx.settings.keys, self._ctx.settings.cipher))
