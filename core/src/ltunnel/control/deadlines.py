"""What happens when a timer falls due: which part of the control side looks after which."""

from __future__ import annotations

from ltunnel.control.candidates import Candidate
from ltunnel.control.dispatch import Roles
from ltunnel.control.failures import Failures
from ltunnel.control.session import Session
from ltunnel.control.side import Parts
from ltunnel.control.states import AWAITING_RESP
from ltunnel.control.timers import Key, Timer
from ltunnel.control.ways import Ways


class Deadlines:
    """Hands timers out."""

    __slots__ = ("_failures", "_p", "_roles", "_ways")

    def __init__(self, parts: Parts, roles: Roles, failures: Failures, ways: Ways | None) -> None:
        self._p = parts
        self._roles = roles
        self._failures = failures
        self._ways = ways

    def due(self, key: Key, now: float) -> None:
        """Do what has fallen due."""
        timer, owner = key
        if isinstance(owner, Session):
            self._session_due(timer, owner, now)
        elif isinstance(owner, Candidate):
            if self._roles.node is not None:
                self._roles.node.choice.due(timer, owner, now)
        elif timer in (Timer.WAY, Timer.ASK, Timer.GLANCE):
            if self._ways is not None:
                self._ways.due(timer, owner, now)
        elif timer is Timer.MESH:
            if self._roles.neighbours is not None and self._roles.neighbours.mesh is not None:
                self._roles.neighbours.mesh.due(now)
        elif timer is Timer.AGENT:
            if self._roles.discovery is not None:
                self._roles.discovery.due(now)
        elif timer is Timer.NETWORKS:
            self._p.subnets.look(now)
        elif timer is Timer.HALF_OPEN:
            self._p.acceptance.sweep(now)
        else:
            self._failures.report_due(now)

    def _session_due(self, timer: Timer, session: Session, now: float) -> None:
        side = self._roles.of(session)
        match timer:
            case Timer.INIT:
                if session.state in AWAITING_RESP:
                    session.unanswered += 1
                    side.initiate(session, now)
            case Timer.CONFIRM:
                if self._p.initiation.confirm_due(session, now):
                    side.initiate(session, now)
            case Timer.REKEY | Timer.REKEY_LATE:
                self.rekey(session, now)
            case Timer.EPOCHS:
                if self._p.epochs.forget_due(session, now):
                    side.keyless(session, now)
            case Timer.KEEPALIVE:
                self._p.liveness.keepalive_due(session, now)
            case Timer.WATCH:
                self._p.liveness.watch_due(session, now)
                self._p.sounding.look(session, now)
                if self._p.epochs.worn(session):
                    self.rekey(session, now)
            case Timer.SOUND:
                self._p.sounding.due(session, now)
            case Timer.PROBE:
                if self._p.liveness.probe_due(session, now):
                    self.rekey(session, now)
                elif session.probes > 1:
                    side.doubt(session, now)
            case Timer.VALIDATE:
                self._p.paths.validate_due(session, now)
            case Timer.SILENCE:
                if self._p.liveness.silence_due(session, now):
                    side.silent(session, now)
            case _:
                side.due(timer, session, now)

    def rekey(self, session: Session, now: float) -> None:
        """Begin a handshake beside the session, unless one is under way."""
        if self._p.initiation.start(session):
            self._roles.of(session).initiate(session, now)
