"""Roaming: the path of a session is where its newest authenticated datagram came from.

A new address has to prove itself: until a PONG with the token of a PING that was sent there has come from there, it
gets at most three times the bytes that came from it (RFC 9000, section 8.1), so that nobody can be flooded by naming
them as a source. The old path is forgotten at once.

An address that is tried before it is used (PROBE) is asked to prove itself then, so that a move costs nothing.
"""

from __future__ import annotations

from ltunnel.control.context import Context
from ltunnel.control.liveness import Liveness
from ltunnel.control.session import PROVED_LIMIT, PingSent, Session
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Path, Peer

AMPLIFICATION = 3
PROVED_TIME = 60.0
"""So long (seconds) an address counts as the peer's after a PONG came from there (RFC 9000, section 9.3)."""
MOVED_GAP = 10.0
"""The owner is told at most so often (seconds) that a peer has moved."""
CHANGED_GAP = 1.0
"""The same for a peer that comes by another transport."""


class Paths:
    """Moves sessions to the flows that their peers use."""

    __slots__ = ("_ctx", "_liveness")

    def __init__(self, ctx: Context, liveness: Liveness) -> None:
        self._ctx = ctx
        self._liveness = liveness

    def follow(self, session: Session, epoch: Epoch, transport: int, flow: Flow, size: int, now: float) -> None:
        """Take note of the newest datagrams of an epoch (`size` bytes) from a flow."""
        peer = epoch.peer
        path = peer.path
        if path is not None and path.flow == flow and path.transport == transport:
            return
        if not self._newest(peer, epoch):
            return
        proved = now - session.proved.get((transport, flow), float("-inf")) < PROVED_TIME
        self.move(session, peer, Path(transport, flow, None if proved else AMPLIFICATION * size), now)

    def move(self, session: Session, peer: Peer, path: Path, now: float) -> None:
        """Use a path, and prove it first if it has a budget."""
        old = peer.path
        if old is not None and (old.transport, old.flow) == (path.transport, path.flow):
            if path.budget is None:
                old.budget = None
            return
        peer.path = path
        session.validations = 0
        if old is not None:
            gap = MOVED_GAP if old.transport == path.transport else CHANGED_GAP
            if now - session.moved >= gap:
                session.moved = now
                self._tell(peer, old, path)
        if path.budget is not None:
            self.validate_due(session, now)

    def validate_due(self, session: Session, now: float) -> None:
        """VALIDATE: PING a path that has not proved itself, and again until it has."""
        peer = session.peer
        if peer is None or peer.path is None or peer.path.budget is None:
            return
        self._liveness.ping(session, now)
        delay = Timer.VALIDATE.schedule.delay(session.validations, self._ctx.random)
        session.validations += 1
        self._ctx.timers.set(Timer.VALIDATE, session, now + delay)

    def proved(self, session: Session, peer: Peer, sent: PingSent, now: float) -> None:
        """Take note of a PONG from where its PING or PROBE went."""
        path = peer.path
        if path is not None and (path.transport, path.flow) == (sent.transport, sent.flow):
            path.budget = None
            self._ctx.timers.cancel(Timer.VALIDATE, session)
            return
        flow = sent.transport, sent.flow
        session.proved.pop(flow, None)
        if len(session.proved) >= PROVED_LIMIT:
            del session.proved[next(iter(session.proved))]
        session.proved[flow] = now

    def probed(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Take note of a PROBE that came over a path: ask it to prove itself, unless it just did."""
        if now - session.proved.get((path.transport, path.flow), float("-inf")) >= PROVED_TIME / 2:
            self._liveness.challenge(session, epoch, path, now)

    def _tell(self, peer: Peer, old: Path, new: Path) -> None:
        ctx = self._ctx
        name = peer.name or "the hub"
        if old.transport != new.transport:
            ways = ctx.transports[old.transport], ctx.transports[new.transport]
            reason = f"{name} came by it"
            ctx.emit(
                "transport-changed", f"going by {ways[1]} instead of {ways[0]} with {name}: {reason}",
                peer=peer.name, key=peer.key.hex(), **{"from": ways[0], "to": ways[1], "reason": reason},
            )  # fmt: skip
            return
        names = ctx.describe(old.transport, old.flow), ctx.describe(new.transport, new.flow)
        if names[0] != names[1]:
            ctx.emit(
                "roamed", f"{name} moved from {names[0]} to {names[1]}",
                peer=peer.name, key=peer.key.hex(), old=names[0], new=names[1],
            )  # fmt: skip

    def _newest(self, peer: Peer, epoch: Epoch) -> bool:
        """Whether what comes on an epoch is newer than what has come on the one in use."""
        current = peer.epoch
        return current is None or current is epoch or (current.window.top < 0 and current.created >= epoch.created)
