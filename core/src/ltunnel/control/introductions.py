"""The hub's introductions: who else is in the network, and under which key (PEERS).

A node is told of all others right after its WELCOME, and of each that joins or leaves. Nothing acknowledges a PEERS, so
what is new is told four times, and everything twice whenever keys are renewed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from ltunnel.control.context import Context
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.wire.frames import PEER_LIMIT, PeerEntry, Peers

REPEATS = 3
"""After 1, 4 and 16 s."""
BODY_LIMIT = 1100
"""Bytes of a PEERS, so that its datagram passes wherever a handshake does."""


class Introductions:
    """What each node has yet to be told of the others."""

    __slots__ = ("_ctx", "_news")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._news: dict[Session, dict[bytes, int]] = {}  # how often to repeat what about which key

    def welcomed(self, session: Session, now: float) -> None:
        """Tell a node of all others: repeatedly when it is new, once more when it has new keys and may be new."""
        if not self._ctx.settings.client_isolation:
            keys = [other.peer.key for other in self._others(session) if other.peer is not None]
            self._send(session, keys, now)
            self._plan(session, keys, now, REPEATS if session.connected is None else 1)

    def changed(self, sessions: Sequence[Session], now: float) -> None:
        """Tell all others of nodes that are new, or whose names, addresses or networks have changed, at once."""
        self._spread(sessions, now)

    def left(self, session: Session, now: float) -> None:
        """Tell all others that a node is gone; its session is in no table any more."""
        self._news.pop(session, None)
        self._spread([session], now)

    def due(self, session: Session, now: float) -> None:
        """INTRODUCE: tell it again."""
        news = self._news.get(session, {})
        self._send(session, list(news), now)
        left = {key: count - 1 for key, count in news.items() if count > 1}
        self._news.pop(session, None)
        if left:
            self._news[session] = left
            wait = Timer.INTRODUCE.schedule.delay(REPEATS - max(left.values()), self._ctx.random)
            self._ctx.timers.set(Timer.INTRODUCE, session, now + wait)

    def _others(self, session: Session) -> list[Session]:
        return [other for other in self._ctx.sessions.values() if other is not session and other.in_use]

    def _spread(self, sessions: Sequence[Session], now: float) -> None:
        """Tell each node of some others what holds of them now, nothing of itself."""
        if self._ctx.settings.client_isolation:
            return
        peers = [session.peer for session in sessions if session.peer is not None]
        for listener in [session for session in self._ctx.sessions.values() if session.in_use]:
            keys = [peer.key for peer in peers if peer is not listener.peer]
            if keys:
                self._send(listener, keys, now)
                self._plan(listener, keys, now, REPEATS)

    def _plan(self, session: Session, keys: Sequence[bytes], now: float, repeats: int) -> None:
        """Have what was told repeated, if it was anything."""
        if not keys:
            return
        news = self._news.setdefault(session, {})
        news.update((key, max(repeats, news.get(key, 0))) for key in keys)
        self._ctx.timers.set(Timer.INTRODUCE, session, now + Timer.INTRODUCE.schedule.delay(0, self._ctx.random))

    def _send(self, session: Session, keys: Iterable[bytes], now: float) -> None:
        """Send what holds now of some nodes; one frame at least, which says that there are introductions here."""
        peer = session.peer
        if peer is None or peer.epoch is None or peer.path is None:
            return
        entries: list[PeerEntry] = []
        size = 0
        for entry in filter(None, map(self._entry, keys)):
            length = _length(entry)
            if len(entries) == PEER_LIMIT or size + length > BODY_LIMIT:
                self._ctx.send_frame(peer.epoch, peer.path, Peers(tuple(entries)), now)
                entries.clear()
                size = 0
            entries.append(entry)
            size += length
        self._ctx.send_frame(peer.epoch, peer.path, Peers(tuple(entries)), now)

    def _entry(self, key: bytes) -> PeerEntry | None:
        peer, session = self._ctx.peers.get(key), self._ctx.sessions.get(key)
        if peer is None:
            return None
        there = session is not None and session.in_use
        if not there:
            return PeerEntry(key, peer.name)
        return PeerEntry(key, peer.name, tuple(map(self._interface, sorted(peer.hosts))), peer.limit, peer.networks)

    def _interface(self, host: bytes) -> IPv4Interface | IPv6Interface:
        address = ip_address(host)
        networks = (own.network for own in self._ctx.settings.addresses)
        prefix = next((net.prefixlen for net in networks if address in net), address.max_prefixlen)
        return ip_interface((address, prefix))


@lru_cache(maxsize=4096)
def _length(entry: PeerEntry) -> int:
    """Return what an entry takes in a PEERS."""
    return len(Peers((entry,)).pack())
