"""Starting handshakes, and going on until they are done: the initiator's side of a session.

An INIT goes out with a fresh ephemeral key each time, from 0.4 s apart to 3 s; the RESP to any of the last four counts.
A CONFIRM goes out as the same bytes until it is answered, for 5 s; then the handshake starts over. COOKIE and TIME are
answered with another INIT at once, but at most one a second, so that two sides that disagree do not make a storm.
"""

from __future__ import annotations

from typing import NamedTuple

from ltunnel.control.context import Context
from ltunnel.control.epochs import Epochs
from ltunnel.control.handshake import Initiator, mac_ok
from ltunnel.control.session import ATTEMPT_LIMIT, COOKIE_LIMIT, Attempt, Pending, Session
from ltunnel.control.states import AWAITING_RESP, AWAITING_WELCOME, Step
from ltunnel.control.timers import Timer
from ltunnel.errors import WireError
from ltunnel.keys.mac import COOKIE_LIFETIME, open_cookie, open_time
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Peer
from ltunnel.wire.messages import Cookie, Resp, Time
from ltunnel.wire.payloads import ConfirmPayload, InitPayload, RespPayload, stack_fingerprint

CONFIRM_TIME = 5.0
"""How long a CONFIRM is retransmitted."""
QUICK_RETRY = 1.0
"""At most one INIT in so many seconds is sent out of turn, as the answer to COOKIE or TIME."""
_TIME_LIMIT = (1 << 64) - 1


class Met(NamedTuple):
    """A RESP has verified: who answered which INIT. The CONFIRM goes where the INIT went, whoever sent the RESP."""

    attempt: Attempt
    key: bytes


