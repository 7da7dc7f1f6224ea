"""The control side of a hub or a node: datagrams, frames and time in, datagrams and events out.

    receive, receive_frame, notice, handle_timeout  ─►  Control  ─►  outbox, events
                                                           │
                              sessions, fib, peers  ◄──────┘  what the data path reads

`dispatch` and `deadlines` say who gets what: `acceptance` and `initiation` make handshakes, `epochs` keeps keys,
`paths`, `ways` and `liveness` look after sessions, `subnets` after networks behind machines; `hub`, `joining` and
`neighbours` decide.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from ltunnel.control.acceptance import Acceptance
from ltunnel.control.candidates import Call, Candidate, Dial, Standing
from ltunnel.control.context import Context, Outgoing
from ltunnel.control.deadlines import Deadlines
from ltunnel.control.directory import Binding
from ltunnel.control.discovery import Discovering, Discovery
from ltunnel.control.dispatch import Dispatch, Roles
from ltunnel.control.epochs import Epochs
from ltunnel.control.events import Event
from ltunnel.control.failures import Failures
from ltunnel.control.flows import Describe, describe_endpoint
from ltunnel.control.hub import HubSide
from ltunnel.control.initiation import Initiation
from ltunnel.control.joining import NodeSide
from ltunnel.control.liveness import Liveness
from ltunnel.control.mesh import Mesh
from ltunnel.control.neighbours import Neighbours
from ltunnel.control.paths import Paths
from ltunnel.control.pins import Pins
from ltunnel.control.punching import OtherPort, Punching
from ltunnel.control.questions import Question
from ltunnel.control.roster import Roster
from ltunnel.control.session import Session
from ltunnel.control.settings import ControlSettings, Random, Role
from ltunnel.control.side import Parts
from ltunnel.control.sounding import Sounding
from ltunnel.control.states import State, Step
from ltunnel.control.subnets import Refused, Subnets
from ltunnel.control.timers import Timer
from ltunnel.control.way_table import Ask
from ltunnel.control.ways import Ways
from ltunnel.plugin import Address, Carrier, Flow, LocalAddress, RoutingPolicy
from ltunnel.session import Epoch, Fib, Hops, Peer, Stats
from ltunnel.session.peer import Network
from ltunnel.wire.frames import ByeCode
from ltunnel.wire.places import PLACE_LIMIT, HubPlace


class Control:
    """Sans-IO: the owner brings every datagram and the time, and drains `calls`, `outbox` and `events` after each call.

    `describe` names a flow of a transport, as `Transport.describe` does, `transports` are their names (the owner's
    list, which may grow), `relay` is the number of the one that goes through the hub to other nodes, `mesh` of the one
    that goes through a node; without `routing` all that is for them goes through the hub. Nothing that the network
    sends raises.
    """

    def __init__(
        self,
        settings: ControlSettings,
        *,
        random: Random,
        now: float,
        wall_offset: float,
        bindings: Sequence[Binding] = (),
        pins: Mapping[str, bytes] | None = None,
        describe: Describe = describe_endpoint,
        transports: Sequence[str] = ("transport",),
        relay: int | None = None,
        mesh: int | None = None,
        routing: RoutingPolicy | None = None,
        discovery: Discovering | None = None,
    ) -> None:
        ctx = self._ctx = Context(settings, random, wall_offset, describe, transports, relay, mesh)
        self.settings = settings
        self.sessions: dict[int, Epoch] = ctx.epochs
        """Epochs by our index; the data path reads it."""
        self.fib: Fib = ctx.fib
        self.hops: Hops = ctx.hops
        self.peers: dict[bytes, Peer] = ctx.peers
        """By key; on a hub also nodes that are gone."""
        self.stats: Stats = ctx.stats
        """What cannot be put down to a peer."""
        self.outbox: list[Outgoing] = ctx.outbox
        self.calls: list[Call] = ctx.calls
        """Flows to open and close, in order; before the datagrams in `outbox`."""
        self.events: list[Event] = ctx.events
        epochs = Epochs(ctx)
        liveness = Liveness(ctx)
        self._p = Parts(
            ctx, epochs, liveness, Paths(ctx, liveness), Initiation(ctx, epochs), Acceptance(ctx, epochs, now),
            Sounding(ctx), Subnets(ctx),
        )  # fmt: skip
        self._stopped = False
        self._hub_side = HubSide(self._p, bindings) if settings.role is Role.HUB else None
        self._node_side: NodeSide | None = None
        self._neighbours: Neighbours | None = None
        self._ways: Ways | None = None
        self._discovery: Discovery | None = None
        self._punching = Punching(ctx, self._p.paths) if self._hub_side is not None else None
        if settings.role is Role.NODE:
            hub, held = Session(), Pins(pins or {})
            if relay is not None:
                self._ways = Ways(ctx, hub, self._p.subnets, routing)
                roster = Roster(ctx, held, hub, self._p.subnets)
                self._neighbours = Neighbours(self._p, roster, self._ways)
                if mesh is not None:
                    ctx.hops.ttl = settings.max_hops
                    self._ways.watcher = self._neighbours.mesh = Mesh(ctx, self._ways, roster, now)
                if discovery is not None and discovery.carriers:
                    self._ways.seeker = self._discovery = Discovery(ctx, self._ways, hub, discovery)
            self._node_side = NodeSide(self._p, held, hub, self._neighbours)
        self._p.subnets.follower = self._hub_side or self._ways
        roles = Roles(self._hub_side, self._node_side, self._neighbours, self._punching, self._discovery)
        self._failures = Failures(ctx)
        self._dispatch = Dispatch(self._p, roles, self._failures)
        self._deadlines = Deadlines(self._p, roles, self._failures, self._ways)

    # ---------------------------------------------------------------- what others may know

    @property
    def wall_offset(self) -> float:
        """Wall clock minus monotonic clock, seconds; set it when the wall clock may have been stepped."""
        return self._ctx.wall_offset

    @wall_offset.setter
    def wall_offset(self, value: float) -> None:
        self._ctx.wall_offset = value

    @property
    def hub(self) -> Peer | None:
        """On a node: the hub, once it has answered."""
        return None if self._node_side is None else self._node_side.session.peer

    @property
    def state(self) -> str:
        """``up``, ``connecting`` or ``denied``; a hub is up from the start."""
        if self._node_side is None or self._node_side.session.in_use:
            return "up"
        return "denied" if self._node_side.session.state is State.DENIED else "connecting"

    @property
    def reason(self) -> str | None:
        """Why the state is not ``up``, in words."""
        return None if self._node_side is None or self.state == "up" else self._node_side.reason

    @property
    def bindings(self) -> tuple[Binding, ...]:
        """On a hub: who owns which address and name. An event ``bindings`` says that they have changed."""
        return () if self._hub_side is None else self._hub_side.directory.bindings

    @property
    def pins(self) -> dict[str, bytes]:
        """On a node: hub keys by `pin_name`. An event ``pins`` says that they have changed."""
        return {} if self._node_side is None else self._node_side.pins.items

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks behind other machines that are accepted, sorted: what to send into the tunnel."""
        return self._p.subnets.taken

    @property
    def refused_networks(self) -> list[Refused]:
        """Those that are not accepted, and why."""
        return self._p.subnets.refused

    def peer_state(self, peer: Peer) -> str:
        """Return ``established``, ``connecting``, ``idle``, ``refused`` or ``expired``, for status."""
        session = self._ctx.sessions.get(peer.key)
        if session is None:
            return "expired" if self._neighbours is None else self._neighbours.state(peer)
        return "established" if session.in_use else "connecting"

    @property
    def candidates(self) -> Sequence[Candidate]:
        """On a node: the ways to the hub, in order of preference."""
        return () if self._node_side is None else self._node_side.choice.candidates

    @property
    def standing(self) -> Standing:
        """On a node: how the candidate in use does, as long as there is a session."""
        session = None if self._node_side is None else self._node_side.session
        return Standing.DEAD if session is not None and session.dead else Standing.WORKING

    def why(self, peer: Peer) -> str | None:
        """Say why the transport that is in use with a peer was chosen."""
        if peer.path is None or self.peer_state(peer) != "established":
            return None
        if self._node_side is None:
            return "the node came by it"
        return self._ways.why(peer) if self._ways and peer is not self.hub else self._node_side.choice.reason

    def paths(self, peer: Peer, now: float) -> list[dict[str, Any]]:
        """On a node: all paths to another node, for status."""
        return [] if self._ways is None else self._ways.table(peer, now)

    def mesh(self) -> dict[str, Any] | None:
        """On a node: its neighbours in the mesh, and the routes, for status; None where it takes no part."""
        found = None if self._neighbours is None else self._neighbours.mesh
        return None if found is None else found.describe()

    # ---------------------------------------------------------------- the owner's orders

    def start(self, now: float) -> None:
        """Begin: a node connects as soon as `set_hub_paths` has said where to."""
        if self._node_side is not None:
            self._node_side.start(now)

    def stop(self, now: float) -> None:
        """Say BYE to everybody and take no further part."""
        for session in self._all_sessions():
            if session.in_use:
                self._ctx.send_bye(session, ByeCode.STOPPED, now)
            session.move(Step.STOP)
            self._p.initiation.stop(session)
            self._ctx.timers.cancel_all(session)
        self._stopped = True

    def set_hub_paths(self, paths: Sequence[tuple[int, Address]], now: float) -> None:
        """On a node: the ways to the hub from now on, (transport, address) in order of preference, each transport once.

        A session that there is goes along. Flows are asked for (`calls`) when they are needed.
        """
        if self._node_side is not None and not self._stopped:
            self._p.subnets.set_hub_paths([address for _, address in paths], now)
            self._node_side.set_hub_paths(paths, now)
            if self._discovery is not None and paths:
                self._discovery.set_hub_address(paths[0][1], now)

    def set_hub_names(self, addresses: Sequence[Address], now: float) -> None:
        """On a node: all addresses that the hub's name has, where it can be asked over the other IP version."""
        if self._node_side is not None and not self._stopped:
            self._p.subnets.set_hub_names(addresses, now)
            if self._discovery is not None:
                self._discovery.set_hub_names(addresses, now)

    def set_places(self, places: Sequence[HubPlace]) -> None:
        """On a hub: where it can be asked from outside, for nodes that join or make new keys; 4 at most are told."""
        if self._hub_side is not None:
            self._hub_side.places = tuple(places[:PLACE_LIMIT])

    def dialled(self, dial: Dial, flow: Flow, now: float) -> None:
        """Take the flow that a `Dial` asked for; it may still be opening."""
        if self._node_side is not None and not self._stopped:
            if self._ways is not None and isinstance(dial.whose, Ask):
                self._ways.dialled(dial.whose, flow, now)
            elif self._discovery is not None and isinstance(dial.whose, Question):
                self._discovery.dialled(dial.whose, flow, now)
            else:
                self._node_side.choice.dialled(dial, flow, now)

    def refused(self, transport: int, flow: Flow, now: float) -> None:
        """Take note that a transport did not send a datagram of `outbox`, as while a flow is opening."""
        if self._node_side is not None and not self._stopped:
            self._node_side.choice.refused(transport, flow, now)
            if self._ways is not None:
                self._ways.refused(transport, flow, now)

    def network_changed(self, now: float) -> None:
        """On a node: addresses or routes of this machine have changed, so that other ways to the hub may work."""
        if self._node_side is not None and not self._stopped:
            self._node_side.network_changed(now)
            if self._ways is not None:
                self._ways.network_changed(now)
            if self._discovery is not None:
                self._discovery.network_changed(now)

    def set_interfaces(self, local: Sequence[LocalAddress], networks: Sequence[Network], now: float) -> None:
        """On a node: the own addresses, with the ports that all peers share, and the prefixes of the own links."""
        if self._ways is not None:
            self._ways.networks = networks
        if self._discovery is not None and not self._stopped:
            self._discovery.set_interfaces(local, now)

    def set_links(self, networks: Sequence[Network], now: float) -> None:
        """Take the prefixes of this machine's own links, without the TUN device's: nobody else's networks are there."""
        if not self._stopped:
            self._p.subnets.set_links(networks, now)

    def mapped(self, carrier: Carrier, address: Address | None, lifetime: float, now: float) -> None:
        """On a node: a router maps a port to the shared one for so many seconds; None when it does so no longer."""
        if self._discovery is not None and not self._stopped:
            self._discovery.mapped(carrier, address, lifetime, now)

    def ports_opened(self, owner: Hashable, indexes: Sequence[int], now: float) -> None:
        """Take the transports that an `OpenPorts` has led to, none if there could be none."""
        if self._discovery is not None and not self._stopped:
            self._discovery.ports_opened(owner, indexes, now)

    def set_other_port(self, first: int, second: int, number: int) -> None:
        """On a hub: transport `second` is like `first`, but listens on the port `number`."""
        if self._punching is not None:
            self._punching.other = OtherPort(first, second, number)

    def explain(self, now: float) -> dict[str, Any] | None:
        """On a node: what is known of its NAT, and what was done for direct paths; None without a discovery plugin."""
        return None if self._discovery is None else self._discovery.explain(now)

    def want(self, peer: Peer, now: float) -> None:
        """On a node: make a session with another node, for which a packet waits."""
        if self._neighbours is not None and not self._stopped:
            self._neighbours.want(peer, now)

    def forget_binding(self, who: str, now: float) -> Binding | None:
        """On a hub: give a node's address and name free, by name, address or key in hex; None if there is none."""
        return None if self._hub_side is None else self._hub_side.forget(who, now)

    def forget_pin(self, name: str, now: float) -> bool:
        """On a node: trust the next key under this `pin_name`, at once if one was refused; False if none was pinned."""
        if self._node_side is None or not self._node_side.pins.forget(name):
            return False
        self._ctx.emit("pins", f"the key of {name} is forgotten", name=name)
        if self._node_side.session.state is State.DENIED:
            self._ctx.timers.set(Timer.RETRY, self._node_side.session, now)
        if self._neighbours is not None:
            self._neighbours.pin_forgotten(now)
        return True

    # ---------------------------------------------------------------- the network

    def receive(self, transport: int, flow: Flow, data: bytes, now: float) -> None:
        """Take a datagram that is not DATA."""
        if not self._stopped:
            self._dispatch.receive(transport, flow, data, now)

    def receive_frame(
        self,
        epoch: Epoch,
        frame_type: int,
        body: bytes,
        transport: int,
        flow: Flow,
        size: int,  # noqa: ARG002 (the data path accounts for it)
        now: float,
    ) -> None:
        """Take an authenticated control frame (type >= 0x10) that came in a datagram of `size` bytes."""
        if not self._stopped:
            self._dispatch.receive_frame(epoch, frame_type, body, transport, flow, now)

    def notice(self, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float) -> None:
        """Take note of an authenticated batch (`size` bytes) on an epoch that is not in use, or from another flow.

        `newest`: it held the highest counter of its epoch so far. The budget of a path that this makes counts the
        batch; whoever receives adds what comes later.
        """
        if not self._stopped:
            self._dispatch.notice(epoch, transport, flow, size, newest, now)

    # ---------------------------------------------------------------- time

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called (monotonic seconds), or None."""
        return None if self._stopped else self._ctx.timers.next()

    def handle_timeout(self, now: float) -> None:
        """Do what is due, each timer once."""
        for key in self._ctx.timers.due(now):
            if self._ctx.timers.take(key, now) and not self._stopped:
                self._deadlines.due(key, now)

    def _all_sessions(self) -> list[Session]:
        """Return all sessions; that with the hub comes last, since others may go through it."""
        hub = None if self._node_side is None else self._node_side.session
        others = [session for session in self._ctx.sessions.values() if session is not hub]
        return others if hub is None else [*others, hub]
