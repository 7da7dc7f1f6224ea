"""Who takes what: datagrams, frames and timers to the policy whose session they belong to.

A session of a hub is `HubSide`'s. On a node the one with the hub is `NodeSide`'s, all others are `Neighbours`'.
"""

from __future__ import annotations

from ltunnel.control.acceptance import Proved, Repeated
from ltunnel.control.discovery import Discovery
from ltunnel.control.events import Level
from ltunnel.control.failures import Failures
from ltunnel.control.hub import HubSide
from ltunnel.control.joining import NodeSide
from ltunnel.control.neighbours import Neighbours
from ltunnel.control.punching import Punching
from ltunnel.control.session import Session
from ltunnel.control.side import Parts, Side
from ltunnel.errors import WireError
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Path
from ltunnel.wire.echo import parse_echo
from ltunnel.wire.frames import Ping, Pong, Probe, Welcome, parse_frame
from ltunnel.wire.messages import Confirm, Cookie, Init, Resp, Time, parse
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.punch import Punch, PunchStage
from ltunnel.wire.types import FrameType, MessageType

_HANDSHAKE = frozenset(
    {MessageType.INIT, MessageType.RESP, MessageType.CONFIRM, MessageType.COOKIE, MessageType.TIME}
)  # fmt: skip
_FRAMES = frozenset(
    {
        FrameType.PING, FrameType.PONG, FrameType.PROBE, FrameType.WELCOME, FrameType.PEERS, FrameType.DENY,
        FrameType.BYE, FrameType.PUNCH, FrameType.OBSERVE, FrameType.OBSERVED, FrameType.ADVERT,
    }
)  # fmt: skip


class Roles:
    """The policies of this machine: `hub`, or `node` and perhaps `neighbours`; and their parts in direct paths."""

    __slots__ = ("discovery", "hub", "neighbours", "node", "punching")

    def __init__(
        self, hub: HubSide | None, node: NodeSide | None, neighbours: Neighbours | None, punching: Punching | None,
        discovery: Discovery | None,
    ) -> None:  # fmt: skip
        self.hub = hub
        self.node = node
        self.neighbours = neighbours
        self.punching = punching
        self.discovery = discovery

    def of(self, session: Session) -> Side:
        """Return the policy for a session."""
        if self.hub is not None:
            return self.hub
        assert self.node is not None  # noqa: S101 (a machine is a hub or a node)
        if self.neighbours is None or session is self.node.session:
            return self.node
        return self.neighbours

    def answers(self, transport: int, flow: Flow, now: float) -> bool:
        """Whether an INIT from a flow is answered at all."""
        sides: tuple[Side | None, ...] = (self.hub, self.node, self.neighbours)
        return any(side.answers(transport, flow, now) for side in sides if side is not None)

    def deciding(self, proved: Proved) -> Side:
        """Return the policy that takes or refuses whoever has proved a key."""
        if self.hub is not None:
            return self.hub
        assert self.node is not None  # noqa: S101 (as above)
        peer = self.node.session.peer
        hubs = peer is not None and peer.key == proved.key
        return self.node if hubs or self.neighbours is None else self.neighbours