class Initiation:
    """Handshakes that this side starts."""

    __slots__ = ("_ctx", "_epochs", "_stack")

    def __init__(self, ctx: Context, epochs: Epochs) -> None:
        self._ctx = ctx
        self._epochs = epochs
        self._stack = stack_fingerprint(ctx.settings.stack)

    def start(self, session: Session) -> bool:
        """Begin a handshake; `send_init` comes next. False if one is under way or the state does not allow it."""
        if not session.move(Step.INITIATE):
            return False
        session.tries = session.unanswered = 0
        return True

    def again(self, session: Session, now: float, *, least: float = 0.0) -> None:
        """Plan the INIT, or the round of them, after the one that is sent now; at least `least` seconds later."""
        ctx = self._ctx
        delay = max(least, Timer.INIT.schedule.delay(session.tries, ctx.random))
        ctx.timers.set(Timer.INIT, session, now + delay)
        session.tries += 1

    def send_init(self, session: Session, transport: int, flow: Flow, now: float) -> None:
        """Send an INIT to a flow."""
        ctx = self._ctx
        initiator = Initiator(ctx.settings, ctx.random, ctx.new_index())
        time_ns = min(max(int((ctx.wall(now) + session.clock_error) * 1e9), 0), _TIME_LIMIT)
        cookie, received = session.cookies.get((transport, flow), (None, now))
        if now - received >= COOKIE_LIFETIME:
            cookie = None
        ctx.send(transport, flow, initiator.init(InitPayload(time_ns, self._stack).pack(), cookie))
        same = [index for index, attempt in session.attempts.items() if attempt.transport == transport]
        if len(same) >= ATTEMPT_LIMIT:
            self._forget(session, same[0])
        ctx.attempts[initiator.index] = session.attempts[initiator.index] = Attempt(
            session, initiator, transport, flow, now
        )

    def withdraw(self, session: Session, transport: int, now: float) -> None:
        """Take note that the INIT over a transport that was to leave now has not."""
        for index, attempt in tuple(session.attempts.items()):
            if attempt.transport == transport and attempt.sent == now:
                self._forget(session, index)

    def stop(self, session: Session) -> None:
        """Give up whatever handshake is under way."""
        for index in tuple(session.attempts):
            self._forget(session, index)
        session.pending = None
        self._ctx.timers.cancel(Timer.INIT, session)
        self._ctx.timers.cancel(Timer.CONFIRM, session)

    # ---------------------------------------------------------------- answers

    def handle_resp(self, resp: Resp, data: bytes) -> Met | Drop:
        """Read a RESP (`data` is all of it): who answered, or why it is dropped."""
        if not mac_ok(self._ctx.settings, resp, data):
            return Drop.MAC
        attempt = self._ctx.attempts.get(resp.receiver)
        if attempt is None or attempt.session.state not in AWAITING_RESP:
            return Drop.UNKNOWN_INDEX
        payload = attempt.initiator.read_resp(resp)
        if payload is None:
            return Drop.FORGED
        try:
            RespPayload.parse(payload)  # the hub compares stacks: CONFIRM names them, so it can say what differs
        except WireError:
            return Drop.MALFORMED
        finally:
            self._forget(attempt.session, resp.receiver)  # it has been read, and cannot be read again
        return Met(attempt, attempt.initiator.remote_static)

    def confirm(self, met: Met, peer: Peer, claim: ConfirmPayload, now: float) -> None:
        """Send the CONFIRM and receive on the new epoch from now on."""
        session, initiator, transport, flow, began = met.attempt
        data, keys = initiator.confirm(claim.pack())
        epoch = self._epochs.make(peer, keys, initiator.index, initiator.remote_index, now, initiator=True)
        self.stop(session)
        session.unanswered = 0
        session.move(Step.ANSWERED)
        session.unproven[epoch.local_index] = began
        self._epochs.add(session, epoch, now)
        session.pending = Pending(epoch, data, transport, flow, now)
        session.tries = 0
        self._send_confirm(session, session.pending, now)

    def handle_cookie(self, cookie: Cookie, now: float) -> Drop | Attempt:
        """Read a COOKIE; the INIT that it answers should be sent anew, unless it is dropped."""
        attempt = self._ctx.attempts.get(cookie.receiver)
        if attempt is None:
            return Drop.UNKNOWN_INDEX
        settings = self._ctx.settings
        value = open_cookie(settings.keys.cookie, cookie.salt, cookie.sealed, attempt.initiator.mac1, settings.new_aead)
        if value is None or len(value) != 16:
            return Drop.FORGED
        session = attempt.session
        session.unanswered = 0
        self._forget(session, cookie.receiver)
        if len(session.cookies) >= COOKIE_LIMIT:
            del session.cookies[next(iter(session.cookies))]
        session.cookies[attempt.transport, attempt.flow] = value, now
        return attempt

    def handle_time(self, time: Time, now: float) -> Drop | tuple[Attempt, float]:
        """Read a TIME; the INIT that it answers, and by how many seconds the time in it was behind the peer's clock."""
        attempt = self._ctx.attempts.get(time.receiver)
        if attempt is None:
            return Drop.UNKNOWN_INDEX
        settings = self._ctx.settings
        time_ns = open_time(settings.keys.time, time.salt, time.sealed, attempt.initiator.mac1, settings.new_aead)
        if time_ns is None:
            return Drop.FORGED
        attempt.session.unanswered = 0
        self._forget(attempt.session, time.receiver)
        return attempt, time_ns / 1e9 - self._ctx.wall(now) - attempt.session.clock_error

    def may_hurry(self, session: Session, now: float) -> bool:
        """Whether a COOKIE or TIME may be answered with an INIT at once; if not, the next regular one will do."""
        if session.state not in AWAITING_RESP or now - session.hurried < QUICK_RETRY:
            return False
        session.hurried = now
        return True

    # ---------------------------------------------------------------- timers

    def confirm_due(self, session: Session, now: float) -> bool:
        """CONFIRM: send it again; True if it has been unanswered for too long and the handshake must start over."""
        pending = session.pending
        if pending is None or session.state not in AWAITING_WELCOME:
            return False
        if now - pending.sent < CONFIRM_TIME:
            self._send_confirm(session, pending, now)
            return False
        session.pending = None
        session.tries = 0
        if session.peer is not None and session.peer.epoch is pending.epoch:
            session.move(Step.CONFIRMED)  # the peer uses the epoch; only its greeting is missing
            return False
        session.move(Step.UNANSWERED)
        return True

    def _send_confirm(self, session: Session, pending: Pending, now: float) -> None:
        ctx = self._ctx
        ctx.send(pending.transport, pending.flow, pending.data)
        ctx.timers.set(Timer.CONFIRM, session, now + Timer.CONFIRM.schedule.delay(session.tries, ctx.random))
        session.tries += 1

    def _forget(self, session: Session, index: int) -> None:
        session.attempts.pop(index, None)
        self._ctx.attempts.pop(index, None)
