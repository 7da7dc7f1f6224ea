"""The MTU of the path between a node and its hub: each of the two looks after what it sends itself.

The same search as on paths between nodes (`path_mtu`), but what the other side takes is used from the start, and
nothing is probed without traffic:

    traffic, not known yet     a round
    much sent lately           a round at each look, which is every 3 s
    some traffic               a round every 30 s
    the large one unanswered   again at once: three times in a row while small ones are answered, and less is sent
"""

from __future__ import annotations

from ltunnel.control.context import Context
from ltunnel.control.path_mtu import PathMtu
from ltunnel.control.probing import LONGEST_PATIENCE, SHORTEST_PATIENCE, padding
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.control.way_table import BULK, BULK_TIME
from ltunnel.plugin import Flow
from ltunnel.session import Peer
from ltunnel.wire.frames import TOKEN_SIZE, Probe

CALM = 30.0
_SENT_LIMIT = 8


class _Line:
    """The path of one session."""

    __slots__ = ("big", "bulk", "bytes", "mtu", "packets", "place", "round", "sent", "small")

    def __init__(self, limit: int, place: tuple[int, Flow]) -> None:
        self.mtu = PathMtu(limit, assumed=True)
        self.place = place
        self.sent: dict[bytes, int] = {}
        """Sizes of probes by token, 0 for those without padding; late answers count, too."""
        self.small: bytes | None = None
        self.big: bytes | None = None
        self.round = float("-inf")
        """When the last round was sent."""
        self.bulk = float("-inf")
        """When much had been sent."""
        self.bytes = self.packets = 0


class Sounding:
    """Keeps `Peer.mtu` of sessions between a node and its hub; `Peer.limit` is what the far end takes."""

    __slots__ = ("_ctx", "_lines")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._lines: dict[Session, _Line] = {}

    def begin(self, session: Session, limit: int) -> None:
        """Take note of what the far end takes, at each handshake."""
        peer = session.peer
        if peer is None or peer.path is None:
            return
        peer.limit = limit
        line, place = self._lines.get(session), (peer.path.transport, peer.path.flow)
        if line is None or (line.mtu.ceiling, line.place) != (limit, place):
            line = self._lines[session] = _Line(limit, place)
        peer.mtu = line.mtu.size or peer.mtu

    def end(self, session: Session) -> None:
        """Forget a session."""
        self._lines.pop(session, None)
        self._ctx.timers.cancel(Timer.SOUND, session)

    def look(self, session: Session, now: float) -> None:
        """WATCH: see what has passed, and whether it is time for a round."""
        line, peer = self._lines.get(session), session.peer
        if line is None or peer is None or peer.path is None or peer.path.budget is not None:
            return
        place = peer.path.transport, peer.path.flow
        if line.place != place:
            line = self._lines[session] = _Line(peer.limit, place)
            peer.mtu = peer.limit
        stats = peer.stats
        sent, packets = stats.tx_bytes, stats.packets
        if sent - line.bytes >= BULK:
            line.bulk = now
        traffic = packets != line.packets
        line.bytes, line.packets = sent, packets
        often = now - line.bulk < BULK_TIME or line.mtu.wanted(now) is not None
        if traffic and line.small is None and line.big is None and (often or now - line.round >= CALM):
            self._begin(session, line, peer, now)

    def due(self, session: Session, now: float) -> None:
        """SOUND: judge a round that was not answered whole."""
        line, peer = self._lines.get(session), session.peer
        if line is None or peer is None:
            return
        small, big = line.small, line.big
        line.small = line.big = None
        if small is None and big is not None:  # if the small one is lost, too, it is no question of size
            line.mtu.missed(line.sent.get(big, line.mtu.size), now)
            self._fit(line, peer)
            self._begin(session, line, peer, now)

    def pong(self, session: Session, token: bytes, transport: int, flow: Flow, now: float) -> bool:
        """Take a PONG; False if it answers no probe from here, or came another way."""
        line, peer = self._lines.get(session), session.peer
        if line is None or peer is None or token not in line.sent or line.place != (transport, flow):
            return False
        size = line.sent.pop(token)
        line.small = None
        if size:
            line.mtu.carried(size, now)
            self._fit(line, peer)
        if token == line.big:
            line.big = None
        if line.big is None:
            self._ctx.timers.cancel(Timer.SOUND, session)
            if line.mtu.in_doubt or line.mtu.wanted(now) is not None:
                self._begin(session, line, peer, now)
        return True

    def _begin(self, session: Session, line: _Line, peer: Peer, now: float) -> None:
        """Send a round."""
        wanted = line.mtu.wanted(now)
        size = line.mtu.size if wanted is None else wanted
        line.round = now
        line.small = self._send(line, peer, 0, now)
        line.big = self._send(line, peer, size, now)
        patience = max(SHORTEST_PATIENCE, min(LONGEST_PATIENCE, 2.0 * (peer.rtt or 0.0)))
        self._ctx.timers.set(Timer.SOUND, session, now + patience)

    def _send(self, line: _Line, peer: Peer, size: int, now: float) -> bytes | None:
        ctx = self._ctx
        token = ctx.random(TOKEN_SIZE)
        path, epoch = peer.path, peer.epoch
        pad = size and size + padding(ctx.settings)
        if path is None or epoch is None or not ctx.send_frame(epoch, path, Probe(token, pad), now):
            return None
        if len(line.sent) >= _SENT_LIMIT:
            del line.sent[next(iter(line.sent))]
        line.sent[token] = size
        return token

    def _fit(self, line: _Line, peer: Peer) -> None:
        before, after = peer.mtu, line.mtu.size or peer.mtu
        peer.mtu = after
        if after < before:
            name = peer.name or "the hub"
            self._ctx.emit(
                "path-mtu", f"larger packets get lost on the way to {name}: {after} bytes at most from now on",
                peer=peer.name, key=peer.key.hex(), mtu=after, before=before,
            )  # fmt: skip
