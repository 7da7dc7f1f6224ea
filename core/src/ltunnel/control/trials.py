"""Asking a candidate inside the session: PROBEs over its flow, which the hub answers without moving there.

search     every candidate but the one in use, which is silent: the first answer decides; goes on, ever slower
comeback   the preferred ones, now and then: three answers in a row, or three misses
"""

from __future__ import annotations

from ltunnel.control.candidates import Candidate, ProbeSent, Standing, Trial
from ltunnel.control.context import Context
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Path, Peer
from ltunnel.wire.frames import TOKEN_SIZE, Probe

IN_A_ROW = 3
"""Answers that bring a session back to a preferred candidate."""
MISSES = 3
"""So many unanswered PROBEs make a candidate dead."""
GAP = 0.5
"""Seconds from an answer to the next PROBE."""
OPENING = 4.0
"""A flow that has not opened after so many seconds counts as one that does not answer."""
_SENT_LIMIT = 8


class Trials:
    """Runs trials, one for each candidate at most. The caller sees to it that there is a flow."""

    __slots__ = ("_ctx",)

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    def begin(self, candidate: Candidate, now: float, *, goal: int, search: bool, after: float = 0.0) -> None:
        """Begin, in place of any trial under way."""
        candidate.trial = Trial(goal=goal, search=search, began=now + after)
        self._ctx.timers.set(Timer.TRIAL, candidate, now + after)

    def end(self, candidate: Candidate) -> None:
        """Stop; late answers mean nothing."""
        candidate.trial = None
        self._ctx.timers.cancel(Timer.TRIAL, candidate)
        if candidate.standing is Standing.TRYING:
            candidate.standing = Standing.UNKNOWN

    def count_miss(self, candidate: Candidate, trial: Trial, now: float) -> bool:
        """Judge what has come until now; False when the trial has failed."""
        if trial.asked:
            trial.asked = False
            trial.misses += 1
            trial.row = candidate.refusals = 0
        shut = candidate.refusals > 0 and now - trial.began >= OPENING
        if trial.misses < MISSES and not shut:
            if candidate.standing is not Standing.WORKING:
                candidate.standing = Standing.TRYING
            return True
        candidate.standing = Standing.DEAD
        return trial.search

    def ask(self, candidate: Candidate, trial: Trial, peer: Peer, now: float) -> None:
        """Send the next PROBE, and plan to look again when its answer should be there."""
        ctx = self._ctx
        token = ctx.random(TOKEN_SIZE)
        path = Path(candidate.transport, candidate.flow)
        if peer.epoch is not None and ctx.send_frame(peer.epoch, path, Probe(token), now):
            if len(trial.sent) >= _SENT_LIMIT:
                del trial.sent[next(iter(trial.sent))]
            trial.sent[token] = ProbeSent(now, candidate.flow)
            trial.asked = True
        patience = Timer.TRIAL.schedule.delay(trial.misses, ctx.random)
        rtt = candidate.rtt or peer.rtt or 0.0
        ctx.timers.set(Timer.TRIAL, candidate, now + max(patience, min(2.0, 2.0 * rtt)))

    def refused(self, candidate: Candidate, wait: float, now: float) -> None:
        """Take note that the last PROBE did not leave: send another in `wait` seconds."""
        trial = candidate.trial
        if trial is not None and trial.asked and next(reversed(trial.sent.values())).sent == now:
            trial.sent.popitem()
            trial.asked = False
            self._ctx.timers.set(Timer.TRIAL, candidate, now + wait)

    def answer(self, candidate: Candidate, token: bytes, flow: Flow, now: float) -> bool:
        """Take a PONG; False if it answers no PROBE of this trial."""
        trial = candidate.trial
        sent = None if trial is None else trial.sent.get(token)
        if trial is None or sent is None or sent.flow != flow:
            return False
        del trial.sent[token]
        candidate.answered(now, now - sent.sent)
        trial.asked = False
        trial.row += 1
        trial.ready = trial.row >= trial.goal
        if trial.ready:
            self._ctx.timers.cancel(Timer.TRIAL, candidate)
        else:
            self._ctx.timers.set(Timer.TRIAL, candidate, now + GAP)
        return True
