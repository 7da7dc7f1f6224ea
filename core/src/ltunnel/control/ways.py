"""The ways to each neighbour, and which of them carries data. The hub's relay is one of them from the start."""

from __future__ import annotations

from typing import Any

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.control.context import Context
from ltunnel.control.session import Session
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Path, Peer
from ltunnel.wire.frames import Pong
from ltunnel.wire.relay import node_name


class Ways:
    """`hub` is the session with the hub; its peer is None until one has answered."""

    __slots__ = ("_ctx", "_hub", "_sessions")

    def __init__(self, ctx: Context, hub: Session) -> None:
        self._ctx = ctx
        self._hub = hub
        self._sessions: dict[bytes, Session] = {}

    def begin(self, session: Session, now: float) -> None:  # noqa: ARG002
        """Start with the relay: the session is new, or its peer has begun anew and forgotten all other ways."""
        peer = session.peer
        if peer is not None and self._ctx.relay is not None:
            self._sessions[peer.key] = session
            peer.path = Path(self._ctx.relay, node_name(peer.key))
            self._fit(peer)

    def end(self, session: Session, now: float) -> None:  # noqa: ARG002
        """Forget the ways of a session that is over."""
        if session.peer is not None:
            self._sessions.pop(session.peer.key, None)
            session.peer.path = None

    def relay_changed(self, now: float) -> None:  # noqa: ARG002
        """Take note that the session with the hub has begun, ended, or takes packets of another size."""
        for session in self._sessions.values():
            if session.peer is not None:
                self._fit(session.peer)

    def session_at(self, transport: int, flow: Flow) -> Session | None:
        """Return the session whose peer has proved that it is at a flow other than the relay's."""
        for session in self._sessions.values():
            path = None if session.peer is None else session.peer.path
            if path is not None and (path.transport, path.flow) == (transport, flow) and transport != self._ctx.relay:
                return session
        return None

    def arrived(
        self, session: Session, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float
    ) -> None:
        """Take note of authenticated datagrams (`size` bytes) from a flow that is not in use."""

    def pong(self, session: Session, pong: Pong, transport: int, flow: Flow, now: float) -> bool:  # noqa: ARG002
        """Take a PONG; False if it answers no PROBE from here."""
        return False

    def table(self, peer: Peer) -> list[dict[str, Any]]:
        """Describe the ways to a peer, for status."""
        return [] if peer.path is None else [{"class": "hub", "used": True}]

    def _fit(self, peer: Peer) -> None:
        hub = self._hub.peer
        if hub is not None:
            peer.mtu = hub.mtu - DATA_OVERHEAD - RELAY_TRAILER
