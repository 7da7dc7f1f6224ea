"""Flows of candidates: opened when they are needed, opened anew when they do not work, closed when they are not used.

Transports keep one flow for an address until it is closed, so a new one begins with closing the old one.
"""

from __future__ import annotations

from ltunnel.control.candidates import Candidate, Dial, HangUp
from ltunnel.control.context import Context
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow

REDIAL = 6.0
"""A flow that is so old (seconds) and was not heard for so long is opened anew when it is needed."""
FIRST_WAIT = 0.05
"""Seconds between attempts to send on a flow that has just begun to open."""
LONGEST_WAIT = 0.5
_QUICK = 20
_FACTOR = 1.25


class Dialling:
    """Orders for the owner (`Context.calls`), and what is known of their outcome."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def reach(self, candidate: Candidate, now: float, *, may_renew: bool) -> bool:
        """Whether there is a flow to send on. If not, one is asked for, and `dialled` comes next."""
        if candidate.flow is not None and may_renew and self._stale(candidate, now):
            self.hang_up(candidate)
        if candidate.flow is None:
            if not candidate.dialling or now - candidate.dialled >= REDIAL:
                candidate.dialling, candidate.dialled = True, now
                self._ctx.calls.append(Dial(candidate.transport, candidate.address))
            return False
        self._ctx.timers.set(Timer.HANG_UP, candidate, now + Timer.HANG_UP.schedule.first)
        return True

    def dialled(self, candidate: Candidate, flow: Flow, now: float) -> None:
        """Take the flow that was asked for."""
        candidate.flow = flow
        candidate.place = self._ctx.describe(candidate.transport, flow)
        candidate.dialling = False
        candidate.dialled = now
        candidate.refusals = 0
        self._ctx.timers.set(Timer.HANG_UP, candidate, now + Timer.HANG_UP.schedule.first)

    def hang_up(self, candidate: Candidate) -> None:
        """Close a candidate's flow, if there is one."""
        self._ctx.timers.cancel(Timer.HANG_UP, candidate)
        if candidate.flow is not None:
            self._ctx.calls.append(HangUp(candidate.transport, candidate.flow))
            candidate.flow = None

    def wait(self, candidate: Candidate) -> float:
        """Return after how many seconds to try again what the transport did not send: it costs nothing on the wire."""
        wait = FIRST_WAIT * _FACTOR ** min(max(0, candidate.refusals - _QUICK), 16)
        candidate.refusals += 1
        return min(LONGEST_WAIT, wait)

    def _stale(self, candidate: Candidate, now: float) -> bool:
        silent = candidate.heard is None or now - candidate.heard >= REDIAL
        return silent and now - candidate.dialled >= REDIAL
