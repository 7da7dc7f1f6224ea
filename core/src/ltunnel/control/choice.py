"""Which of the candidates to the hub a session uses.

    no session    INITs over all of them, 0.3 s apart in order of preference, each a handshake of its own: the first
                  answer decides (as RFC 8305 does it for addresses)
    in doubt      the one in use is silent: PROBEs over the others, the first answer takes the session along
    a lesser one  the preferred ones are asked now and then, and taken when they answer three times in a row

A candidate that went dead soon after the session had come back to it is left alone for a while, longer each time.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.control.candidates import Candidate, Dial, HangUp, Standing
from ltunnel.control.context import Context
from ltunnel.control.dialling import Dialling
from ltunnel.control.initiation import Initiation
from ltunnel.control.liveness import Liveness
from ltunnel.control.paths import Paths
from ltunnel.control.session import Attempt, Pending, Session
from ltunnel.control.states import AWAITING_RESP, AWAITING_WELCOME
from ltunnel.control.timers import Timer
from ltunnel.control.trials import IN_A_ROW, OPENING, Trials
from ltunnel.plugin import Address, Flow
from ltunnel.session import Path

STAGGER = Timer.RACE.schedule.first
_UNANSWERED = 3
_LOST_PINGS = 1


class Choice:
    """A node's candidates, and the one that its session uses."""

    __slots__ = (
        "_ctx", "_dialling", "_initiation", "_last", "_liveness", "_paths", "_rounds", "_session", "_trials",
        "candidates", "reason",
    )  # fmt: skip

    def __init__(
        self, ctx: Context, liveness: Liveness, paths: Paths, initiation: Initiation, session: Session
    ) -> None:
        self._ctx = ctx
        self._liveness = liveness
        self._paths = paths
        self._initiation = initiation
        self._session = session
        self._dialling = Dialling(ctx)
        self._trials = Trials(ctx)
        self._last: str | None = None  # the transport that was last in use
        self._rounds = 0  # comebacks tried since the last change
        self.candidates: list[Candidate] = []
        """In order of preference; one for each transport at most."""
        self.reason: str | None = None
        """Why the one in use was chosen, in words."""

    @property
    def current(self) -> Candidate | None:
        """The candidate that the session uses, or used last."""
        path = None if self._session.peer is None else self._session.peer.path
        return None if path is None else self._of(path.transport)

    @property
    def used(self) -> str | None:
        """The name of the transport in use."""
        current = self.current
        return None if current is None or not self._session.in_use else current.name

    # ---------------------------------------------------------------- the owner's side

    def set(self, paths: Sequence[tuple[int, Address]], now: float) -> bool:
        """Use these (transport, address) from now on; False if they are the same as before."""
        known = {(candidate.transport, candidate.address): candidate for candidate in self.candidates}
        if list(known) == list(paths):
            return False
        used = self.current if self._session.in_use else None
        names = self._ctx.transports
        self.candidates = [
            known.pop(path) if path in known else Candidate(path[0], names[path[0]], path[1]) for path in paths
        ]
        for candidate in known.values():
            self._trials.end(candidate)
            self._dialling.hang_up(candidate)
            self._ctx.timers.cancel_all(candidate)
            if candidate is used and (successor := self._of(candidate.transport)) is not None:
                successor.takes_over = True
                self._dialling.reach(successor, now, may_renew=False)
        if used is not None and (current := self.current) is not None:
            self._plan_comeback(current, now)
        return True

    def dialled(self, dial: Dial, flow: Flow, now: float) -> None:
        """Take a flow that was asked for."""
        candidate = self._of(dial.transport)
        if candidate is None or candidate.address != dial.address or not candidate.dialling:
            self._ctx.calls.append(HangUp(dial.transport, flow))
            return
        self._dialling.dialled(candidate, flow, now)
        if candidate.takes_over:
            candidate.takes_over = False
            self._take_over(candidate, now)
        if self._ctx.timers.when(Timer.RACE, candidate) is None:
            self._race_due(candidate, now)
        if candidate.trial is not None and self._ctx.timers.when(Timer.TRIAL, candidate) is None:
            self._trial_due(candidate, now)

    def refused(self, transport: int, flow: Flow, now: float) -> None:
        """Take note that a transport did not send: the flow is still opening, or there is no way out."""
        candidate = self._of(transport)
        if candidate is None or candidate.flow != flow:
            return
        wait = self._dialling.wait(candidate)
        self._trials.refused(candidate, wait, now)
        if candidate.asked == now and self._racing:
            candidate.asked = None
            candidate.inits -= 1
            if now - candidate.dialled >= OPENING:
                candidate.standing = Standing.DEAD
            self._initiation.withdraw(self._session, transport, now)
            self._ctx.timers.set(Timer.RACE, candidate, now + wait)

    def network_changed(self, now: float) -> None:
        """Forget what was learnt of candidates; the flows that are not in use belong to the old network."""
        used = self.current if self._session.in_use else None
        for candidate in self.candidates:
            candidate.forgive()
            if candidate is not used:
                self._trials.end(candidate)
                self._dialling.hang_up(candidate)
                candidate.standing = Standing.UNKNOWN
        if used is not None:
            self._rounds = 0
            self._liveness.check(self._session, now)
            if used is not self.candidates[0]:
                self._ctx.timers.set(Timer.COMEBACK, self._session, now)

    def due(self, timer: Timer, candidate: Candidate, now: float) -> None:
        """Do what has fallen due for a candidate."""
        match timer:
            case Timer.RACE:
                self._race_due(candidate, now)
            case Timer.TRIAL:
                self._trial_due(candidate, now)
            case Timer.HANG_UP:
                self._hang_up_due(candidate, now)

    # ---------------------------------------------------------------- handshakes

    def race(self, now: float) -> None:
        """Send an INIT over each candidate in turn, and plan the next round."""
        timers = self._ctx.timers
        first, *others = self.candidates
        timers.cancel(Timer.RACE, first)
        for place, candidate in enumerate(others, 1):
            timers.set(Timer.RACE, candidate, now + place * STAGGER)
        self._initiation.again(self._session, now, least=STAGGER * len(self.candidates))
        self._race_due(first, now)

    def hurry(self, attempt: Attempt, now: float) -> None:
        """Send another INIT where one was answered with COOKIE or TIME; other candidates wait for the next round."""
        self._note_answer(attempt, now)
        self._initiation.again(self._session, now, least=STAGGER * len(self.candidates))
        self._initiation.send_init(self._session, attempt.transport, attempt.flow, now)

    def met(self, attempt: Attempt, now: float) -> None:
        """Take note that the hub answered an INIT: the race is over."""
        self._note_answer(attempt, now)
        for candidate in self.candidates:
            if candidate.standing is Standing.TRYING and candidate.trial is None:
                asked = candidate.dialled if candidate.asked is None else candidate.asked
                candidate.standing = Standing.DEAD if now - asked >= STAGGER else Standing.UNKNOWN

    def connected(self, pending: Pending | None, now: float) -> None:
        """Take note that a session begins, or begins anew, over what the race has found: where the CONFIRM went."""
        peer = self._session.peer
        if peer is None:
            return
        path = peer.path
        if pending is not None and (path is None or (path.transport, path.flow) != (pending.transport, pending.flow)):
            peer.path = Path(pending.transport, pending.flow)
        candidate = self.current
        if candidate is None:
            return
        place = self.candidates.index(candidate)
        if len(self.candidates) == 1:
            self.reason = "it is the only one"
        elif place == 0:
            self.reason = "it is the first choice"
        else:
            before = ", ".join(other.name for other in self.candidates[:place])
            self.reason = f"{before} did not answer"
        for other in self.candidates:
            self._trials.end(other)
        self._settle(candidate, self._last, now, returned=False)

    # ---------------------------------------------------------------- inside a session

    def doubt(self, now: float) -> None:
        """Look for another candidate: the one in use does not answer.

        One PING that got lost is no reason, unless data was not answered for seconds before it.
        """
        session, used = self._session, self.current
        since = None if session.peer is None else session.peer.unanswered_since
        if session.probes <= _LOST_PINGS + 1 and (since is None or now - since < Timer.WATCH.schedule.first):
            return
        others = [candidate for candidate in self.candidates if candidate is not used]
        if any(candidate.trial is not None and candidate.trial.search for candidate in others):
            return
        others.sort(key=lambda candidate: candidate.penalty > 0)  # keeps the order of preference otherwise
        for place, candidate in enumerate(others):
            self._trials.begin(candidate, now, goal=1, search=True, after=place * STAGGER)
        if others:
            self._trial_due(others[0], now)

    def pong(self, token: bytes, transport: int, flow: Flow, now: float) -> None:
        """Take the answer to a PROBE."""
        candidate = self._of(transport)
        if candidate is None or not self._trials.answer(candidate, token, flow, now):
            return
        trial = candidate.trial
        if trial is None or not trial.ready:
            return
        if not trial.search:
            self._compare(now)
        elif self._in_doubt:
            used = self.current
            self._take(candidate, f"{used.name if used else 'the hub'} went dead", now, returned=False)
        else:
            self._trials.end(candidate)

    def comeback_due(self, now: float) -> None:
        """COMEBACK: ask the candidates that are preferred to the one in use."""
        used = self.current
        session = self._session
        if used is None or not session.in_use or used is self.candidates[0]:
            return
        schedule = Timer.COMEBACK.schedule
        self._ctx.timers.set(Timer.COMEBACK, session, now + schedule.delay(self._rounds, self._ctx.random))
        if self._in_doubt:
            return
        self._rounds += 1
        for candidate in self.candidates[: self.candidates.index(used)]:
            if candidate.trial is None and candidate.shy_until <= now:
                self._trials.begin(candidate, now, goal=IN_A_ROW, search=False)
                self._trial_due(candidate, now)

    def end(self) -> None:
        """Stop what goes on inside a session: it is over."""
        self._ctx.timers.cancel(Timer.COMEBACK, self._session)
        for candidate in self.candidates:
            self._trials.end(candidate)
        self.reason = None

    # ---------------------------------------------------------------- parts

    @property
    def _in_doubt(self) -> bool:
        """Whether a PING over the candidate in use is overdue."""
        return self._session.dead or self._session.probes > 1

    @property
    def _racing(self) -> bool:
        """Whether any candidate may bring the hub's answer; a rekey goes by the one in use."""
        session = self._session
        return session.state in AWAITING_RESP and (session.dead or not session.in_use)

    def _of(self, transport: int) -> Candidate | None:
        return next((candidate for candidate in self.candidates if candidate.transport == transport), None)

    def _reach(self, candidate: Candidate, now: float) -> bool:
        """Whether there is a flow to send on. That of a session that lives is left alone."""
        session = self._session
        used = session.in_use and candidate is self.current
        before = candidate.flow
        reached = self._dialling.reach(candidate, now, may_renew=not used or session.dead)
        if used and before is not None and candidate.flow is None:
            candidate.takes_over = True
        return reached

    def _race_due(self, candidate: Candidate, now: float) -> None:
        """RACE: send an INIT over a candidate."""
        session = self._session
        if not self._racing or not self._reach(candidate, now):
            return
        flow = candidate.flow
        path = None if session.peer is None else session.peer.path
        # A hub that had moved and now seems dead is looked for in both places.
        if session.in_use and path is not None and path.transport == candidate.transport and candidate.inits % 2:
            flow = path.flow
        candidate.asked = now
        candidate.inits += 1
        if candidate.inits > _UNANSWERED:
            candidate.standing = Standing.DEAD
        elif candidate.standing is Standing.UNKNOWN:
            candidate.standing = Standing.TRYING
        self._initiation.send_init(session, candidate.transport, flow, now)

    def _note_answer(self, attempt: Attempt, now: float) -> None:
        candidate = self._of(attempt.transport)
        if candidate is not None:
            candidate.answered(now, now - attempt.sent)
        for other in self.candidates:
            self._ctx.timers.cancel(Timer.RACE, other)

    def _trial_due(self, candidate: Candidate, now: float) -> None:
        """TRIAL: send the next PROBE, or see that the trial is over."""
        self._ctx.timers.cancel(Timer.TRIAL, candidate)
        trial, peer = candidate.trial, self._session.peer
        if trial is None or peer is None:
            return
        if not self._session.in_use or candidate is self.current or (trial.search and not self._in_doubt):
            self._trials.end(candidate)
        elif not self._trials.count_miss(candidate, trial, now):
            self._trials.end(candidate)
            self._compare(now)
        elif self._reach(candidate, now):
            self._trials.ask(candidate, trial, peer, now)

    def _hang_up_due(self, candidate: Candidate, now: float) -> None:
        """HANG_UP: close a flow that nothing uses."""
        state = self._session.state
        racing = state in AWAITING_RESP or state in AWAITING_WELCOME
        if self._session.in_use and candidate is self.current:
            return
        if candidate.trial is not None or racing:
            self._ctx.timers.set(Timer.HANG_UP, candidate, now + Timer.HANG_UP.schedule.first)
        else:
            self._dialling.hang_up(candidate)

    def _compare(self, now: float) -> None:
        """Come back to the best candidate that has passed its trial, unless a better one still may."""
        for candidate in self.candidates:
            if candidate is self.current:
                return
            trial = candidate.trial
            if trial is None or trial.search:
                continue
            if trial.ready:
                self._take(candidate, "it is preferred, and works again", now, returned=True)
                return
            if trial.row:
                return

    def _take(self, candidate: Candidate, reason: str, now: float, *, returned: bool) -> None:
        """Move the session to a candidate that has just answered."""
        session, used = self._session, self.current
        peer = session.peer
        if peer is None or used is None or used is candidate:
            return
        for other in self.candidates:
            self._trials.end(other)
        if not returned:
            used.blame(now)
        peer.path = Path(candidate.transport, candidate.flow)
        peer.rtt = candidate.rtt
        self._ctx.timers.cancel(Timer.VALIDATE, session)
        if session.pending is not None:  # the answer to a CONFIRM under way should come here
            session.pending = session.pending._replace(transport=candidate.transport, flow=candidate.flow)
        self.reason = reason
        self._settle(candidate, used.name, now, returned=returned)
        self._liveness.heard(session)
        self._liveness.check(session, now)

    def _take_over(self, candidate: Candidate, now: float) -> None:
        """Let the session go on over the new flow of the candidate that it uses."""
        session, peer = self._session, self._session.peer
        if not session.in_use or peer is None or peer.path is None or peer.path.transport != candidate.transport:
            return
        self._paths.move(session, peer, Path(candidate.transport, candidate.flow), now)
        self._liveness.ping(session, now)

    def _plan_comeback(self, candidate: Candidate, now: float) -> None:
        """Look for a better candidate than the one in use soon, and then less often."""
        self._rounds = 0
        if candidate is self.candidates[0]:
            self._ctx.timers.cancel(Timer.COMEBACK, self._session)
        else:
            delay = Timer.COMEBACK.schedule.delay(0, self._ctx.random)
            self._ctx.timers.set(Timer.COMEBACK, self._session, now + delay)

    def _settle(self, candidate: Candidate, before: str | None, now: float, *, returned: bool) -> None:
        """Keep the books of a session that now uses a candidate: what to close, when to look for a better one."""
        timers = self._ctx.timers
        candidate.standing = Standing.WORKING
        candidate.taken = now
        candidate.returned = returned
        for other in self.candidates:
            if other is not candidate and other.flow is not None:
                timers.set(Timer.HANG_UP, other, now + Timer.HANG_UP.schedule.first)
        self._plan_comeback(candidate, now)
        self._last = candidate.name
        if before is not None and before != candidate.name:
            text = f"going by {candidate.name} instead of {before}: {self.reason}"
            fields = {"from": before, "to": candidate.name, "reason": self.reason}
            self._ctx.emit("transport-changed", text, **fields)
