"""Between a discovery agent and the rest of a node: signals to it, what it wants carried out, within limits.

::

    hub's session, interfaces, OBSERVED, PUNCH, PONG ─► Signal ─► agent ─► Query    ─► OBSERVE to the hub
    `Ways` seeks a path ────────────────────────────────┘            ├──► Request, Prepared ─► PUNCH to the hub
                                                                     └──► Probe ─► `Allowance` ─► `Ways.probe`

OBSERVE is sealed with the keys of the session with the hub, whatever transport that goes by: its index names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ltunnel.control.allowance import Allowance
from ltunnel.control.candidates import Dial, Hint
from ltunnel.control.context import Context
from ltunnel.control.flows import endpoint_of
from ltunnel.control.fresh_ports import FreshPort, FreshPorts
from ltunnel.control.hub_places import HubPlaces, version_of
from ltunnel.control.questions import Question, Questions
from ltunnel.control.session import Session
from ltunnel.control.timers import Timer
from ltunnel.control.ways import Ways
from ltunnel.plugin import (
    Action,
    Address,
    Carrier,
    DiscoveryAgent,
    Flow,
    LocalAddress,
    Prepared,
    Probe,
    Query,
    Request,
    Signal,
    SignalKind,
)
from ltunnel.session import Drop, Path
from ltunnel.wire.echo import pack_echo
from ltunnel.wire.fields import TOKEN_SIZE
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.places import HubPlace
from ltunnel.wire.punch import Punch, PunchStage

SWEEP_TIME = 10.0
"""Seconds from one look at fresh ports to the next."""
ACTION_LIMIT = 2048
"""Actions that are taken from an agent at one moment."""
ROUNDS_APART = 0.2
"""A START that follows another one of the same round this soon (seconds) is its copy."""


class Discovering(NamedTuple):
    """A discovery agent, and the transport that is the shared port of each carrier."""

    agent: DiscoveryAgent
    carriers: Mapping[Carrier, int]


def carriers(direct: Sequence[Carrier | None]) -> dict[Carrier, int]:
    """Return the transport for each carrier: the first of a list, in order, that says it carries direct paths by it."""
    found: dict[Carrier, int] = {}
    for index, carrier in enumerate(direct):
        if carrier is not None:
            found.setdefault(carrier, index)
    return found


class Discovery:
    """`hub` is the session with the hub. It is the `Seeker` of `Ways`."""

    __slots__ = (
        "_agent", "_allowances", "_carriers", "_ctx", "_hub", "_local", "_other", "_places", "_ports", "_questions",
        "_started", "_there", "_ways",
    )  # fmt: skip

    def __init__(self, ctx: Context, ways: Ways, hub: Session, by: Discovering) -> None:
        self._ctx = ctx
        self._ways = ways
        self._hub = hub
        self._agent, self._carriers = by
        self._ports = FreshPorts(ctx, ways.uses, self._carriers.get(Carrier.UDP, 0))
        self._allowances: dict[bytes, Allowance] = {}
        self._questions = Questions(ctx)
        self._local: tuple[LocalAddress, ...] = ()
        self._places = HubPlaces()
        self._other: dict[int, int] = {}  # number of the hub's other UDP port, by IP version
        self._started: dict[bytes, tuple[int, float]] = {}  # the last START of a peer: round and time
        self._there = False

    # ---------------------------------------------------------------- what happens on this machine

    def set_hub_address(self, address: Address, now: float) -> None:
        """Ask there from now on."""
        self._places.main = address
        self._look(now)

    def set_hub_names(self, addresses: Sequence[Address], now: float) -> None:
        """Take the addresses that the hub's name has, of both IP versions."""
        self._places.name(addresses)
        self._look(now)

    def set_interfaces(self, local: Sequence[LocalAddress], now: float) -> None:
        """Take the own addresses, all of them."""
        self._local = tuple(local)
        self._places.keep(self._local)
        self._look(now, anyway=True)

    def network_changed(self, now: float) -> None:
        """Take note that this machine may be behind another NAT."""
        self._places.seen.clear()
        self._tell(Signal(kind=SignalKind.MOVED), now)
        self._look(now, anyway=True)

    def _look(self, now: float, *, anyway: bool = False) -> None:
        """Tell the agent of the own addresses, if the hub is there and it can be asked otherwise than before."""
        askable = self._places.askable(self._local, self._carriers)
        if self._there and (self._places.changed(askable) or anyway):
            self._tell(Signal(kind=SignalKind.INTERFACES, local=self._local, askable=askable), now)

    def mapped(self, carrier: Carrier, address: Address | None, lifetime: float, now: float) -> None:
        """Take note that a router maps a port to ours; None when it does so no longer."""
        self._tell(Signal(kind=SignalKind.MAPPED, carrier=carrier, address=address, lifetime=lifetime), now)

    def ports_opened(self, owner: object, indexes: Sequence[int], now: float) -> None:
        """Take the ports that `OpenPorts` asked for, none if they could not be opened."""
        if isinstance(owner, FreshPort):
            self._ports.opened(owner, indexes[0] if indexes else None)
            if indexes:
                self._tell(Signal(kind=SignalKind.PORTS, peer=owner.peer, ports=(owner.number,)), now)

    # ---------------------------------------------------------------- what `Ways` says

    def relay_changed(self, now: float) -> None:
        """Take note that the session with the hub has begun or ended."""
        was_there, self._there = self._there, self._hub.in_use
        if self._there and not was_there:
            self._look(now, anyway=True)

    def seek(self, session: Session, now: float) -> None:
        """Look for a path to a neighbour, or for a better one."""
        peer = session.peer
        if peer is not None:
            direct = peer.path is not None and peer.path.transport != self._ctx.relay
            self._tell(Signal(kind=SignalKind.SEEK, peer=peer.key, direct=direct), now)

    def answered(self, session: Session, transport: int, flow: Flow, now: float) -> None:
        """Take note that a direct path has answered."""
        peer, address = session.peer, endpoint_of(self._ctx.describe(transport, flow))
        if peer is None or address is None:
            return
        carrier = next((carrier for carrier, index in self._carriers.items() if index == transport), Carrier.UDP)
        number = self._ports.number(transport, peer.key)
        self._tell(
            Signal(kind=SignalKind.PONG, peer=peer.key, address=address, carrier=carrier, port=number), now
        )  # fmt: skip

    def ended(self, session: Session, now: float) -> None:
        """Take note that a session is over."""
        if session.peer is not None:
            self._allowances.pop(session.peer.key, None)
            self._started.pop(session.peer.key, None)
            self._tell(Signal(kind=SignalKind.CLOSED, peer=session.peer.key), now)

    # ---------------------------------------------------------------- what the hub says

    def observed(self, frame: Observed, now: float) -> None:
        """Take the answer to a question."""
        asked = self._questions.get(frame.token)
        if asked is None or asked.query.from_other != frame.from_other:
            return
        self._questions.answered(frame.token)
        query, version = asked.query, version_of(asked.address)
        if query.version and version_of(frame.address) != query.version:  # by a translator between IP versions
            return
        self._other[version] = frame.other_port or self._other.get(version, 0)
        self._places.answered(query.carrier, asked.address)
        if not query.port and not query.to_other:
            self._places.seen[query.carrier, version] = frame.address
        self._answer(asked, frame.address, now)

    def echoed(self, token: bytes, now: float) -> None:
        """Take a datagram that was sent to the own outside address, and came back."""
        asked = self._questions.get(token)
        if asked is not None and asked.query.to_self:
            self._questions.answered(token)
            self._answer(asked, asked.address, now)

    def told(self, places: Sequence[HubPlace], now: float) -> None:
        """Take what the hub says of its own addresses, in WELCOME; one that was lost before may know nothing more."""
        self._there = self._there and not self._hub.dead
        self._places.tell(places)
        self._look(now)

    def punch(self, frame: Punch, now: float) -> None:
        """Take a PUNCH."""
        session = self._ctx.sessions.get(frame.key)
        if session is None or session is self._hub or not session.in_use:
            return
        match frame.stage:
            case PunchStage.PREPARE:
                self._tell(Signal(kind=SignalKind.PREPARE, peer=frame.key, round=frame.round), now)
            case PunchStage.START:
                self._start(frame, now)
            case PunchStage.REFUSED:
                self._tell(Signal(kind=SignalKind.REFUSED, peer=frame.key, reason=frame.reason), now)
            case _:
                self._ctx.stats.drop(Drop.MALFORMED)

    def _start(self, frame: Punch, now: float) -> None:
        number, when = self._started.get(frame.key, (-1, 0.0))
        if number == frame.round and now - when < ROUNDS_APART:
            return
        self._started[frame.key] = frame.round, now
        allowance = self._allowances.setdefault(frame.key, Allowance())
        mine = {own.address[0] for own in self._local}
        lans = frozenset(own.network for own in self._local if own.network)
        candidates = allowance.start(frame.candidates, own=mine.__contains__, lans=lans, now=now)
        signal = Signal(
            kind=SignalKind.START, peer=frame.key, round=frame.round, delay=frame.delay, first=frame.first,
            behaviour=frame.behaviour, candidates=candidates,
        )  # fmt: skip
        self._tell(signal, now)

    def _answer(self, asked: Question, address: Address, now: float) -> None:
        query, other = asked.query, self._other.get(version_of(asked.address), 0)
        self._tell(
            Signal(kind=SignalKind.OBSERVED, query=query, address=address, other_port=other, carrier=query.carrier,
                   port=query.port, peer=query.peer), now,
        )  # fmt: skip

    # ---------------------------------------------------------------- what the agent wants

    def due(self, now: float) -> None:
        """AGENT: carry out what the agent wants now."""
        for transport in self._ports.sweep(now):
            self._ways.port_closed(transport, now)
        for action in list(self._agent.actions(now))[:ACTION_LIMIT]:
            self._carry_out(action, now)
        times = [self._agent.next_timeout(), self._questions.sweep(self._places.version, now)]
        if len(self._ports):
            times.append(now + SWEEP_TIME)
        when = min((time for time in times if time is not None), default=None)
        if when is None:
            self._ctx.timers.cancel(Timer.AGENT, self)
        else:
            self._ctx.timers.set(Timer.AGENT, self, max(when, now))

    def explain(self, now: float) -> dict[str, Any]:
        """Return what the agent has found out, and its candidates; see `DiscoveryAgent.explain`."""
        behaviour = self._agent.behaviour()
        return {
            **self._agent.explain(now),
            "behaviour": {
                "mapping": behaviour.mapping.name.lower(),
                "filtering": behaviour.filtering.name.lower(),
                "hairpin": behaviour.hairpin.name.lower(),
                "preserves_port": behaviour.preserves_port.name.lower(),
            },
            "candidates": [
                {"kind": candidate.kind.value, "carrier": candidate.carrier.name.lower(),
                 "address": candidate.address[0], "port": candidate.address[1], "lan": bool(candidate.network)}
                for candidate in self._agent.candidates(now)
            ],
            "versions": self._places.explain(self._local),
            "fresh_ports": len(self._ports),
        }  # fmt: skip

    def _tell(self, signal: Signal, now: float) -> None:
        self._agent.handle_signal(signal, now)
        self.due(now)

    def _carry_out(self, action: Action, now: float) -> None:
        match action:
            case Query():
                self._ask(action, now)
            case Request() | Prepared():
                self._punch(action, now)
            case Probe():
                self._probe(action, now)

    def _punch(self, action: Request | Prepared, now: float) -> None:
        stage = PunchStage.REQUEST if isinstance(action, Request) else PunchStage.READY
        hub = self._hub.peer
        if hub is None or hub.epoch is None or hub.path is None or not self._hub.in_use:
            return
        frame = Punch(
            stage=stage, key=action.peer, round=action.round, behaviour=self._agent.behaviour(),
            candidates=tuple(action.candidates),
        )  # fmt: skip
        self._ctx.send_frame(hub.epoch, hub.path, frame, now)

    def _probe(self, probe: Probe, now: float) -> None:
        """Send a probe if the hub has named its host for that peer, and it is not too many."""
        session, allowance = self._ctx.sessions.get(probe.peer), self._allowances.get(probe.peer)
        if session is None or allowance is None or not session.in_use or session is self._hub:
            return
        path_class = allowance.take(probe, now)
        if path_class is None:
            self._ctx.stats.drop(Drop.LIMITED)
            return

        def send(transport: int) -> None:
            if self._ways.subnets.holds(probe.to):
                return
            if probe.hops:
                token = self._ctx.random(TOKEN_SIZE)
                self._ctx.calls.append(Hint(transport, probe.to, pack_echo(token), probe.hops))
            elif probe.carrier is Carrier.UDP:
                self._ways.probe(session, transport, probe.to, path_class, now)
            else:
                like = self._questions.flow(transport, probe.to)
                if like is not None:  # only that flow's port is known to the other side
                    self._ways.probe(session, transport, probe.to, path_class, now, like)

        self._from_port(probe.carrier, probe.peer, probe.port, send, now)

    def _from_port(
        self, carrier: Carrier, peer: bytes, port: int, send: Callable[[int], None], now: float
    ) -> None:  # fmt: skip
        """Send something from the shared port of a carrier, or from a fresh one."""
        if not port:
            index = self._carriers.get(carrier)
            if index is not None:
                send(index)
        elif carrier is Carrier.UDP and Carrier.UDP in self._carriers:
            fresh = FreshPort(peer, port)
            for transport in self._ports.make_room(fresh, now):
                self._ways.port_closed(transport, now)
            self._ports.use(fresh, send, now)

    # ---------------------------------------------------------------- questions

    def _ask(self, query: Query, now: float) -> None:
        places = self._places
        version = query.version or places.version
        if not self._hub.in_use or not version:
            return
        if query.to_self:
            address = places.seen.get((query.carrier, version))
        else:
            address = places.main if version == places.version else places.next(query.carrier, version, now)
            if address is not None and query.to_other:
                other = self._other.get(version, 0)
                address = (address[0], other) if other else None
        if address is not None:
            self._from_port(query.carrier, query.peer, query.port, partial(self._dial, query, address, now), now)

    def _dial(self, query: Query, address: Address, now: float, transport: int) -> None:
        """Have a flow opened for a question, or use the one that there is."""
        if self._ways.subnets.holds(address):
            return
        question = Question(query, transport, address, now)
        path = None if self._hub.peer is None else self._hub.peer.path
        there = path is not None and path.transport == transport and address == self._places.main
        if query.carrier is Carrier.TCP and path is not None and there:
            self.dialled(question, path.flow, now)
        else:
            self._ctx.calls.append(Dial(transport, address, question))

    def dialled(self, question: Question, flow: Flow, now: float) -> None:
        """Ask the question over the flow that it was dialled for."""
        query, hub, token = question.query, self._hub.peer, self._ctx.random(TOKEN_SIZE)
        if query.carrier is Carrier.TCP:
            self._questions.asked_over(question, flow)
        if query.to_self:
            self._questions.add(token, question)
            self._ctx.send(question.transport, flow, pack_echo(token))
        elif hub is not None and hub.epoch is not None:
            path = Path(question.transport, flow)
            if self._ctx.send_frame(hub.epoch, path, Observe(token, from_other=query.from_other), now):
                self._questions.add(token, question)
