"""The paths to each neighbour: found, probed, measured, chosen, and left when they fail.

    discovery ─ probe ─► Dial ─► PROBE ─► PONG ─┐
    authenticated datagrams from a new place ───┴─► Way ─► Probing ─► Choosing ─► Peer.path, Peer.mtu

A place becomes a path only by a PONG inside the neighbour's session: an equal private address behind another NAT, or an
address that somebody else was made to name, has no key to answer with. Until then it gets at most three times what came
from there (`Path.budget`); what goes to addresses that discovery names is limited there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from ltunnel.control.asking import Asking, Seeker, Watcher, seek_due
from ltunnel.control.candidates import Dial, HangUp
from ltunnel.control.choosing import Choosing
from ltunnel.control.context import Context
from ltunnel.control.flows import is_near
from ltunnel.control.measure import Measure
from ltunnel.control.path_mtu import PathMtu
from ltunnel.control.paths import AMPLIFICATION
from ltunnel.control.probing import KEPT, Probing
from ltunnel.control.session import Session
from ltunnel.control.subnets import Subnets
from ltunnel.control.timers import Timer
from ltunnel.control.way import Way, WayState, WayStep
from ltunnel.control.way_table import Ask, AskSent, Place, WayTable, relayed_mtu
from ltunnel.plugin import Address, Flow, PathClass, RoutingPolicy
from ltunnel.session import Path, Peer
from ltunnel.session.peer import Network
from ltunnel.wire.frames import Pong
from ltunnel.wire.relay import NAME_SIZE, node_name

WAY_LIMIT = 16
"""Direct paths to one neighbour."""
MESH_LIMIT = 8
"""Paths through nodes to one neighbour."""
UNANSWERED = 1.0
"""Data that was not answered for so long makes every path be probed."""


class Ways:
    """`hub` is the session with the hub; its peer is None until one has answered."""

    __slots__ = (
        "_asking", "_choosing", "_ctx", "_hub", "networks", "probing", "seeker", "subnets", "tables", "watcher",
    )  # fmt: skip

    def __init__(self, ctx: Context, hub: Session, subnets: Subnets, policy: RoutingPolicy | None = None) -> None:
        self._ctx = ctx
        self._hub = hub
        self.subnets = subnets
        self.probing = Probing(ctx)
        self._asking = Asking(ctx)
        self._choosing = Choosing(ctx, policy)
        self.tables: dict[bytes, WayTable] = {}
        """By the neighbour's key."""
        self.networks: Sequence[Network] = ()
        """The prefixes of this machine's own links: what a LAN is."""
        self.seeker: Seeker | None = None
        self.watcher: Watcher | None = None

    @property
    def hub_in_use(self) -> bool:
        """Whether there is a session with the hub."""
        return self._hub.in_use and not self._hub.dead

    # ---------------------------------------------------------------- sessions

    def begin(self, session: Session, now: float) -> None:
        """Start with the relay: the session is new, or its peer has begun anew and forgotten all other ways."""
        peer = session.peer
        if peer is None or self._ctx.relay is None:
            return
        table = self.tables.get(peer.key)
        if table is None:
            path = Path(self._ctx.relay, node_name(peer.key))
            table = self.tables[peer.key] = WayTable(session, peer, path, self._relay_mtu(peer), now)
        table.session = session
        self._relay(table)
        if table.current is not table.relay:
            self._choosing.take(table, table.relay, "the session has begun anew", now)
        peer.path = table.relay.path if self.hub_in_use else None
        self._choosing.fit(table)
        for way in table.all:
            if way is not table.relay:
                way.move(WayStep.LOST)
            self.probing.begin(table, way, now)
        if self._ctx.timers.when(Timer.GLANCE, self) is None:
            self._ctx.timers.set(Timer.GLANCE, self, now)
        self._watch(now)

    def end(self, session: Session, now: float) -> None:
        """Forget the ways of a session that is over."""
        table = self._of(session)
        if table is None:
            return
        table.peer.path = None
        for way in list(table.ways.values()):
            self._forget(table, way, now)
        self._ctx.timers.cancel_all(table.relay)
        del self.tables[table.peer.key]
        self._close(table.withdraw(lambda _: True))
        if self.seeker is not None:
            self.seeker.ended(session, now)
        self._decide(now)

    def relay_changed(self, now: float) -> None:
        """Take note that the session with the hub has begun, ended, or takes packets of another size."""
        for table in self.tables.values():
            self._relay(table)
            self.probing.begin(table, table.relay, now)
        if self.seeker is not None:
            self.seeker.relay_changed(now)
        self._decide(now)

    def network_changed(self, now: float) -> None:
        """See at once what still works, and what else does: this machine may be in another network."""
        for table in self.tables.values():
            table.seeks, table.sought = 0, now
            for way in table.all:
                self.probing.begin(table, way, now)

    def session_at(self, transport: int, flow: Flow) -> Session | None:
        """Return the session whose peer has proved that it is at a flow other than the relay's."""
        for table in self.tables.values():
            way = table.ways.get((transport, flow))
            if way is not None and way.proved:
                return table.session
        return None

    # ---------------------------------------------------------------- from discovery

    def probe(
        self, session: Session, transport: int, address: Address, path_class: PathClass, now: float,
        like: Flow | None = None,
    ) -> None:  # fmt: skip
        """Send a probe to an address; it becomes a path when a PONG comes back. Each call sends one.

        With `like`, a flow to the hub, the flow is met rather than connected, see `Dial`.
        """
        table = self._of(session)
        if table is not None and self._choosing.possible and not self.subnets.holds(address):
            self._asking.ask(table, Dial(transport, address, like=like), path_class, now)

    def dialled(self, ask: Ask, flow: Flow, now: float) -> None:
        """Send the probe over the flow that `probe` asked for."""
        if self.tables.get(ask.table.peer.key) is ask.table and not self.subnets.leads_into(ask.transport, flow):
            self._asking.dialled(ask, flow, now)
        else:
            self._close([(ask.transport, flow)])

    def refused(self, transport: int, flow: Flow, now: float) -> None:
        """Take note that a transport did not send: the flow is opening, or there is no way out."""
        for table in self.tables.values():
            given_up = self._asking.refused(table, (transport, flow), now)
            if given_up is not None:
                self._close([given_up])

    def port_closed(self, transport: int, now: float) -> None:
        """Forget the paths over a port that is gone, and its transport with it."""
        self._leave(lambda place: place[0] == transport, now, close=False)

    def networks_changed(self, peers: Collection[Peer], now: float) -> None:  # noqa: ARG002 (whose they are)
        """Forget the paths that lead into a network which is accepted now."""
        self._leave(lambda place: self.subnets.leads_into(*place), now)

    def uses(self, transport: int) -> bool:
        """Whether a path goes over a transport, so that its port is still needed."""
        return any(way.path.transport == transport for table in self.tables.values() for way in table.ways.values())

    # ---------------------------------------------------------------- from the mesh

    def through(self, table: WayTable, path: Path, via: Peer, hops: int, now: float) -> None:
        """Probe a path through a node; whether there are too many is for the caller to see."""
        way = table.add(path, PathClass.MESH, relayed_mtu(via.mtu, table.peer))
        way.via, way.hops = via, hops
        self.probing.begin(table, way, now)

    def lose(self, table: WayTable, way: Way, now: float) -> None:
        """Leave a path that is said to be gone; a PONG would bring it back."""
        if way.move(WayStep.LOST):
            self._after(table, way, now)

    # ---------------------------------------------------------------- from the network

    def arrived(self, session: Session, transport: int, flow: Flow, size: int, newest: bool, now: float) -> None:
        """Take note of authenticated datagrams (`size` bytes) from a flow that may not be the one in use."""
        table = self._of(session)
        if table is None or transport == self._ctx.relay or not self._choosing.possible:
            return
        way = table.ways.get((transport, flow))
        if way is table.current:
            return
        if way is None:
            way = self._found(table, transport, flow, size, now)
            if way is None:
                return
            self.probing.begin(table, way, now)
        elif way.path.budget is not None:
            way.path.budget += AMPLIFICATION * size
        if newest and table.source is not way:  # the peer, or its NAT, may have moved
            table.source = way
            for other in (way, table.current):
                if other is not table.relay:
                    self.probing.check(table, other, now)

    def pong(self, session: Session, pong: Pong, transport: int, flow: Flow, now: float) -> bool:
        """Take a PONG; False if it answers no PROBE from here, or came another way than that went."""
        table = self._of(session)
        if table is None:
            return False
        way = table.relay if transport == self._ctx.relay else table.ways.get((transport, flow))
        if way is None or pong.token in table.asks:
            sent = self._asking.answered(table, pong.token, (transport, flow))
            if sent is None:
                return False
            way, anew = self._proved(table, sent, now), True
            if way is None:
                return True
        else:
            before = way.state, way.mtu.size
            if not self.probing.answered(table, way, pong.token, now):
                return False
            if before == (way.state, way.mtu.size):
                return True
            anew = before[0] is not way.state
        if anew and way.direct and self.seeker is not None:
            self.seeker.answered(session, transport, flow, now)
        self._after(table, way, now)
        return True

    # ---------------------------------------------------------------- time

    def due(self, timer: Timer, owner: object, now: float) -> None:
        """WAY, ASK or GLANCE has fallen due for an owner that is this module's."""
        if timer is Timer.GLANCE:
            self._glance(now)
        elif timer is Timer.WAY and isinstance(owner, Way):
            self._way_due(owner, now)
        elif timer is Timer.ASK and isinstance(owner, tuple):
            ask, flow = owner
            self.dialled(ask, flow, now)

    def _way_due(self, way: Way, now: float) -> None:
        table = self.tables.get(way.peer.key)
        if table is None:
            return
        before = way.state, way.mtu.size
        self.probing.judge(table, way, now)
        if way.state is WayState.DEAD and (not way.proved or now - way.last_pong >= KEPT):
            self._forget(table, way, now)
        if before != (way.state, way.mtu.size):
            self._after(table, way, now)

    def _glance(self, now: float) -> None:
        """GLANCE: once a second, look at what has passed, whether it is answered, and whether to seek."""
        self._choosing.tell(self.tables.values(), now)
        if not self.tables:
            return
        self._ctx.timers.set(Timer.GLANCE, self, now + Timer.GLANCE.schedule.first)
        for table in self.tables.values():
            self._relay(table)
            was_busy = table.busy(now)
            table.look(now)
            since = table.peer.unanswered_since
            unanswered = since is not None and now - since >= UNANSWERED
            quiet = now - table.current.last_pong
            if unanswered or (table.busy(now) and not was_busy and quiet >= UNANSWERED):
                self.probing.check(table, table.current, now)
            for way in table.unheard(now - UNANSWERED) if unanswered else ():
                self.probing.check(table, way, now)
            self._close(self._asking.sweep(table, now))
            self._seek(table, now)
        self._decide(now)

    def _seek(self, table: WayTable, now: float) -> None:
        """Look for a better path while there is traffic, if there may be one."""
        if self.seeker is not None and self._choosing.possible and seek_due(table, now):
            table.seeks, table.sought = table.seeks + 1, now
            self.seeker.seek(table.session, now)

    # ---------------------------------------------------------------- for status

    def why(self, peer: Peer) -> str | None:
        """Say why the path in use with a neighbour was chosen."""
        table = self.tables.get(peer.key)
        return None if table is None else table.reason

    def table(self, peer: Peer, now: float) -> list[dict[str, Any]]:
        """Describe the paths to a neighbour, for status."""
        table, hub = self.tables.get(peer.key), "" if self._hub.peer is None else self._hub.peer.name
        return [] if table is None else table.describe(self._ctx.transports, self._ctx.describe, hub, now)

    # ---------------------------------------------------------------- parts

    def _of(self, session: Session) -> WayTable | None:
        return None if session.peer is None else self.tables.get(session.peer.key)

    def _relay_mtu(self, peer: Peer) -> int:
        hub = self._hub.peer
        return relayed_mtu(peer.limit if hub is None else hub.mtu, peer)

    def _relay(self, table: WayTable) -> None:
        """Let the path through the hub be as the hub's session is."""
        way = table.relay
        if not self._hub.in_use:
            way.move(WayStep.LOST)
        elif way.move(WayStep.RESTORED):
            way.measure = Measure()
        if table.peer.path is None and self.hub_in_use:
            table.peer.path = table.current.path
        mtu = self._relay_mtu(table.peer)
        if way.mtu.ceiling != mtu:
            way.mtu = PathMtu(mtu, assumed=True)
            if way is table.current:
                self._choosing.fit(table)

    def _found(self, table: WayTable, transport: int, flow: Flow, size: int, now: float) -> Way | None:
        """Add the path that the peer's datagrams came by; None if there are too many, or it is the hub's."""
        hub = None if self._hub.peer is None else self._hub.peer.path
        if hub is not None and (hub.transport, hub.flow) == (transport, flow):
            return None
        path = Path(transport, flow, AMPLIFICATION * size)
        if transport == self._ctx.mesh:
            via = self._ctx.fib.names.get(flow[:NAME_SIZE])
            if via is not None and table.relayed < MESH_LIMIT:
                self.through(table, path, via, 2, now)
            return None
        if self.subnets.leads_into(transport, flow) or not self._make_room(table, now):
            return None
        near = is_near(self._ctx.describe(transport, flow), self.networks)
        return table.add(path, PathClass.LAN if near else PathClass.PUBLIC, table.peer.limit)

    def _proved(self, table: WayTable, sent: AskSent, now: float) -> Way | None:
        """Add the path over which a probe of discovery was answered; None if there are too many that work."""
        way = table.ways.get(sent.place)
        if way is None:
            if not self._make_room(table, now):
                return None
            way = table.add(Path(*sent.place), sent.ask.path_class, table.peer.limit)
        way.path_class = min(way.path_class, sent.ask.path_class)
        self.probing.proved(table, way, now - sent.when, now)
        return way

    def _make_room(self, table: WayTable, now: float) -> bool:
        """Forget the least useful direct path if there are too many; False if all are in use or valid."""
        if len(table.ways) - table.relayed < WAY_LIMIT:
            return True
        spare = table.spare()
        if spare is not None:
            self._forget(table, spare, now)
        return spare is not None

    def _forget(self, table: WayTable, way: Way, now: float, *, close: bool = True) -> None:
        self._ctx.timers.cancel_all(way)
        if table.current is way and table.peer.path is not None:
            self._choosing.take(table, table.relay, "the one before is gone", now)
        table.ways.pop(way.flow, None)
        if table.source is way:
            table.source = None
        if close:
            self._close([way.flow])

    def _leave(self, which: Callable[[Place], bool], now: float, *, close: bool = True) -> None:
        """Forget the paths to some places, and the probes that are on their way there."""
        for table in self.tables.values():
            for way in [way for way in table.ways.values() if which(way.flow)]:
                self._forget(table, way, now, close=close)
            places = table.withdraw(which)
            self._close(places if close else ())
        self._decide(now)

    def _close(self, places: Sequence[Place]) -> None:
        """Close flows, unless something else uses them."""
        if not places:
            return
        used = {(peer.path.transport, peer.path.flow) for peer in self._ctx.peers.values() if peer.path is not None}
        for table in self.tables.values():
            used.update(table.ways, (sent.place for sent in table.asks.values()))
        self._ctx.calls += [HangUp(*flow) for flow in dict.fromkeys(places) if flow not in used]

    def _after(self, table: WayTable, way: Way, now: float) -> None:
        """Let what was learnt of a path take effect."""
        if way is table.current:
            self._choosing.fit(table)
        self._decide(now)

    def _watch(self, now: float) -> None:
        if self.watcher is not None:
            self.watcher.paths_changed(now)

    def _decide(self, now: float) -> None:
        hub = self._hub.peer
        for table in self._choosing.decide(self.tables, b"" if hub is None else hub.key, now):
            self.probing.check(table, table.current, now)
        self._watch(now)
