"""All paths to one neighbour, and what decides how often they are probed. Plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.control.flows import Describe
from ltunnel.control.path_mtu import PathMtu
from ltunnel.control.session import Session
from ltunnel.control.way import CARRIES, Way, via_name
from ltunnel.plugin import Address, Flow, PathClass
from ltunnel.session import Path, Peer

BUSY = 3.0
"""So long (seconds) after a packet there counts as traffic."""
BULK = 16_384
"""Bytes sent in a second from which on full packets are watched more closely,"""
BULK_TIME = 6.0
"""for so long (seconds): when they vanish, little more is sent."""


def relayed_mtu(outer: int, peer: Peer) -> int:
    """Return what fits where somebody passes datagrams on: `outer` is what fits on the way to whom."""
    return min(outer, peer.limit) - DATA_OVERHEAD - RELAY_TRAILER


Place = tuple[int, Flow]
"""(transport, flow)."""


class Ask(NamedTuple):
    """A probe that discovery asked for, to a place that is no path yet."""

    table: WayTable
    transport: int
    address: Address
    path_class: PathClass
    began: float


class AskSent(NamedTuple):
    """An `Ask` that left."""

    ask: Ask
    flow: Flow
    when: float

    @property
    def place(self) -> Place:
        """Where it went: (transport, flow)."""
        return self.ask.transport, self.flow


class WayTable:
    """Paths by (transport, flow). The one through the hub is always there, in `relay` only."""

    __slots__ = (
        "_bulk", "_bytes", "_numbers", "_packets", "asks", "current", "last_traffic", "opening", "peer", "reason",
        "relay", "seeks", "session", "sought", "source", "ways",
    )  # fmt: skip

    def __init__(self, session: Session, peer: Peer, relay: Path, mtu: int, now: float) -> None:
        self.session = session
        self.peer = peer
        self._numbers = count(1)
        self.relay = Way(0, peer, relay, PathClass.HUB, PathMtu(mtu, assumed=True))
        self.relay.hops = 2
        self.ways: dict[tuple[int, Flow], Way] = {}
        self.current = self.relay
        """The one that carries data."""
        self.reason = "there is no other yet"
        """Why that one, in words."""
        self.source: Way | None = None
        """Where newer datagrams last came from than those before, if not from there."""
        self.asks: dict[bytes, AskSent] = {}
        """Probes that discovery asked for, by token, the newest last."""
        self.opening: dict[tuple[int, Flow], float] = {}
        """When the newest probe was asked for of those that wait for a flow to open."""
        self.last_traffic = now
        self._bulk = float("-inf")  # when much had been sent
        self.sought = now
        """When discovery was last asked for a better path."""
        self.seeks = 0
        """How often, since the current one was chosen."""
        self._packets = peer.stats.packets
        self._bytes = peer.stats.tx_bytes

    @property
    def all(self) -> list[Way]:
        """All paths, that through the hub first."""
        return [self.relay, *self.ways.values()]

    @property
    def relayed(self) -> int:
        """How many paths go through nodes."""
        return sum(way.via is not None for way in self.ways.values())

    def describe(self, transports: Sequence[str], describe: Describe, hub: str, now: float) -> list[dict[str, Any]]:
        """Say for status what there is; `hub` is the hub's name."""
        return [
            {
                **way.describe(now),
                "used": way is self.current,
                "transport": transports[way.path.transport],
                "endpoint": describe(*way.flow) if way.direct else None,
                "via": hub if way is self.relay else via_name(way),
            }
            for way in self.all
        ]

    def busy(self, now: float) -> bool:
        """Whether there is traffic with the neighbour."""
        return now - self.last_traffic < BUSY

    def bulk(self, now: float) -> bool:
        """Whether much was sent lately."""
        return now - self._bulk < BULK_TIME

    def look(self, now: float) -> None:
        """See once a second what has passed; probes do not count."""
        packets, sent = self.peer.stats.packets, self.peer.stats.tx_bytes
        if packets != self._packets:
            self._packets, self.last_traffic = packets, now
        if sent - self._bytes >= BULK:
            self._bulk = now
        self._bytes = sent

    def withdraw(self, which: Callable[[Place], bool]) -> list[Place]:
        """Forget probes that discovery asked for to some places; return those that were out."""
        tokens = [token for token, sent in self.asks.items() if which(sent.place)]
        for place in filter(which, tuple(self.opening)):
            del self.opening[place]
        return [self.asks.pop(token).place for token in tokens]

    def unheard(self, since: float) -> list[Way]:
        """Return the paths that carry data and have not answered since then."""
        return [way for way in self.all if way.state in CARRIES and way.last_pong <= since]

    def spare(self) -> Way | None:
        """Return the direct path that is of least use, None if all of them are in use or work."""
        direct = [way for way in self.ways.values() if way.via is None]
        spare = [way for way in direct if way.state not in CARRIES and way is not self.current]
        return min(spare, key=lambda way: (way.proved, way.last_pong, -way.number), default=None)

    def add(self, path: Path, path_class: PathClass, mtu: int) -> Way:
        """Add a path that has not proved itself."""
        way = Way(next(self._numbers), self.peer, path, path_class, PathMtu(mtu))
        self.ways[way.flow] = way
        return way
