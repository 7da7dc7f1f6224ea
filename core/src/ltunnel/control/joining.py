"""A node's side towards its hub: finding it, being taken or refused, and coming back."""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.control.acceptance import Proved
from ltunnel.control.candidates import places
from ltunnel.control.choice import Choice
from ltunnel.control.diagnosis import REPEAT, UNANSWERED_INITS, unanswered
from ltunnel.control.events import Level
from ltunnel.control.initiation import Met
from ltunnel.control.neighbours import Neighbours
from ltunnel.control.pins import Pins, pin_name
from ltunnel.control.session import Attempt, Session
from ltunnel.control.side import Parts
from ltunnel.control.states import Step
from ltunnel.control.timers import Timer
from ltunnel.plugin import Address, Flow
from ltunnel.session import Drop, Epoch, Path, Peer
from ltunnel.wire.frames import TOKEN_SIZE, Bye, Deny, Frame, Peers, Ping, Pong, Welcome
from ltunnel.wire.payloads import ConfirmPayload

STABLE = 60.0
"""A connection that held so long makes earlier BYEs count for nothing."""


class NodeSide:
    """The session with the hub, whose word on other nodes `neighbours` get; None where there is no relay."""

    __slots__ = ("_neighbours", "_p", "_pin", "_started", "_told", "choice", "pins", "reason", "session")

    def __init__(self, parts: Parts, pins: Pins, session: Session, neighbours: Neighbours | None) -> None:
        self._p = parts
        self.pins = pins
        self._pin = pin_name(parts.ctx.settings.hub_label, parts.ctx.settings.network)
        self._neighbours = neighbours
        self.session = session
        self.choice = Choice(parts.ctx, parts.liveness, parts.paths, parts.initiation, self.session)
        self.reason: str | None = None
        """Why there is no connection, for people."""
        self._started = False
        self._told: str | None = None  # the last refusal that was told

    # ---------------------------------------------------------------- connecting

    def start(self, now: float) -> None:
        """Connect, as soon as it is known where to."""
        self._started = True
        self._connect(now)

    def set_hub_paths(self, paths: Sequence[tuple[int, Address]], now: float) -> None:
        """Look for the hub there from now on, with the session that there is."""
        if self.choice.set(paths, now):
            self._begin_anew(now)

    def network_changed(self, now: float) -> None:
        """See at once what works in another network."""
        self.choice.network_changed(now)
        if not self.session.in_use:
            self._begin_anew(now)

    def _begin_anew(self, now: float) -> None:
        """Go on with a handshake under way as if it began now, or begin one."""
        session = self.session
        if self._p.ctx.timers.when(Timer.INIT, session) is not None:
            session.tries = 0
            self.initiate(session, now)
        elif self._started and not session.in_use and self._p.ctx.timers.when(Timer.RECONNECT, session) is None:
            self._connect(now)

    def initiate(self, session: Session, now: float) -> None:
        """Send the next INIT; say what may be wrong when three were not answered."""
        path = None if session.peer is None else session.peer.path
        self._diagnose(session, now)
        if session.in_use and not session.dead and path is not None:  # new keys are made where the old ones work
            self._p.initiation.again(session, now)
            self._p.initiation.send_init(session, path.transport, path.flow, now)
        elif self.choice.candidates:
            self.choice.race(now)

    def hurry(self, attempt: Attempt, now: float) -> None:
        """Send an INIT again where one was answered, but not with RESP."""
        self.choice.hurry(attempt, now)

    def met(self, met: Met, now: float) -> None:
        """Go on if it is the hub that this node knows, or the first it meets."""
        ctx = self._p.ctx
        settings = ctx.settings
        session = met.attempt.session
        self.choice.met(met.attempt, now)
        if met.key == settings.identity.public:
            self._refused(
                session, "the hub has this node's own identity: give it a state folder of its own", "denied", now
            )
            return
        if self.pins.conflict(self._pin, met.key):
            self._other_hub(session, met, now)
            return
        peer = session.peer
        if peer is None or peer.key != met.key:
            self._replace_peer(session, Peer(met.key, is_hub=True), now)
            peer = session.peer
        assert peer is not None  # noqa: S101 (just made)
        peer.rtt = peer.rtt or now - met.attempt.sent  # until a PONG says it better
        if not session.in_use:
            peer.path = Path(met.attempt.transport, met.attempt.flow)
        claim = ConfirmPayload(
            name=settings.name,
            mtu=settings.mtu,
            addresses=settings.addresses,
            routes=settings.routes,
            stack=settings.stack,
        )
        self._p.initiation.confirm(met, peer, claim, now)

    def _other_hub(self, session: Session, met: Met, now: float) -> None:
        """Refuse a hub with another key than the pinned one; a session with the right one goes on while that lives."""
        label = self._p.ctx.settings.hub_label or "the hub"
        fields = {"known": self.pins.items[self._pin].hex(), "seen": met.key.hex()}
        if session.in_use and not session.dead:
            where = self._p.ctx.describe(met.attempt.transport, met.attempt.flow)
            text = f"somebody answered for {label} ({where}) with another key than the one this node knows; ignored"
            self._p.ctx.emit("hub-impostor", text, Level.WARNING, **fields)
            return
        self._refused(
            session,
            f"{label} has another key than the one this node knows: somebody may be posing as it. If it was set up "
            f"anew, run `ltunnel pins forget {self._pin}`",
            "hub-key-changed", now, **fields,
        )  # fmt: skip

    def proven(self, session: Session, epoch: Epoch, now: float) -> None:
        """Seal with the new epoch at once when rekeying; at first, wait for WELCOME, which brings what is needed."""
        if session.in_use:
            self._p.epochs.proven(session, epoch, now)

    # ---------------------------------------------------------------- what the hub says

    def handle_frame(self, session: Session, epoch: Epoch, frame: Frame, now: float) -> bool:
        """WELCOME, DENY, PEERS and BYE are the hub's to say."""
        match frame:
            case Peers() if self._neighbours is not None:
                if session.in_use:
                    self._neighbours.introduced(frame, now)
            case Welcome():
                self._welcomed(session, epoch, frame, now)
            case Deny():
                self._refused(
                    session, f"the hub refuses this node: {frame.text}", "denied", now, code=frame.code.name.lower()
                )
            case Bye():
                self._left(session, epoch, frame, now)
            case _:
                return False
        return True

    def _welcomed(self, session: Session, epoch: Epoch, welcome: Welcome, now: float) -> None:
        ctx = self._p.ctx
        peer = epoch.peer
        was_dead, was_there, pending = session.dead, session.in_use, session.pending
        fresh = self._p.epochs.proven(session, epoch, now) or (
            session.pending is not None and session.pending.epoch is epoch
        )
        if fresh:
            self._p.initiation.stop(session)
            session.move(Step.CONFIRMED)
            self._p.liveness.begin(session, now)
            trip = now - epoch.created  # unlike the first, this one did not wait for the outer address to be resolved
            peer.rtt = trip if peer.rtt is None else min(peer.rtt, trip)
            if was_dead or not was_there:
                self.choice.connected(pending, now)
        if not session.in_use:
            return
        peer.name = welcome.name
        self._p.sounding.begin(session, welcome.mtu)
        peer.hosts = ctx.settings.hosts(welcome.hub_addresses)
        ctx.fib.set(peer)
        self._p.subnets.offer(peer, welcome.behind)
        self._p.subnets.settle(now)
        if self._neighbours is not None:
            anew = not was_there or (was_dead and fresh)
            self._neighbours.hub_met(now, anew=anew, isolated=welcome.isolated)
        if self.pins.add(self._pin, peer.key):
            ctx.emit("pins", f"the key of {self._pin} is {peer.key.hex()} from now on", Level.INFO, key=peer.key.hex())
        self.reason = self._told = None
        if was_there and not (was_dead and fresh):
            return
        session.connected = session.connected or now
        where = "" if peer.path is None else ctx.describe(peer.path.transport, peer.path.flow)
        granted = [str(interface) for interface in welcome.addresses]
        ctx.emit(
            "connected",
            f"connected to {peer.name} at {where} as {', '.join(granted)}"
            + ("; nodes are isolated from each other" if welcome.isolated else ""),
            name=peer.name, key=peer.key.hex(), endpoint=where, transport=self.choice.used, addresses=granted,
            isolated=welcome.isolated, networks=[str(network) for network in welcome.networks], mtu=peer.mtu,
        )  # fmt: skip
        if sorted(granted) != sorted(map(str, ctx.settings.addresses)):
            ctx.emit(
                "address-differs", f"the hub knows this node as {', '.join(granted)}; check the prefix length of "
                f"{', '.join(map(str, ctx.settings.addresses))}", Level.WARNING, granted=granted,
            )  # fmt: skip

    def _refused(self, session: Session, reason: str, event: str, now: float, **fields: str) -> None:
        if not session.move(Step.REFUSED):
            return
        self._end(session, now)
        self.reason = reason
        wait = Timer.RETRY.schedule
        self._p.ctx.timers.set(Timer.RETRY, session, now + wait.delay(0, self._p.ctx.random))
        if reason != self._told:
            self._told = reason
            text = f"{reason}. Asking again every {wait.first:g} s"
            self._p.ctx.emit(event, text, Level.ERROR, reason=reason, **fields)

    def _left(self, session: Session, epoch: Epoch, bye: Bye, now: float) -> None:
        if epoch is not epoch.peer.epoch:  # the end of a session that was replaced
            self._p.epochs.remove(session, epoch)
            return
        if session.connected is not None and now - session.connected > STABLE:
            session.byes = 0
        if not session.move(Step.LOST):
            return
        self._end(session, now)
        self.reason = f"the hub ended the session ({bye.code.name.lower()})"
        self._p.ctx.emit("disconnected", f"{self.reason}; connecting again", Level.WARNING, code=bye.code.name.lower())
        delay = Timer.RECONNECT.schedule.delay(session.byes, self._p.ctx.random)
        session.byes += 1
        self._p.ctx.timers.set(Timer.RECONNECT, session, now + delay)

    # ---------------------------------------------------------------- paths

    def arrived(
        self, session: Session, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float
    ) -> None:
        """Follow a hub that moves; but by which transport is for this side to say."""
        path = epoch.peer.path
        if newest and (path is None or path.transport == transport):
            self._p.paths.follow(session, epoch, transport, flow, size, now)
            self._p.subnets.settle(now, epoch.peer.path)

    def probed(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Do nothing: the answer was all."""

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> None:
        """Take a PONG: from the path in use, or from a candidate."""
        if not self._p.pong(session, peer, pong, transport, flow, now):
            self.choice.pong(pong.token, transport, flow, now)

    def doubt(self, session: Session, now: float) -> None:  # noqa: ARG002
        """Look for another way to the hub."""
        self.choice.doubt(now)

    def due(self, timer: Timer, session: Session, now: float) -> None:  # noqa: ARG002
        """Connect again, or see whether a preferred way works."""
        if timer is Timer.COMEBACK:
            self.choice.comeback_due(now)
        elif timer is Timer.UNNAMED and self._neighbours is not None:
            self._neighbours.unnamed_due(now)
        elif timer in (Timer.RETRY, Timer.RECONNECT):
            self._connect(now)

    # ---------------------------------------------------------------- handshakes that the hub starts (late rekeying)

    def answers(self, transport: int, flow: Flow, now: float) -> bool:  # noqa: ARG002
        """Nobody but the hub gets an answer, and only while there is a session."""
        path = None if self.session.peer is None else self.session.peer.path
        return self.session.in_use and path is not None and (path.transport, path.flow) == (transport, flow)

    def admit(self, proved: Proved, now: float) -> None:
        """Take a new epoch from the hub, over the path that is in use with it; anything else gets no answer."""
        session = self.session
        peer = session.peer
        if peer is None or proved.key != peer.key or not session.in_use:
            self._p.ctx.stats.drop(Drop.FORGED)
            self._p.acceptance.refuse(proved, None, now)
            return
        epoch = self._p.acceptance.accept(proved, session, peer, now)
        self._p.epochs.accepted(session, epoch, proved.arrived, now)
        self._p.initiation.stop(session)
        session.move(Step.ACCEPTED)
        self._p.liveness.begin(session, now)
        self.greet(session, epoch, now)

    def greet(self, session: Session, epoch: Epoch, now: float) -> None:  # noqa: ARG002
        """Send a PING on the new epoch, so that the hub learns that it may use it."""
        if epoch.peer.path is not None:
            self._p.ctx.send_frame(epoch, epoch.peer.path, Ping(self._p.ctx.random(TOKEN_SIZE)), now)

    # ---------------------------------------------------------------- losing the hub

    def silent(self, session: Session, now: float) -> None:
        """Connect again, without the old session: the hub has given it up, too."""
        self._lost(session, f"the hub was not heard for {self._p.ctx.settings.timeout:g} s", now)

    def keyless(self, session: Session, now: float) -> None:
        """Connect again when the keys have expired before new ones were agreed."""
        if session.in_use:
            self._lost(session, "the keys expired and the hub did not agree on new ones", now)

    def _lost(self, session: Session, reason: str, now: float) -> None:
        if not session.move(Step.LOST):
            return
        told, tries = session.reported, session.tries if session.dead else 0
        self._end(session, now)
        session.reported = told
        self.reason = reason
        self._p.ctx.emit("disconnected", f"{reason}; connecting again", Level.WARNING)
        self._connect(now, tries)

    def _end(self, session: Session, now: float) -> None:
        """Drop everything that belongs to a connection."""
        self._p.initiation.stop(session)
        self._p.liveness.end(session)
        self._p.sounding.end(session)
        self._p.epochs.clear(session)
        self._p.ctx.timers.cancel_all(session)
        self.choice.end()
        if session.peer is not None:
            self._withdraw(session.peer, now)
        if self._neighbours is not None:
            self._neighbours.hub_lost(now)
        session.connected = session.reported = None

    def _connect(self, now: float, tries: int = 0) -> None:
        """Begin a handshake, as slowly as after so many tries."""
        if self.choice.candidates and self._p.initiation.start(self.session):
            self.session.tries = tries
            self.initiate(self.session, now)

    def _replace_peer(self, session: Session, peer: Peer, now: float) -> None:
        """Meet a hub for the first time, or another one after the old one's pin was forgotten."""
        ctx = self._p.ctx
        if session.peer is not None:
            self._p.epochs.clear(session)
            self._withdraw(session.peer, now)
            ctx.fib.remove(session.peer)
            ctx.sessions.pop(session.peer.key, None)
            ctx.peers.pop(session.peer.key, None)
            if self._neighbours is not None:
                self._neighbours.forget_all(now)
        session.peer = peer
        ctx.sessions[peer.key] = session
        ctx.peers[peer.key] = peer

    def _withdraw(self, peer: Peer, now: float) -> None:
        """Leave the networks behind the hub: there is no session with it."""
        self._p.subnets.offer(peer, ())
        self._p.subnets.settle(now)

    def _diagnose(self, session: Session, now: float) -> None:
        again = session.reported is None or now - session.reported >= REPEAT
        if session.unanswered < UNANSWERED_INITS or not again:
            return
        session.reported = now
        ctx = self._p.ctx
        settings = ctx.settings
        met = session.peer is not None and session.peer.last_handshake is not None
        event = unanswered(
            settings.hub_label,
            places(self.choice.candidates),
            [candidate.name for candidate in self.choice.candidates],
            session.unanswered,
            settings.keys,
            settings.cipher,
            met=met,
        )
        if not session.in_use:
            self.reason = event.text
        ctx.events.append(event)
