"""The control side of a hub or a node: datagrams, frames and time in, datagrams and events out.

    receive, receive_frame, notice, handle_timeout  ─►  Control  ─►  outbox, events
                                                           │
                              sessions, fib, peers  ◄──────┘  what the data path reads

`Control` only says who gets what: `acceptance` and `initiation` make handshakes, `epochs` keeps keys, `paths` and
`liveness` look after sessions, `hub` and `joining` decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ltunnel.control.acceptance import Acceptance, Repeated
from ltunnel.control.candidates import Call, Candidate, Dial, Standing
from ltunnel.control.context import Context, Outgoing
from ltunnel.control.deadlines import Deadlines
from ltunnel.control.directory import Binding
from ltunnel.control.epochs import Epochs
from ltunnel.control.events import Event, Level
from ltunnel.control.failures import Failures
from ltunnel.control.flows import Describe, describe_endpoint
from ltunnel.control.hub import HubSide
from ltunnel.control.initiation import Initiation
from ltunnel.control.joining import NodeSide
from ltunnel.control.liveness import Liveness
from ltunnel.control.paths import Paths
from ltunnel.control.session import Session
from ltunnel.control.settings import ControlSettings, Random, Role
from ltunnel.control.side import Parts, Side
from ltunnel.control.states import State, Step
from ltunnel.control.timers import Timer
from ltunnel.errors import WireError
from ltunnel.plugin import Address, Flow
from ltunnel.session import Drop, Epoch, Fib, Path, Peer, Stats
from ltunnel.wire.frames import ByeCode, Ping, Pong, Probe, parse_frame
from ltunnel.wire.messages import Confirm, Cookie, Init, Resp, Time, parse
from ltunnel.wire.types import FrameType, MessageType

_HANDSHAKE = frozenset(
    {MessageType.INIT, MessageType.RESP, MessageType.CONFIRM, MessageType.COOKIE, MessageType.TIME}
)  # fmt: skip
_FRAMES = frozenset(
    {
        FrameType.PING, FrameType.PONG, FrameType.PROBE, FrameType.WELCOME, FrameType.PEERS, FrameType.ROUTES,
        FrameType.DENY, FrameType.BYE,
    }
)  # fmt: skip


class Control:
    """Sans-IO: the owner brings every datagram and the time, and drains `calls`, `outbox` and `events` after each call.

    `describe` names a flow of a transport, as `Transport.describe` does, `transports` are their names. Nothing that the
    network sends raises.
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
    ) -> None:
        ctx = self._ctx = Context(settings, random, wall_offset, describe, tuple(transports))
        self.settings = settings
        self.sessions: dict[int, Epoch] = ctx.epochs
        """Epochs by our index; the data path reads it."""
        self.fib: Fib = ctx.fib
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
            ctx, epochs, liveness, Paths(ctx, liveness), Initiation(ctx, epochs), Acceptance(ctx, epochs, now)
        )  # fmt: skip
        self._stopped = False
        self._hub_side = HubSide(self._p, bindings) if settings.role is Role.HUB else None
        self._node_side = NodeSide(self._p, pins or {}) if settings.role is Role.NODE else None
        side = self._hub_side or self._node_side
        assert side is not None  # noqa: S101 (there are two roles)
        self._side: Side = side
        self._failures = Failures(ctx)
        self._deadlines = Deadlines(self._p, side, self._failures)

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

    def peer_state(self, peer: Peer) -> str:
        """Return ``established``, ``connecting`` or ``expired``, for status."""
        session = self._ctx.sessions.get(peer.key)
        if session is None:
            return "expired"
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
        return "the node came by it" if self._node_side is None else self._node_side.choice.reason

    # ---------------------------------------------------------------- the owner's orders

    def start(self, now: float) -> None:
        """Begin: a node connects as soon as `set_hub_paths` has said where to."""
        self._side.start(now)

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
            self._node_side.set_hub_paths(paths, now)

    def dialled(self, dial: Dial, flow: Flow, now: float) -> None:
        """Take the flow that a `Dial` asked for; it may still be opening."""
        if self._node_side is not None and not self._stopped:
            self._node_side.choice.dialled(dial, flow, now)

    def refused(self, transport: int, flow: Flow, now: float) -> None:
        """Take note that a transport did not send a datagram of `outbox`, as while a flow is opening."""
        if self._node_side is not None and not self._stopped:
            self._node_side.choice.refused(transport, flow, now)

    def network_changed(self, now: float) -> None:
        """On a node: addresses or routes of this machine have changed, so that other ways to the hub may work."""
        if self._node_side is not None and not self._stopped:
            self._node_side.network_changed(now)

    def forget_binding(self, who: str, now: float) -> Binding | None:
        """On a hub: give a node's address and name free, by name, address or key in hex; None if there is none."""
        return None if self._hub_side is None else self._hub_side.forget(who, now)

    def forget_pin(self, name: str, now: float) -> bool:
        """On a node: trust the next hub under this `pin_name`, at once if one was refused; False if none was pinned."""
        if self._node_side is None or not self._node_side.pins.forget(name):
            return False
        self._ctx.emit("pins", f"the key of {name} is forgotten", name=name)
        if self._node_side.session.state is State.DENIED:
            self._ctx.timers.set(Timer.RETRY, self._node_side.session, now)
        return True

    # ---------------------------------------------------------------- the network

    def receive(self, transport: int, flow: Flow, data: bytes, now: float) -> None:
        """Take a datagram that is not DATA."""
        if self._stopped:
            return
        try:
            message = parse(data)
        except WireError:
            known = bool(data) and data[0] in _HANDSHAKE
            self.stats.drop(Drop.MALFORMED if known or not data else Drop.UNKNOWN_TYPE)
            return
        dropped: Drop | None = None
        match message:
            case Init():
                if self._side.answers(transport, flow):
                    dropped = self._p.acceptance.handle_init(message, data, transport, flow, now)
                else:
                    dropped = Drop.NO_SESSION
            case Confirm():
                dropped = self._handle_confirm(message, data, transport, flow, now)
            case Resp():
                met = self._p.initiation.handle_resp(message, data)
                if isinstance(met, Drop):
                    dropped = met
                else:
                    self._side.met(met, now)
            case Cookie():
                attempt = self._p.initiation.handle_cookie(message, now)
                if isinstance(attempt, Drop):
                    dropped = attempt
                elif self._p.initiation.may_hurry(attempt.session, now):
                    self._side.hurry(attempt, now)
            case Time():
                dropped = self._handle_time(message, now)
        if dropped is not None:
            self._failures.drop(dropped, transport, flow, now)

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
        session = self._ctx.session_of(epoch)
        if session is None or self._stopped:
            return
        peer = epoch.peer
        peer.last_rx = now
        peer.unanswered_since = None
        if frame_type not in _FRAMES:
            peer.stats.drop(Drop.UNKNOWN_TYPE)
            return
        try:
            frame = parse_frame(frame_type, bytes(body))
        except WireError:
            peer.stats.drop(Drop.MALFORMED)
            return
        if isinstance(frame, Ping | Probe):
            self._answer_ping(session, epoch, frame, transport, flow, now)
        elif isinstance(frame, Pong):
            sent = self._p.liveness.pong(session, peer, frame, transport, flow, now)
            if sent is not None:
                self._p.paths.proved(session, peer, sent, now)
            else:
                self._side.pong(frame, transport, flow, now)
        elif not self._side.handle_frame(session, epoch, frame, now):
            peer.stats.drop(Drop.UNKNOWN_TYPE)

    def notice(self, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float) -> None:
        """Take note of an authenticated batch (`size` bytes) on an epoch that is not in use, or from another flow.

        `newest`: it held the highest counter of its epoch so far. The budget of a path that this makes counts the
        batch; whoever receives adds what comes later.
        """
        session = self._ctx.session_of(epoch)
        if session is None or self._stopped:
            return
        epoch.confirmed = True
        epoch.peer.last_rx = now
        epoch.peer.unanswered_since = None
        if epoch.local_index in session.unproven:
            self._side.proven(session, epoch, now)
        if newest and self._side.follows(transport, flow):
            self._p.paths.follow(session, epoch, transport, flow, size, now)

    # ---------------------------------------------------------------- time

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called (monotonic seconds), or None."""
        return None if self._stopped else self._ctx.timers.next()

    def handle_timeout(self, now: float) -> None:
        """Do what is due, each timer once."""
        for key in self._ctx.timers.due(now):
            if self._ctx.timers.take(key, now) and not self._stopped:
                self._deadlines.due(key, now)

    # ---------------------------------------------------------------- parts of `receive`

    def _handle_confirm(self, confirm: Confirm, data: bytes, transport: int, flow: Flow, now: float) -> Drop | None:
        proved = self._p.acceptance.handle_confirm(confirm, data, transport, flow, now)
        if proved is None or isinstance(proved, Drop):
            return proved
        if isinstance(proved, Repeated):
            self._side.greet(proved.session, proved.epoch, now)
        else:
            self._side.admit(proved, now)
        return None

    def _handle_time(self, message: Time, now: float) -> Drop | None:
        answer = self._p.initiation.handle_time(message, now)
        if isinstance(answer, Drop):
            return answer
        attempt, correction = answer
        if abs(correction) >= 1.0:
            way = "behind" if correction > 0 else "ahead of"
            self._ctx.emit(
                "clock", f"this machine's clock is {_duration(abs(correction))} {way} the hub's: set it right (NTP). "
                "The tunnel goes by the hub's clock until then", Level.WARNING, seconds=round(correction, 3),
            )  # fmt: skip
        if self._p.initiation.may_hurry(attempt.session, now):
            self._side.hurry(attempt, now)
        return None

    def _answer_ping(
        self, session: Session, epoch: Epoch, ping: Ping | Probe, transport: int, flow: Flow, now: float
    ) -> None:
        """Answer to where the PING came from: a PONG is as long as its PING, so that is safe anywhere."""
        path = epoch.peer.path
        elsewhere = path is None or (path.transport, path.flow) != (transport, flow)
        if path is None or elsewhere:
            path = Path(transport, flow)
        tried = elsewhere and isinstance(ping, Probe)
        if tried:
            self._side.probed(session, epoch, path, now)
        self._ctx.send_frame(epoch, path, Pong(ping.token, ping.padding), now)
        if self._hub_side is not None and not tried:
            self._p.liveness.measure(session, now)

    def _all_sessions(self) -> list[Session]:
        sessions = list(self._ctx.sessions.values())
        if self._node_side is not None and self._node_side.session not in sessions:
            sessions.append(self._node_side.session)
        return sessions


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
