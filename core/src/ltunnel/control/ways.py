"""The paths to each neighbour: found, probed, measured, chosen, and left when they fail.

    discovery ─ probe ─► Dial ─► PROBE ─► PONG ─┐
    authenticated datagrams from a new place ───┴─► Way ─► Probing ─► Choosing ─► Peer.path, Peer.mtu

A place becomes a path only by a PONG inside the neighbour's session: an equal private address behind another NAT, or an
address that somebody else was made to name, has no key to answer with. Until then it gets at most three times what came
from there (`Path.budget`); what goes to addresses that discovery names is limited there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.control.asking import Asking, Place, Seeker
from ltunnel.control.candidates import Dial, HangUp
from ltunnel.control.choosing import Choosing
from ltunnel.control.context import Context
from ltunnel.control.flows import address_of
from ltunnel.control.measure import Measure
from ltunnel.control.path_mtu import PathMtu
from ltunnel.control.paths import AMPLIFICATION
from ltunnel.control.probing import KEPT, Probing
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.control.way import CARRIES, Way, WayState, WayStep
from ltunnel.control.way_table import Ask, AskSent, WayTable
from ltunnel.plugin import Address, Flow, PathClass, RoutingPolicy, is_private
from ltunnel.session import Epoch, Path, Peer
from ltunnel.session.peer import Network
from ltunnel.wire.frames import Pong
from ltunnel.wire.relay import node_name

WAY_LIMIT = 16
"""Direct paths to one neighbour."""
UNANSWERED = 1.0
"""Data that was not answered for so long makes every path be probed."""
SEEK = (0.0, 5.0, 15.0, 30.0, 45.0)
"""Seconds from one search for a direct path to the next while there is none; the last one repeats."""
SEEK_BETTER = 60.0
"""The same while there is one, but not on the LAN."""


class Ways:
    """`hub` is the session with the hub; its peer is None until one has answered."""

    __slots__ = ("_asking", "_choosing", "_ctx", "_hub", "_probing", "_tables", "networks", "seeker")

    def __init__(self, ctx: Context, hub: Session, policy: RoutingPolicy | None = None) -> None:
        self._ctx = ctx
        self._hub = hub
        self._probing = Probing(ctx)
        self._asking = Asking(ctx)
        self._choosing = Choosing(ctx, policy)
        self._tables: dict[bytes, WayTable] = {}
        self.networks: Sequence[Network] = ()
        """The prefixes of this machine's own links: what a LAN is."""
        self.seeker: Seeker | None = None

    # ---------------------------------------------------------------- sessions

    def begin(self, session: Session, now: float) -> None:
        """Start with the relay: the session is new, or its peer has begun anew and forgotten all other ways."""
        peer = session.peer
        if peer is None or self._ctx.relay is None:
            return
        table = self._tables.get(peer.key)
        if table is None:
            path = Path(self._ctx.relay, node_name(peer.key))
            table = self._tables[peer.key] = WayTable(session, peer, path, self._relay_mtu(peer), now)
        table.session = session
        self._relay(table)
        if table.current is not table.relay:
            self._choosing.take(table, table.relay, "the session has begun anew", now)
        peer.path = table.relay.path
        self._choosing.fit(table)
        for way in table.all:
            if way is not table.relay:
                way.move(WayStep.LOST)
            self._probing.begin(table, way, now)
        if self._ctx.timers.when(Timer.GLANCE, self) is None:
            self._ctx.timers.set(Timer.GLANCE, self, now)

    def end(self, session: Session, now: float) -> None:
        """Forget the ways of a session that is over."""
        table = self._of(session)
        if table is None:
            return
        table.peer.path = None
        for way in list(table.ways.values()):
            self._forget(table, way, now)
        self._ctx.timers.cancel_all(table.relay)
        places = [sent.place for sent in table.asks.values()]
        del self._tables[table.peer.key]
        self._close(places)
        if self.seeker is not None:
            self.seeker.ended(session, now)
        self._decide(now)

    def relay_changed(self, now: float) -> None:
        """Take note that the session with the hub has begun, ended, or takes packets of another size."""
        for table in self._tables.values():
            self._relay(table)
            self._probing.begin(table, table.relay, now)
        if self.seeker is not None:
            self.seeker.relay_changed(now)
        self._decide(now)

    def network_changed(self, now: float) -> None:
        """See at once what still works, and what else does: this machine may be in another network."""
        for table in self._tables.values():
            table.seeks, table.sought = 0, now
            for way in table.all:
                self._probing.begin(table, way, now)

    def session_at(self, transport: int, flow: Flow) -> Session | None:
        """Return the session whose peer has proved that it is at a flow other than the relay's."""
        for table in self._tables.values():
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
        if table is not None and self._choosing.possible:
            self._asking.ask(table, Dial(transport, address, like=like), path_class, now)

    def dialled(self, ask: Ask, flow: Flow, now: float) -> None:
        """Send the probe over the flow that `probe` asked for."""
        if self._tables.get(ask.table.peer.key) is ask.table:
            self._asking.dialled(ask, flow, now)
        else:
            self._close([(ask.transport, flow)])

    def refused(self, transport: int, flow: Flow, now: float) -> None:
        """Take note that a transport did not send: the flow is still opening, or there is no way out."""
        for table in self._tables.values():
            given_up = self._asking.refused(table, (transport, flow), now)
            if given_up is not None:
                self._close([given_up])

    def port_closed(self, transport: int, now: float) -> None:
        """Forget the paths over a port that is gone, and its transport with it."""
        for table in self._tables.values():
            for way in [way for way in table.ways.values() if way.path.transport == transport]:
                self._forget(table, way, now, close=False)
            for token in [token for token, sent in table.asks.items() if sent.ask.transport == transport]:
                del table.asks[token]
        self._decide(now)

    def uses(self, transport: int) -> bool:
        """Whether a path goes over a transport, so that its port is still needed."""
        return any(way.path.transport == transport for table in self._tables.values() for way in table.ways.values())

    # ---------------------------------------------------------------- from the network

    def arrived(
        self,
        session: Session,
        epoch: Epoch,  # noqa: ARG002 (any of the session's is as good)
        transport: int,
        flow: Flow,
        size: int,
        newest: bool,
        now: float,
    ) -> None:
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
            self._probing.begin(table, way, now)
        elif way.path.budget is not None:
            way.path.budget += AMPLIFICATION * size
        if newest and table.source is not way:  # the peer, or its NAT, may have moved
            table.source = way
            for other in (way, table.current):
                if other is not table.relay:
                    self._probing.check(table, other, now)

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
            if not self._probing.answered(table, way, pong.token, now):
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
        table = self._tables.get(way.peer.key)
        if table is None:
            return
        before = way.state, way.mtu.size
        self._probing.judge(table, way, now)
        if way.state is WayState.DEAD and (not way.proved or now - way.last_pong >= KEPT):
            self._forget(table, way, now)
        if before != (way.state, way.mtu.size):
            self._after(table, way, now)

    def _glance(self, now: float) -> None:
        """GLANCE: once a second, look at what has passed, whether it is answered, and whether to seek."""
        self._choosing.tell(self._tables.values(), now)
        if not self._tables:
            return
        self._ctx.timers.set(Timer.GLANCE, self, now + Timer.GLANCE.schedule.first)
        for table in self._tables.values():
            self._relay(table)
            was_busy = table.busy(now)
            table.look(now)
            since = table.peer.unanswered_since
            unanswered = since is not None and now - since >= UNANSWERED
            quiet = now - table.current.last_pong
            if unanswered or (table.busy(now) and not was_busy and quiet >= UNANSWERED):
                self._probing.check(table, table.current, now)
            if unanswered:
                for way in table.all:
                    if way.state in CARRIES and now - way.last_pong >= UNANSWERED:
                        self._probing.check(table, way, now)
            self._close(self._asking.sweep(table, now))
            self._seek(table, now)
        self._decide(now)

    def _seek(self, table: WayTable, now: float) -> None:
        """Look for a better path while there is traffic, if there may be one."""
        if self.seeker is None or not self._choosing.possible or not table.busy(now) or not table.session.in_use:
            return
        if table.current.path_class is PathClass.LAN:
            return
        wait = SEEK_BETTER if table.current.direct else SEEK[min(table.seeks, len(SEEK) - 1)]
        if now < table.sought + wait:
            return
        table.seeks, table.sought = table.seeks + 1, now
        self.seeker.seek(table.session, now)

    # ---------------------------------------------------------------- for status

    def why(self, peer: Peer) -> str | None:
        """Say why the path in use with a neighbour was chosen."""
        table = self._tables.get(peer.key)
        return None if table is None else table.reason

    def table(self, peer: Peer, now: float) -> list[dict[str, Any]]:
        """Describe the paths to a neighbour, for status."""
        table = self._tables.get(peer.key)
        if table is None:
            return []
        return [
            {
                **way.describe(now),
                "used": way is table.current,
                "transport": self._ctx.transports[way.path.transport],
                "endpoint": self._ctx.describe(*way.flow) if way.direct else None,
            }
            for way in table.all
        ]

    # ---------------------------------------------------------------- parts

    def _of(self, session: Session) -> WayTable | None:
        return None if session.peer is None else self._tables.get(session.peer.key)

    def _relay_mtu(self, peer: Peer) -> int:
        hub = self._hub.peer
        return (peer.limit if hub is None else min(hub.mtu, peer.limit)) - DATA_OVERHEAD - RELAY_TRAILER

    def _relay(self, table: WayTable) -> None:
        """Let the path through the hub be as the hub's session is."""
        way = table.relay
        if not self._hub.in_use:
            way.move(WayStep.LOST)
        elif way.move(WayStep.RESTORED):
            way.measure = Measure()
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
        if not self._make_room(table, now):
            return None
        budget = AMPLIFICATION * size
        return table.add(Path(transport, flow, budget), self._class_of(transport, flow), table.peer.limit)

    def _proved(self, table: WayTable, sent: AskSent, now: float) -> Way | None:
        """Add the path over which a probe of discovery was answered; None if there are too many that work."""
        way = table.ways.get(sent.place)
        if way is None:
            if not self._make_room(table, now):
                return None
            way = table.add(Path(*sent.place), sent.ask.path_class, table.peer.limit)
        way.path_class = min(way.path_class, sent.ask.path_class)
        self._probing.proved(table, way, now - sent.when, now)
        return way

    def _class_of(self, transport: int, flow: Flow) -> PathClass:
        """Return LAN for a private address in a prefix of one's own links; what else is direct counts as public."""
        address = address_of(self._ctx.describe(transport, flow))
        private = address is not None and is_private(address)
        near = private and any(address in network for network in self.networks)
        return PathClass.LAN if near else PathClass.PUBLIC

    def _make_room(self, table: WayTable, now: float) -> bool:
        """Forget the least useful path if there are too many; False if all are in use or valid."""
        if len(table.ways) < WAY_LIMIT:
            return True
        spare = [way for way in table.ways.values() if way.state not in CARRIES and way is not table.current]
        if not spare:
            return False
        self._forget(table, min(spare, key=lambda way: (way.proved, way.last_pong, -way.number)), now)
        return True

    def _forget(self, table: WayTable, way: Way, now: float, *, close: bool = True) -> None:
        self._ctx.timers.cancel_all(way)
        if table.current is way and table.peer.path is not None:
            self._choosing.take(table, table.relay, "the one before is gone", now)
        table.ways.pop(way.flow, None)
        if table.source is way:
            table.source = None
        if close:
            self._close([way.flow])

    def _close(self, places: Sequence[Place]) -> None:
        """Close flows, unless something else uses them."""
        if not places:
            return
        used = {(peer.path.transport, peer.path.flow) for peer in self._ctx.peers.values() if peer.path is not None}
        for table in self._tables.values():
            used.update(table.ways, (sent.place for sent in table.asks.values()))
        self._ctx.calls += [HangUp(*flow) for flow in dict.fromkeys(places) if flow not in used]

    def _after(self, table: WayTable, way: Way, now: float) -> None:
        """Let what was learnt of a path take effect."""
        if way is table.current:
            self._choosing.fit(table)
        self._decide(now)

    def _decide(self, now: float) -> None:
        hub = self._hub.peer
        for table in self._choosing.decide(self._tables, b"" if hub is None else hub.key, now):
            self._probing.check(table, table.current, now)
