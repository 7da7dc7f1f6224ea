"""Which path to each neighbour carries data: the routing policy decides, this module asks it and does as it says.

A policy sees only paths that have proved themselves and whose MTU is known. Without a policy the hub forwards all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ltunnel.control.context import Context
from ltunnel.control.events import Level
from ltunnel.control.way import Way, WayState, via_name
from ltunnel.control.way_table import WayTable
from ltunnel.plugin import PathClass, PathView, RoutingPolicy
from ltunnel.session import Quality

STATS_INTERVAL = 60.0
"""The owner is told so often (seconds), and when it changes, by what kinds of paths the neighbours are reached."""

_WORDS = {
    PathClass.LAN: "directly over the LAN",
    PathClass.PUBLIC: "directly",
    PathClass.MESH: "through another node",
    PathClass.HUB: "through the hub",
}


class Choosing:
    """Asks the policy and moves peers to the paths that it names."""

    __slots__ = ("_ctx", "_policy", "_told", "_told_at")

    def __init__(self, ctx: Context, policy: RoutingPolicy | None) -> None:
        self._ctx = ctx
        self._policy = policy
        self._told: tuple[int, ...] | None = None  # the last statistics
        self._told_at = float("-inf")

    @property
    def possible(self) -> bool:
        """Whether there is any choice."""
        return self._policy is not None

    def decide(self, tables: Mapping[bytes, WayTable], hub: bytes, now: float) -> list[WayTable]:
        """Let the policy look at all paths; return the tables whose path has changed. `hub` is the hub's key."""
        if self._policy is None:
            return []
        views = [_view(way, hub) for table in tables.values() for way in table.all if way.usable]
        hops = self._policy.decide(views, now)
        changed: list[WayTable] = []
        for key, hop in (hops or {}).items():
            table = tables.get(key)
            if table is None:
                continue
            way = next((way for way in table.all if way.number == hop.number and way.usable), None)
            if way is not None and way is not table.current:
                self.take(table, way, hop.reason, now)
                changed.append(table)
        return changed

    def take(self, table: WayTable, way: Way, reason: str, now: float) -> None:
        """Send by another path from now on."""
        old, table.current, table.reason = table.current, way, reason
        table.seeks, table.sought = 0, now
        peer = table.peer
        peer.path = way.path
        peer.quality = Quality()  # what was reported is about the path that was left
        self.fit(table)
        ctx, rtt = self._ctx, way.measure.rtt
        where = ctx.describe(*way.flow) if way.direct else ""
        by = f" ({where}, {ctx.transports[way.path.transport]})" if where else f" ({via_name(way)})" if way.via else ""
        ctx.emit(
            "path-changed", f"reaching {peer.name} {_WORDS[way.path_class]}{by}: {reason}",
            peer=peer.name, key=peer.key.hex(), endpoint=where or None, via=via_name(way), reason=reason, mtu=peer.mtu,
            rtt_ms=None if rtt is None else round(rtt * 1000, 3),
            **{"from": old.path_class.name.lower(), "to": way.path_class.name.lower()},
        )  # fmt: skip

    def fit(self, table: WayTable) -> None:
        """Let the data path see how the path in use is."""
        way, peer = table.current, table.peer
        peer.rtt = way.measure.rtt if way.measure.rtt is not None else peer.rtt
        peer.mtu = way.mtu.size or peer.mtu

    def tell(self, tables: Iterable[WayTable], now: float) -> None:
        """Tell the owner how many neighbours there are and how they are reached, if it is time or it has changed."""
        classes = [table.current.path_class for table in tables if table.session.in_use]
        relayed, served = classes.count(PathClass.MESH), classes.count(PathClass.HUB)
        counts = len(classes), len(classes) - relayed - served, relayed, served
        if counts == (self._told or (0, 0, 0, 0)) and (not classes or now - self._told_at < STATS_INTERVAL):
            return
        self._told, self._told_at = counts, now
        peers, direct, relay, server = counts
        self._ctx.emit(
            "routing-stats", f"Routing stats: {peers} peers, {direct} direct, {relay} relay, {server} server",
            Level.INFO, peers=peers, direct=direct, relay=relay, server=server,
        )  # fmt: skip


def _view(way: Way, hub: bytes) -> PathView:
    measure = way.measure
    return PathView(
        peer=way.peer.key, number=way.number, via=_first_hop(way, hub), path_class=way.path_class,
        rtt=math.inf if measure.rtt is None else measure.rtt, jitter=measure.jitter, loss=measure.loss,
        hops=way.hops, last_pong=way.last_pong, suspect=way.state is WayState.SUSPECT,
    )  # fmt: skip


def _first_hop(way: Way, hub: bytes) -> bytes:
    if way.via is not None:
        return way.via.key
    return way.peer.key if way.direct else hub
