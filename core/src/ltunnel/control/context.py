"""What all parts of the control side share: settings, the tables that the data path reads, timers, three outlets.

Values go out by `outbox` (datagrams), `calls` (flows to open and close) and `events`; nothing here calls anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltunnel.control.candidates import Call
from ltunnel.control.events import Event, Level
from ltunnel.control.flows import Describe
from ltunnel.control.session import Attempt, Session
from ltunnel.control.settings import ControlSettings, Random
from ltunnel.control.timers import TimerQueue
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Fib, Hops, Path, Peer, Stats
from ltunnel.wire.frames import Bye, ByeCode, Frame
from ltunnel.wire.messages import INDEX_LIMIT

Outgoing = tuple[int, Flow, bytes]
"""(transport, flow, datagram)."""


class Context:
    """Shared by the parts of one `Control`."""

    __slots__ = (
        "attempts", "calls", "clock_error", "describe", "epochs", "events", "fib", "hops", "mesh", "outbox", "peers",
        "random", "relay", "reserved", "sessions", "settings", "stats", "timers", "transports", "wall_offset",
    )  # fmt: skip

    def __init__(
        self, settings: ControlSettings, random: Random, wall_offset: float, describe: Describe,
        transports: Sequence[str], relay: int | None, mesh: int | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.random = random
        self.describe = describe
        self.transports = transports
        """Their names, by number."""
        self.relay = relay
        """On a node: the transport that goes through the hub to other nodes; its flows are their names."""
        self.mesh = mesh
        """The one that goes through a node; its flows are that node's name and the last one's. None without a mesh."""
        self.wall_offset = wall_offset
        self.clock_error = 0.0
        """Seconds that the hub's clock is ahead of ours, as it told us."""
        self.timers = TimerQueue()
        self.outbox: list[Outgoing] = []
        self.calls: list[Call] = []
        self.events: list[Event] = []
        self.stats = Stats()
        self.fib = Fib()
        self.hops = Hops()
        self.peers: dict[bytes, Peer] = {}
        self.sessions: dict[bytes, Session] = {}
        """By the peer's key."""
        self.epochs: dict[int, Epoch] = {}
        """By our index."""
        self.attempts: dict[int, Attempt] = {}
        """By our index."""
        self.reserved: set[int] = set()
        """Indices of handshakes that we answered and that are not finished."""

    def wall(self, now: float) -> float:
        """Return seconds since 1970, by the hub's clock once it has corrected ours."""
        return now + self.wall_offset + self.clock_error

    def new_index(self) -> int:
        """Return a random index that nothing uses: 24 bits, never 0."""
        while True:
            index = int.from_bytes(self.random(3), "big") % INDEX_LIMIT
            if index and index not in self.epochs and index not in self.attempts and index not in self.reserved:
                return index

    def emit(self, name: str, text: str, level: Level = Level.INFO, /, **fields: Any) -> None:
        """Tell the world."""
        self.events.append(Event(name=name, text=text, level=level, fields=fields))

    def session_of(self, epoch: Epoch) -> Session | None:
        """Return the session that an epoch belongs to, or None if it is over."""
        session = self.sessions.get(epoch.peer.key)
        return session if session is not None and self.epochs.get(epoch.local_index) is epoch else None

    def send(self, transport: int, flow: Flow, data: bytes) -> None:
        """Send a datagram."""
        self.outbox.append((transport, flow, data))

    def send_frame(self, epoch: Epoch, path: Path, frame: Frame, now: float) -> bool:
        """Seal a control frame and send it; False when the keys or the path's budget do not allow it."""
        if not epoch.usable(now):
            return False
        datagram = epoch.seal_frame(frame.TYPE, frame.pack())
        if path.budget is not None:
            if len(datagram) > path.budget:
                epoch.peer.stats.drop(Drop.LIMITED)
                return False
            path.budget -= len(datagram)
        if path is epoch.peer.path:
            epoch.peer.last_tx = now
        else:
            epoch.peer.quality.stray(epoch.local_index, epoch.counter - 1)
        self.send(path.transport, path.flow, datagram)
        return True

    def send_bye(self, session: Session, code: ByeCode, now: float) -> None:
        """Tell a peer that the session ends, on every epoch that it may be using."""
        peer = session.peer
        if peer is not None and peer.path is not None:
            for epoch in session.epochs:
                if epoch is peer.epoch or epoch.local_index in session.unproven:
                    self.send_frame(epoch, peer.path, Bye(code), now)
