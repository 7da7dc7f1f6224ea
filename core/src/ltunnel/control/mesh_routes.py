"""Which nodes are reached over which neighbour: distances that are told and heard, without loops (RFC 8966).

::

    hear ─► heard: (destination, neighbour) -> sequence number, metric, hops ─┐
    set_link, drop_link ─► links: neighbour -> cost ──────────────────────────┴─► choose ─► chosen ─► tell

A route over a neighbour is feasible if it is better than whatever this node has told of the destination so far: a newer
sequence number, or the same and a smaller metric (section 3.5.1). Only such a route is chosen, but for a link to the
destination itself, where no loop can be. `tell` moves the feasibility distance (section 3.7.3). Names are 8 bytes,
metrics and costs microseconds; pure, the caller sends and keeps time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ltunnel.wire.advert import HOPS_LIMIT, INFINITY, Route, Want

DISTANCE_TIME = 180.0
"""Seconds after which a feasibility distance of no route in use is forgotten, at least (section 3.7.3)."""
PER_NEIGHBOUR = 1024
"""Destinations that are remembered of one neighbour."""
FARTHEST = INFINITY - 1
BETTER = 0.75
MARGIN = 2000
"""A route is left for another whose metric is smaller by a quarter and 2 ms (section 3.6)."""
WORSE = 1.5
NOTICEABLE = 10_000
"""A metric that has grown or shrunk by half and 10 ms is told at once (section 3.7.2)."""


class Distance(NamedTuple):
    """The best that was told of a destination, and when it was last told."""

    seqno: int
    metric: int
    when: float


class Heard(NamedTuple):
    """What a neighbour has said of a destination."""

    seqno: int
    metric: int
    hops: int
    until: float
    """When it is forgotten (monotonic seconds)."""


class Chosen(NamedTuple):
    """A route in use."""

    via: bytes
    seqno: int
    metric: int
    hops: int
    """Links, that to the neighbour included."""


def newer(one: int, other: int) -> bool:
    """Whether a sequence number comes after another, modulo 2^16 (section 3.2.1)."""
    return 0 < (one - other) & 0xFFFF < 0x8000


class RouteTable:
    """The routes of the node called `own`, which others remember for `hold` seconds."""

    __slots__ = ("_distances", "_heard", "_max_hops", "_memory", "_own", "_stale", "chosen", "links", "seqno")

    def __init__(self, own: bytes, max_hops: int, hold: float, seqno: int = 0) -> None:
        self._own = own
        self._max_hops = min(max_hops, HOPS_LIMIT)
        self._memory = max(DISTANCE_TIME, hold)
        self.seqno = seqno
        """This node's own."""
        self.links: dict[bytes, int] = {}
        """What it costs to reach a neighbour."""
        self._heard: dict[bytes, dict[bytes, Heard]] = {}  # by destination, then by neighbour
        self._distances: dict[bytes, Distance] = {}
        self.chosen: dict[bytes, Chosen] = {}
        """By destination."""
        self._stale: set[bytes] = set()  # destinations to be looked at

    # ---------------------------------------------------------------- what is known

    def set_link(self, name: bytes, cost: int) -> None:
        """Take note of a link, or of what it costs now (above 0)."""
        self.links[name] = max(1, cost)
        self._stale.update(dest for dest, heard in self._heard.items() if name in heard)

    def drop_link(self, name: bytes) -> None:
        """Forget a link, and all that was heard over it."""
        self.links.pop(name, None)
        for dest in [dest for dest, heard in self._heard.items() if name in heard]:
            self._forget(dest, name)

    def hear(self, via: bytes, route: Route, until: float) -> bool:
        """Take a route from a neighbour; False for one that contradicts itself, or is one too many."""
        if (route.name == via) != (route.metric == 0):
            return False
        if route.name == self._own:
            return True
        if route.metric == INFINITY:
            self._forget(route.name, via)
            return True
        heard = self._heard.get(route.name)
        if (heard is None or via not in heard) and self._count(via) >= PER_NEIGHBOUR:
            return False
        if heard is None:
            heard = self._heard[route.name] = {}
        heard[via] = Heard(route.seqno, route.metric, route.hops, until)
        self._stale.add(route.name)
        return True

    def sweep(self, now: float) -> None:
        """Forget what was not told again in time, and feasibility distances that nobody can remember any more."""
        for dest, heard in list(self._heard.items()):
            for via in [via for via, entry in heard.items() if entry.until <= now]:
                self._forget(dest, via)
        for dest, told in list(self._distances.items()):
            if dest not in self.chosen and now - told.when >= self._memory:
                del self._distances[dest]
                self._stale.add(dest)

    def _forget(self, dest: bytes, via: bytes) -> None:
        heard = self._heard.get(dest)
        if heard is not None and heard.pop(via, None) is not None:
            self._stale.add(dest)
            if not heard:
                del self._heard[dest]

    def _count(self, via: bytes) -> int:
        return sum(via in heard for heard in self._heard.values())

    # ---------------------------------------------------------------- what follows

    def routes(self, dest: bytes) -> list[Chosen]:
        """Return the feasible routes to a destination that are not too long, the shortest first."""
        found = [
            Chosen(via, entry.seqno, min(FARTHEST, entry.metric + self.links[via]), entry.hops + 1)
            for via, entry in self._heard.get(dest, {}).items()
            if via in self.links and entry.hops < self._max_hops and (via == dest or self._feasible(dest, entry))
        ]
        return sorted(found, key=lambda route: (route.hops, route.metric, route.via))

    def says(self, via: bytes, dest: bytes) -> bool:
        """Whether a neighbour claims to reach a destination, be that of use or not."""
        return via in self.links and via in self._heard.get(dest, {})

    def choose(self) -> set[bytes]:
        """Choose anew where something has changed; return the destinations of which others should hear at once."""
        news: set[bytes] = set()
        for dest in self._stale:
            old, new = self.chosen.get(dest), self._best(dest)
            if new is not None:
                self.chosen[dest] = new
            else:
                self.chosen.pop(dest, None)
            if _matters(old, new):
                news.add(dest)
        self._stale.clear()
        return news

    def starving(self) -> list[tuple[Want, list[bytes]]]:
        """Return what to ask for, and whom, as there are none but unfeasible routes to a destination."""
        wants = []
        for dest, heard in self._heard.items():
            if dest not in self.chosen and dest in self._distances:
                seqno = (self._distances[dest].seqno + 1) & 0xFFFF
                vias = [via for via, entry in heard.items() if via in self.links and entry.hops < self._max_hops]
                if vias:
                    wants.append((Want(dest, seqno, self._max_hops), vias))
        return wants

    def tell(self, neighbour: bytes, names: Iterable[bytes] | None, now: float) -> list[Route]:
        """Return what to say to a neighbour of some destinations, or of itself and all: infinite where there is none.

        What came from the neighbour, or is about it, is not for it (split horizon, section 3.7.4).
        """
        told = [Route(self._own, self.seqno, 0, 0)]
        for dest in self.chosen if names is None else names:
            route = self.chosen.get(dest)
            if dest in (neighbour, self._own):
                continue
            if route is not None and route.via != neighbour and route.hops < self._max_hops:
                told.append(Route(dest, route.seqno, route.metric, route.hops))
                self._remember(dest, route, now)
            elif names is not None:
                told.append(Route(dest, 0 if route is None else route.seqno, INFINITY, 1))
        return told

    def answer(self, want: Want, neighbour: bytes) -> bytes | None:
        """Take a request: return the neighbour to pass it on to, or None if `tell` is an answer, or there is no use."""
        if want.name == self._own:
            if newer(want.seqno, self.seqno):
                self.seqno = want.seqno
            return None
        route = self.chosen.get(want.name)
        enough = route is not None and route.via != neighbour and not newer(want.seqno, route.seqno)
        if enough or want.hops < 2:
            return None
        heard = self._heard.get(want.name, {})
        ways = [(entry.metric, via) for via, entry in heard.items() if via in self.links and via != neighbour]
        return min(ways)[1] if ways else None

    def _best(self, dest: bytes) -> Chosen | None:
        """Return the link to the destination if there is one, else the smallest metric, with some inertia."""
        routes = self.routes(dest)
        if not routes or routes[0].hops == 1:
            return routes[0] if routes else None
        best = min(routes, key=lambda route: (route.metric, route.via))
        old = self.chosen.get(dest)
        same = None if old is None else next((route for route in routes if route.via == old.via), None)
        if same is not None and best.metric > same.metric * BETTER - MARGIN and not newer(best.seqno, same.seqno):
            return same
        return best

    def _feasible(self, dest: bytes, entry: Heard) -> bool:
        told = self._distances.get(dest)
        if told is None or newer(entry.seqno, told.seqno):
            return True
        return entry.seqno == told.seqno and entry.metric < told.metric

    def _remember(self, dest: bytes, route: Chosen, now: float) -> None:
        told = self._distances.get(dest)
        seqno, metric = route.seqno, route.metric
        if told is not None and not newer(seqno, told.seqno):
            seqno, metric = told.seqno, min(metric, told.metric) if seqno == told.seqno else told.metric
        self._distances[dest] = Distance(seqno, metric, now)


def _matters(old: Chosen | None, new: Chosen | None) -> bool:
    if old is None or new is None:
        return old is not new
    grown = abs(new.metric - old.metric) > (WORSE - 1) * old.metric + NOTICEABLE
    return old.via != new.via or newer(new.seqno, old.seqno) or grown
