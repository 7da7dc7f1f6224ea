"""A node in the mesh: it tells its neighbours whom it reaches, relays for them, and finds paths through them.

::

    Ways ─ paths_changed ─► links ─► RouteTable ─┬─► Hops: what the data path relays by
    ADVERT ─ heard ────────────────────► ▲       ├─► ADVERT to neighbours: news at once, all now and then
                                                 └─► MeshWays: paths through neighbours, to be probed

A link is a direct path in use to a neighbour. Sequence numbers, metrics and loops are `mesh_routes`' business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltunnel.control.context import Context
from ltunnel.control.limits import Buckets
from ltunnel.control.measure import Measure
from ltunnel.control.mesh_routes import RouteTable
from ltunnel.control.mesh_ways import MeshWays
from ltunnel.control.roster import Roster
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer, uniform
from ltunnel.control.way_table import WayTable
from ltunnel.control.ways import Ways
from ltunnel.session import Drop, Path, Peer
from ltunnel.wire.advert import ROUTE_LIMIT, WANT_LIMIT, Advert, Route, Want
from ltunnel.wire.relay import node_name

LINK_LIMIT = 128
"""Neighbours that take part."""
NEWS_GAP = 1.0
"""What has changed is told at most so often (seconds)."""
REPEATS = 2
"""So often altogether, since nothing acknowledges it."""
HOLD = 3.5
"""What is told holds for so many intervals (RFC 8966, appendix B)."""
JITTER = 0.1
ASK_AGAIN = 2.0
"""A sequence number is asked for again after so many seconds, then twice as many, up to the interval."""
RATE, BURST = 8.0, 32.0
"""ADVERTs that are taken from one neighbour: in a second, and at once."""
NODE_COST = 1000
"""What each link costs besides its round-trip time (microseconds),"""
DEAREST = 60_000_000
"""and what it costs at most."""


def link_cost(measure: Measure) -> int:
    """Return what a link costs (microseconds): its round-trip time, as often as a datagram has to be sent to arrive."""
    rtt = DEAREST if measure.rtt is None else measure.rtt * 1e6
    return min(DEAREST, round((rtt + NODE_COST) / (1.0 - min(0.9, measure.loss))))


class Mesh:
    """See `Watcher`. `roster` knows who has been introduced."""

    __slots__ = (
        "_asked", "_buckets", "_costs", "_ctx", "_fresh", "_interval", "_isolated", "_last_news", "_news", "_next_all",
        "_own", "_passed", "_roster", "_seen", "_ways", "routes",
    )  # fmt: skip

    def __init__(self, ctx: Context, ways: Ways, roster: Roster, now: float) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._roster = roster
        self._own = node_name(settings.identity.public)
        self._interval = settings.route_update_interval
        self.routes = RouteTable(
            self._own, settings.max_hops, HOLD * self._interval, int.from_bytes(ctx.random(2), "big")
        )
        self._ways = MeshWays(ctx, ways, self.routes)
        roster.reached = lambda key: node_name(key) in self.routes.chosen
        self._isolated = False
        self._seen: dict[bytes, tuple[int | None, int]] = {}  # by key, cost and relayed paths, as last looked at
        self._costs: dict[bytes, int] = {}  # of links, as the routes have them
        self._fresh: dict[bytes, int] = {}  # neighbours that are told all, and how often still
        self._news: dict[bytes, int] = {}  # destinations that all are told of, and how often still
        self._last_news = float("-inf")
        self._next_all = now
        self._asked: dict[bytes, tuple[int, float]] = {}  # destinations asked for: tries, when next
        self._passed: dict[bytes, float] = {}  # destinations for which a request was passed on, and when
        self._buckets = Buckets(RATE, BURST, LINK_LIMIT)

    # ---------------------------------------------------------------- what happens

    def paths_changed(self, now: float) -> None:
        """Look soon, if what paths there are makes a difference."""
        seen = {key: (self._cost(table), table.relayed) for key, table in self._ways.tables.items()}
        before = self._seen
        if seen.keys() != before.keys() or any(
            _differ(before[key][0], cost) or before[key][1] != relayed for key, (cost, relayed) in seen.items()
        ):
            self._seen = seen
            self._ctx.timers.set(Timer.MESH, self, now)

    def isolate(self, isolated: bool, now: float) -> None:
        """Take the hub's word on whether nodes may reach each other."""
        if isolated != self._isolated:
            self._isolated = isolated
            self._look(now)

    def heard(self, session: Session, advert: Advert, now: float) -> None:
        """Take an ADVERT of a neighbour."""
        peer = session.peer
        assert peer is not None  # noqa: S101 (the frame was authenticated by its key)
        name = node_name(peer.key)
        if self._isolated or not session.in_use or self._roster.get(peer.key) is None:
            peer.stats.drop(Drop.UNKNOWN_TYPE)
            return
        if not self._buckets.take(name, now):
            peer.stats.drop(Drop.LIMITED)
            return
        bad = sum(not self.routes.hear(name, route, now + advert.hold) for route in advert.routes)
        if bad:
            peer.stats.drop(Drop.MALFORMED, bad)
        if advert.all:
            self._fresh[name] = max(1, self._fresh.get(name, 0))
        before = self.routes.seqno
        self._wanted(advert.wants, name, now)
        if self.routes.seqno != before:
            self._news[self._own] = REPEATS
        self._look(now)

    def due(self, now: float) -> None:
        """MESH: see what has changed, and tell what is due."""
        self._look(now)

    # ---------------------------------------------------------------- for others

    def way_in(self, peer: Peer, tries: int) -> Path | None:
        """Return a path for a handshake with a node that may not be reached through the hub, another one each time."""
        routes = self._ways.routes(node_name(peer.key))
        if not routes or self._ctx.mesh is None:
            return None
        return Path(self._ctx.mesh, routes[tries % len(routes)].via + node_name(peer.key))

    def leads(self, peer: Peer) -> bool:
        """Whether a path in use goes through a node."""
        return any(table.current.via is peer for table in self._ways.tables.values())

    def describe(self) -> dict[str, Any]:
        """Say for status who the neighbours are, and which routes there are."""
        names = self._ctx.fib.names
        return {
            "links": sorted(peer.name for peer in self._ctx.hops.links.values()),
            "routes": [
                {
                    "name": names[dest].name, "via": names[route.via].name, "hops": route.hops,
                    "metric_ms": round(route.metric / 1000, 3),
                }
                for dest, route in sorted(self.routes.chosen.items())
                if dest in names and route.via in names
            ],
        }  # fmt: skip

    # ---------------------------------------------------------------- links, routes, paths

    def _cost(self, table: WayTable) -> int | None:
        """Return what a link costs, None if there is none."""
        way, peer = table.current, table.peer
        there = table.session.in_use and way.direct and way.usable and peer.path is way.path
        return link_cost(way.measure) if there else None

    def _look(self, now: float) -> None:
        """Bring links, routes, next hops and paths in line with each other; send what is to be told."""
        self._relink(now)
        self.routes.sweep(now)
        self._news.update(dict.fromkeys(self.routes.choose(), REPEATS))
        hops, names = self._ctx.hops, self._ctx.fib.names
        hops.links = {name: names[name] for name in self._costs if name in names}
        hops.next = {
            dest: hops.links[route.via]
            for dest, route in self.routes.chosen.items()
            if dest in names and route.via in hops.links
        }
        self._ways.follow(now)
        self._roster.prune(now)
        self._tell(now)

    def _relink(self, now: float) -> None:
        """Take note of links that are new, gone, or cost something else."""
        costs: dict[bytes, int] = {}
        for table in self._ways.tables.values():
            cost, name = None if self._isolated else self._cost(table), node_name(table.peer.key)
            if cost is not None and (name in self._costs or len(costs) < LINK_LIMIT):
                costs[name] = cost
        for name in self._costs.keys() - costs.keys():
            del self._costs[name]
            self._fresh.pop(name, None)
            self.routes.drop_link(name)
        for name, cost in costs.items():
            old = self._costs.get(name)
            if old is None:
                self._fresh[name] = REPEATS
            if _differ(old, cost):
                self._costs[name] = cost
                self.routes.set_link(name, cost)
        self._passed = {dest: when for dest, when in self._passed.items() if now - when < NEWS_GAP}

    # ---------------------------------------------------------------- telling

    def _tell(self, now: float) -> None:
        """Send what is due, and set the timer for what is next."""
        if now >= self._next_all:
            self._next_all = now + self._interval * (1.0 - JITTER * uniform(self._ctx.random))
            for name in self._costs:
                self._fresh.setdefault(name, 1)
        if now >= self._last_news + NEWS_GAP and (self._news or self._fresh):
            self._last_news = now
            for name in self._costs:
                anew = self._fresh.get(name) == REPEATS
                if name in self._fresh:
                    self._send(name, self.routes.tell(name, None, now), now, anew=anew)
                rest = [dest for dest in self._news if name not in self._fresh or dest not in self.routes.chosen]
                if rest:
                    self._send(name, self.routes.tell(name, rest, now), now)
            self._fresh = {name: left - 1 for name, left in self._fresh.items() if left > 1}
            self._news = {dest: left - 1 for dest, left in self._news.items() if left > 1}
        asking = self._ask(now)
        waiting = self._last_news + NEWS_GAP if self._news or self._fresh else self._next_all
        if self._costs:
            self._ctx.timers.set(Timer.MESH, self, max(now, min(waiting, asking, self._next_all)))

    def _ask(self, now: float) -> float:
        """Ask for newer sequence numbers where there are none but unfeasible routes; return when that is due again."""
        wants: dict[bytes, list[Want]] = {}
        asked = self._asked
        self._asked = {}
        for want, vias in self.routes.starving():
            tries, when = asked.get(want.name, (0, now))
            if now >= when:
                for via in vias:
                    wants.setdefault(via, []).append(want)
                tries, when = tries + 1, now + min(self._interval, ASK_AGAIN * 2.0 ** min(tries, 16))
            self._asked[want.name] = tries, when
        for via, mine in wants.items():
            for at in range(0, len(mine), WANT_LIMIT):
                self._send(via, [], now, wants=tuple(mine[at : at + WANT_LIMIT]))
        return min((when for _, when in self._asked.values()), default=self._next_all)

    def _wanted(self, wants: Sequence[Want], name: bytes, now: float) -> None:
        """Answer requests of a neighbour, or pass them on, those for one node at most once a second."""
        known: list[bytes] = []
        for want in wants:
            onward = self.routes.answer(want, name)
            if onward is None:
                known.append(want.name)
            elif now - self._passed.get(want.name, float("-inf")) >= NEWS_GAP and len(self._passed) < LINK_LIMIT:
                self._passed[want.name] = now
                self._send(onward, [], now, wants=(want._replace(hops=want.hops - 1),))
        if known:
            self._send(name, self.routes.tell(name, known, now), now)

    def _send(
        self, name: bytes, routes: list[Route], now: float, *, wants: tuple[Want, ...] = (), anew: bool = False
    ) -> None:  # fmt: skip
        """Send as many frames as it takes, over the link."""
        peer = self._ctx.hops.links.get(name)
        if peer is None or peer.epoch is None or peer.path is None:
            return
        known = [route for route in routes if route.name == self._own or self._roster.named(route.name) is not None]
        for at in range(0, max(1, len(known)), ROUTE_LIMIT):
            part = tuple(known[at : at + ROUTE_LIMIT])
            advert = Advert(hold=HOLD * self._interval, routes=part, wants=wants, all=anew and not at)
            self._ctx.send_frame(peer.epoch, peer.path, advert, now)


def _differ(old: int | None, new: int | None) -> bool:
    """Whether a cost has changed by more than a quarter and 2 ms, or from or to none."""
    if old is None or new is None:
        return old is not new
    return abs(new - old) > old // 4 + 2 * NODE_COST