class Dispatch:
    """What comes from the network."""

    __slots__ = ("_failures", "_p", "_roles")

    def __init__(self, parts: Parts, roles: Roles, failures: Failures) -> None:
        self._p = parts
        self._roles = roles
        self._failures = failures

    def receive(self, transport: int, flow: Flow, data: bytes, now: float) -> None:
        """Take a datagram that is not DATA."""
        token = parse_echo(data)
        if token is not None and self._roles.discovery is not None:
            self._roles.discovery.echoed(token, now)
            return
        try:
            message = parse(data)
        except WireError:
            known = bool(data) and data[0] in _HANDSHAKE
            self._p.ctx.stats.drop(Drop.MALFORMED if known or not data else Drop.UNKNOWN_TYPE)
            return
        dropped: Drop | None = None
        match message:
            case Init():
                if self._roles.answers(transport, flow, now):
                    dropped = self._p.acceptance.handle_init(message, data, transport, flow, now)
                else:
                    dropped = Drop.NO_SESSION
            case Confirm():
                dropped = self._confirm(message, data, transport, flow, now)
            case Resp():
                met = self._p.initiation.handle_resp(message, data)
                if isinstance(met, Drop):
                    dropped = met
                else:
                    self._roles.of(met.attempt.session).met(met, now)
            case Cookie():
                attempt = self._p.initiation.handle_cookie(message, now)
                if isinstance(attempt, Drop):
                    dropped = attempt
                elif self._p.initiation.may_hurry(attempt.session, now):
                    self._roles.of(attempt.session).hurry(attempt, now)
            case Time():
                dropped = self._time(message, now)
        if dropped is not None:
            self._failures.drop(dropped, transport, flow, now)

    def receive_frame(
        self, epoch: Epoch, frame_type: int, body: bytes, transport: int, flow: Flow, now: float
    ) -> None:  # fmt: skip
        """Take an authenticated control frame (type >= 0x10)."""
        session = self._p.ctx.session_of(epoch)
        if session is None:
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
        side = self._roles.of(session)
        if isinstance(frame, Ping | Probe):
            self._answer_ping(session, epoch, frame, transport, flow, now)
        elif isinstance(frame, Pong):
            side.pong(session, peer, frame, transport, flow, now)
        elif isinstance(frame, Observe | Observed | Punch):
            if not session.in_use or not self._about_direct_paths(session, epoch, frame, transport, flow, now):
                peer.stats.drop(Drop.UNKNOWN_TYPE)
        else:
            if isinstance(frame, Welcome) and self._roles.discovery is not None and side is self._roles.node:
                self._roles.discovery.told(frame.places, now)
            if not side.handle_frame(session, epoch, frame, now):
                peer.stats.drop(Drop.UNKNOWN_TYPE)

    def _about_direct_paths(
        self, session: Session, epoch: Epoch, frame: Observe | Observed | Punch, transport: int, flow: Flow, now: float
    ) -> bool:
        """Take what nodes ask a hub, and a hub tells nodes; False for anything else, as from a neighbour."""
        punching, discovery, node = self._roles.punching, self._roles.discovery, self._roles.node
        if punching is not None:
            match frame:
                case Observe():
                    punching.observe(session, epoch, frame, transport, flow, now)
                case Punch():
                    punching.handle(session, frame, now)
                case _:
                    return False
            return True
        if node is None or session is not node.session:
            return False
        match frame:
            case Observed() if discovery is not None:
                discovery.observed(frame, now)
            case Punch() if discovery is not None:
                discovery.punch(frame, now)
            case Punch(stage=PunchStage.PREPARE) if epoch.peer.path is not None:
                refusal = Punch(stage=PunchStage.REFUSED, key=frame.key, round=frame.round)
                self._p.ctx.send_frame(epoch, epoch.peer.path, refusal, now)
            case _:
                return False
        return True

    def notice(self, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float) -> None:
        """Take note of an authenticated batch on an epoch that is not in use, or from another flow."""
        session = self._p.ctx.session_of(epoch)
        if session is None:
            return
        epoch.confirmed = True
        epoch.peer.last_rx = now
        epoch.peer.unanswered_since = None
        side = self._roles.of(session)
        if epoch.local_index in session.unproven:
            side.proven(session, epoch, now)
        side.arrived(session, epoch, transport, flow, size, newest, now)

    # ---------------------------------------------------------------- parts of `receive`

    def _confirm(self, confirm: Confirm, data: bytes, transport: int, flow: Flow, now: float) -> Drop | None:
        proved = self._p.acceptance.handle_confirm(confirm, data, transport, flow, now)
        if proved is None or isinstance(proved, Drop):
            return proved
        if isinstance(proved, Repeated):
            self._roles.of(proved.session).greet(proved.session, proved.epoch, now)
        else:
            self._roles.deciding(proved).admit(proved, now)
        return None

    def _time(self, message: Time, now: float) -> Drop | None:
        """Go by the hub's clock from now on; another node's counts for INITs to that node only."""
        answer = self._p.initiation.handle_time(message, now)
        if isinstance(answer, Drop):
            return answer
        attempt, correction = answer
        node = self._roles.node
        if node is None or attempt.session is not node.session:
            attempt.session.clock_error += correction
        else:
            self._p.ctx.clock_error += correction
            if abs(correction) >= 1.0:
                way = "behind" if correction > 0 else "ahead of"
                self._p.ctx.emit(
                    "clock", f"this machine's clock is {_duration(abs(correction))} {way} the hub's: set it right "
                    "(NTP). The tunnel goes by the hub's clock until then", Level.WARNING,
                    seconds=round(correction, 3),
                )  # fmt: skip
        if self._p.initiation.may_hurry(attempt.session, now):
            self._roles.of(attempt.session).hurry(attempt, now)
        return None

    def _answer_ping(
        self, session: Session, epoch: Epoch, ping: Ping | Probe, transport: int, flow: Flow, now: float
    ) -> None:
        """Answer to where the PING came from: a PONG is as long as its PING, so that is safe anywhere outside."""
        if self._p.subnets.leads_into(transport, flow):
            return
        path = epoch.peer.path
        elsewhere = path is None or (path.transport, path.flow) != (transport, flow)
        if path is None or elsewhere:
            path = Path(transport, flow)
        tried = elsewhere and isinstance(ping, Probe)
        if tried:
            self._roles.of(session).probed(session, epoch, path, now)
        self._p.ctx.send_frame(epoch, path, Pong(ping.token, ping.padding), now)
        if self._roles.hub is not None and not tried:
            self._p.liveness.measure(session, now)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
