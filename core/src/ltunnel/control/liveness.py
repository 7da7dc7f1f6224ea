"""Whether a peer is there: keepalive, round-trip time, probing when it falls silent, giving up.

    node    data or a keepalive PING unanswered ─► PING every 0.5 s ─► 4 unanswered: dead, handshake again beside it
    both    nothing heard for `timeout` ─► gone

The data path keeps `last_rx`, `last_tx` and `unanswered_since` of a peer; this module only looks at them when a timer
falls due, so a busy session costs nothing here.
"""

from __future__ import annotations

from ltunnel.control.context import Context
from ltunnel.control.session import PING_LIMIT, PingSent, Session
from ltunnel.control.settings import Role
from ltunnel.control.timers import Timer, uniform
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Path, Peer
from ltunnel.wire.frames import TOKEN_SIZE, Ping, Pong, Probe

PROBES = 4
"""Unanswered PINGs after which a peer is held to be dead."""
RTT_REFRESH = 30.0
"""The round-trip time is measured at least so often, however busy the session is."""
RTT_GAIN = 1 / 8
"""Weight of a new sample (RFC 6298)."""
JITTER = 0.1


class Liveness:
    """PINGs and what their absence means."""

    __slots__ = ("_ctx", "_probes")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._probes = ctx.settings.role is Role.NODE

    def begin(self, session: Session, now: float, *, keepalive: bool = True) -> None:
        """Watch a session whose peer has just been heard. The node sends PINGs, the hub only waits.

        `keepalive`: also while nothing passes.
        """
        timers = self._ctx.timers
        if session.peer is not None:
            session.peer.last_rx = now
            session.peer.unanswered_since = None
        self.heard(session)
        timers.set(Timer.SILENCE, session, now + self._ctx.settings.timeout)
        timers.set(Timer.WATCH, session, now + Timer.WATCH.schedule.first)
        if self._probes and keepalive:
            timers.set(Timer.KEEPALIVE, session, now + self._keepalive())

    def end(self, session: Session) -> None:
        """Stop watching."""
        for timer in (Timer.PROBE, Timer.SILENCE, Timer.WATCH, Timer.KEEPALIVE, Timer.VALIDATE):
            self._ctx.timers.cancel(timer, session)
        session.pings.clear()
        session.probes = 0
        session.dead = False

    def ping(self, session: Session, now: float) -> bool:
        """Send a PING on the session's path; False when that is not possible."""
        peer = session.peer
        if peer is None or peer.epoch is None or peer.path is None:
            return False
        token = self._ctx.random(TOKEN_SIZE)
        if not self._ctx.send_frame(peer.epoch, peer.path, Ping(token), now):
            return False
        self._keep(session, token, PingSent(now, peer.path.transport, peer.path.flow))
        session.last_ping = now
        return True

    def check(self, session: Session, now: float) -> None:
        """Send a PING, and more if it is not answered."""
        if self.ping(session, now) and not session.probes and session.peer is not None:
            session.probes = 1
            self._ctx.timers.set(Timer.PROBE, session, now + self._patience(session.peer))

    def challenge(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Send a PROBE over a path that is not in use, to see whether its address is the peer's."""
        token = self._ctx.random(TOKEN_SIZE)
        if self._ctx.send_frame(epoch, path, Probe(token), now):
            self._keep(session, token, PingSent(now, path.transport, path.flow))

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> PingSent | None:
        """Take a PONG; return the PING that it answers, None if there is none or it came another way."""
        sent = session.pings.get(pong.token)
        if sent is None or (sent.transport, sent.flow) != (transport, flow):
            return None
        del session.pings[pong.token]
        if peer.path is not None and (peer.path.transport, peer.path.flow) == (transport, flow):
            sample = now - sent.sent
            peer.rtt = sample if peer.rtt is None else peer.rtt + RTT_GAIN * (sample - peer.rtt)
            self.heard(session)
        return sent

    def measure(self, session: Session, now: float) -> None:
        """Send a PING if the last one is long ago: the hub's occasion is the node's keepalive."""
        if now - session.last_ping >= RTT_REFRESH:
            self.ping(session, now)

    def keepalive_due(self, session: Session, now: float) -> None:
        """KEEPALIVE: send a PING if either direction has been quiet for too long."""
        peer = session.peer
        if peer is None or not session.in_use:
            return
        quiet = min(
            peer.last_rx, peer.last_tx, session.last_ping + max(0.0, RTT_REFRESH - self._ctx.settings.keepalive)
        )
        due = quiet + self._keepalive()
        if due <= now:
            self.check(session, now)
            due = now + self._keepalive()
        self._ctx.timers.set(Timer.KEEPALIVE, session, due)

    def watch_due(self, session: Session, now: float) -> None:
        """WATCH: begin to probe if data went out and nothing has come back for 3 s."""
        peer = session.peer
        if peer is None or not session.in_use:
            return
        patience = Timer.WATCH.schedule.first
        since = peer.unanswered_since
        if since is None or not self._probes:
            since = now
        elif since + patience <= now:
            if not session.probes:
                self._probe(session, peer, now)
            since = now
        self._ctx.timers.set(Timer.WATCH, session, since + patience)

    def probe_due(self, session: Session, now: float) -> bool:
        """PROBE: send another PING, or find the peer dead: True, once."""
        peer = session.peer
        if peer is None or not session.in_use or not session.probes:
            return False
        if peer.last_rx >= session.last_ping:
            self.heard(session)
            return False
        if session.probes < PROBES:
            self._probe(session, peer, now)
            return False
        session.probes = 0
        session.dead = True
        return True

    def heard(self, session: Session) -> None:
        """Take note that the peer lives."""
        session.probes = 0
        session.dead = False
        self._ctx.timers.cancel(Timer.PROBE, session)

    def silence_due(self, session: Session, now: float) -> bool:
        """SILENCE: whether nothing was heard for `timeout` seconds; if not, look again when that may be."""
        peer = session.peer
        if peer is None:
            return False
        end = max(peer.last_rx, session.used_at) + self._ctx.settings.timeout
        if end <= now:
            return True
        self._ctx.timers.set(Timer.SILENCE, session, end)
        return False

    def _keep(self, session: Session, token: bytes, sent: PingSent) -> None:
        if len(session.pings) >= PING_LIMIT:
            del session.pings[next(iter(session.pings))]
        session.pings[token] = sent

    def _probe(self, session: Session, peer: Peer, now: float) -> None:
        self.ping(session, now)
        session.probes += 1
        self._ctx.timers.set(Timer.PROBE, session, now + self._patience(peer))

    def _patience(self, peer: Peer) -> float:
        """How long a PING may take: 0.5 s, on slow paths twice the round-trip time."""
        return max(Timer.PROBE.schedule.first, min(2.0, 2.0 * (peer.rtt or 0.0)))

    def _keepalive(self) -> float:
        """Return the interval, shortened by up to 10 % so that nodes do not march in step."""
        return self._ctx.settings.keepalive * (1.0 - JITTER * uniform(self._ctx.random))
