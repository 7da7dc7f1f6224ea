"""Paths through neighbours: which are probed, beside those that the far end has come by.

A route makes a path be tried. What it is used for, its own PONGs decide, as with any path.
"""

from __future__ import annotations

from collections.abc import Mapping

from ltunnel.control.context import Context
from ltunnel.control.mesh_routes import Chosen, RouteTable
from ltunnel.control.way import WayState
from ltunnel.control.way_table import WayTable
from ltunnel.control.ways import MESH_LIMIT, Ways
from ltunnel.session import Path
from ltunnel.wire.relay import NAME_SIZE, node_name

KEPT_ALIVE = 3
"""Paths through nodes to one destination, as long as so many work."""
RETRY = 60.0
"""A path that has never answered is tried again after so many seconds, if its route is still there."""


class MeshWays:
    """Follows the routes."""

    __slots__ = ("_ctx", "_led", "_routes", "_tried", "_ways")

    def __init__(self, ctx: Context, ways: Ways, routes: RouteTable) -> None:
        self._ctx = ctx
        self._ways = ways
        self._routes = routes
        self._led: set[bytes] = set()  # flows to which there was a route
        self._tried: dict[bytes, float] = {}  # flows, and when they were last tried anew

    @property
    def tables(self) -> Mapping[bytes, WayTable]:
        """All neighbours' paths, by key."""
        return self._ways.tables

    def routes(self, dest: bytes) -> list[Chosen]:
        """Return the routes to a node through another one, the shortest first."""
        links = self._ctx.hops.links
        return [route for route in self._routes.routes(dest) if route.via != dest and route.via in links]

    def follow(self, now: float) -> None:
        """Try paths to which there is a route, leave those to which there is none any more."""
        led: set[bytes] = set()
        there = {node_name(key) for key in self.tables}
        self._tried = {
            flow: when for flow, when in self._tried.items() if now - when < RETRY and flow[NAME_SIZE:] in there
        }
        for table in list(self.tables.values()):
            if table.session.in_use:
                dest = node_name(table.peer.key)
                routes = {route.via + dest: route for route in self.routes(dest)}
                self._leave(table, routes, now)
                self._try(table, routes, now)
                led.update(routes)
                led.update(flow for flow in self._led if self._routes.says(flow[:NAME_SIZE], flow[NAME_SIZE:]))
        self._led = led

    def _leave(self, table: WayTable, routes: Mapping[bytes, Chosen], now: float) -> None:
        """Leave paths whose first link is gone, or whose route was taken back; take up those whose route is there.

        One whose route is just not feasible any more is left alone: its own PONGs show that it leads there.
        """
        for (_, flow), way in list(table.ways.items()):
            if way.via is None:
                continue
            route, via, dest = routes.get(flow), flow[:NAME_SIZE], flow[NAME_SIZE:]
            if via not in self._ctx.hops.links or (flow in self._led and not self._routes.says(via, dest)):
                self._ways.lose(table, way, now)
            elif route is not None:
                way.hops, way.via = route.hops, self._ctx.hops.links[via]
                if way.state is WayState.DEAD and flow not in self._led:
                    way.rounds = 0  # the far end may hear of it a little later
                    self._ways.probing.begin(table, way, now)

    def _try(self, table: WayTable, routes: Mapping[bytes, Chosen], now: float) -> None:
        """Add paths until enough are alive; the shortest first, so that a low metric alone does not help a liar."""
        alive = sum(way.via is not None and way.state is not WayState.DEAD for way in table.ways.values())
        mesh = self._ctx.mesh
        if mesh is None:
            return
        for flow, route in routes.items():
            if alive >= KEPT_ALIVE or table.relayed >= MESH_LIMIT:
                return
            if (mesh, flow) in table.ways or flow in self._tried:
                continue
            self._tried[flow] = now
            self._ways.through(table, Path(mesh, flow), self._ctx.hops.links[route.via], route.hops, now)
            alive += 1
