"""A node's dealings with other nodes: the hub says who they are, all else is between the two.

    PEERS from the hub ─► introduced ─ a packet for it ─► INIT through the relay ─► established ─► BYE, silence, idle

A neighbour's key and addresses are what the hub introduced; what it says of itself in CONFIRM counts for nothing. The
key is pinned when a first handshake has proved it. Sessions do not need the hub: they go on without it over whatever
other ways `Ways` has found.
"""

from __future__ import annotations

from ltunnel.control.acceptance import GREETING_GAP, Proved
from ltunnel.control.initiation import Met
from ltunnel.control.mesh import Mesh
from ltunnel.control.roster import Neighbour, Roster, words
from ltunnel.control.session import Attempt, Session
from ltunnel.control.side import Parts
from ltunnel.control.states import Step
from ltunnel.control.timers import Timer
from ltunnel.control.ways import Ways
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Path, Peer
from ltunnel.wire.advert import Advert
from ltunnel.wire.frames import TOKEN_SIZE, Bye, ByeCode, Frame, Peers, Ping, Pong
from ltunnel.wire.payloads import ConfirmPayload
from ltunnel.wire.relay import NAME_SIZE, node_name

WANTED_TIME = 10.0
"""A handshake is given up when nothing was to be sent to the neighbour for so long (seconds)."""
IDLE_TIME = 180.0
"""A session through which no packet passes for so long is ended, and made again on demand."""
STUBBORN = 3
"""After so many INITs over the path in use, new keys are asked for through the relay."""


class Neighbours:
    """Sessions with other nodes. `ways` chooses their paths."""

    __slots__ = ("_p", "_roster", "_ways", "mesh")

    def __init__(self, parts: Parts, roster: Roster, ways: Ways) -> None:
        self._p = parts
        self._roster = roster
        self._ways = ways
        self.mesh: Mesh | None = None

    # ---------------------------------------------------------------- what the hub says

    def introduced(self, frame: Peers, now: float) -> None:
        """Take PEERS from the hub."""
        for bare in self._roster.introduce(frame, now):
            self._drop(bare, "the hub has given its addresses to another node", now)
        for entry in frame.peers:
            neighbour, session = self._roster.get(entry.key), self._p.ctx.sessions.get(entry.key)
            if neighbour is not None and neighbour.refused and session is not None:
                self._p.ctx.send_bye(session, ByeCode.REMOVED, now)
                self._finish(session, "another key is pinned under the name that it has now", now)

    def hub_met(self, now: float, *, anew: bool, isolated: bool) -> None:
        """Take note of a WELCOME; after one `anew`, whoever is not introduced again is gone."""
        if anew:
            self._roster.hub_met(now)
        if self.mesh is not None:
            self.mesh.isolate(isolated, now)
        self._ways.relay_changed(now)

    def hub_lost(self, now: float) -> None:
        """Take note that there is no relay for now; sessions go on over other ways."""
        self._ways.relay_changed(now)

    def unnamed_due(self, now: float) -> None:
        """UNNAMED: the hub has had time to introduce everybody again."""
        self._roster.unnamed_due(now)

    def forget_all(self, now: float) -> None:
        """Another hub has taken the place of the one that introduced everybody."""
        for neighbour in self._roster:
            self._drop(neighbour, "there is another hub", now)

    def pin_forgotten(self, now: float) -> None:
        """Look again at whoever was refused for another key."""
        self._roster.pin_forgotten(now)

    def state(self, peer: Peer) -> str:
        """Name the state of a node with which there is no session: ``idle``, or ``refused`` for another key."""
        neighbour = self._roster.get(peer.key)
        return "refused" if neighbour is not None and neighbour.refused else "idle"

    # ---------------------------------------------------------------- handshakes from here

    def want(self, peer: Peer, now: float) -> None:
        """Make a session with an introduced node: there is a packet for it."""
        neighbour = self._roster.get(peer.key)
        if neighbour is None or neighbour.refused:
            return
        neighbour.wanted = now
        session = self._session(neighbour)
        if not session.in_use and self._p.initiation.start(session):
            self.initiate(session, now)

    def initiate(self, session: Session, now: float) -> None:
        """Send the next INIT: over the path in use if it is for new keys, else through the hub or another node."""
        peer = _peer(session)
        neighbour = self._roster.get(peer.key)
        unwanted = neighbour is None or neighbour.refused or now - neighbour.wanted > WANTED_TIME
        if unwanted and not session.in_use:
            self._finish(session, "nobody answered", now)
            return
        path = peer.path
        if not session.in_use or session.dead or path is None or session.tries >= STUBBORN:
            path = self._way_in(session, peer)
        self._p.initiation.again(session, now)
        self._p.initiation.send_init(session, path.transport, path.flow, now)

    def _way_in(self, session: Session, peer: Peer) -> Path:
        """Return the path through the hub; if it is away, or every other time, one through another node if there is."""
        ctx = self._p.ctx
        assert ctx.relay is not None  # noqa: S101 (without one there are no introductions)
        mesh = None if self.mesh is None else self.mesh.way_in(peer, session.tries // 2)
        if mesh is not None and (session.tries % 2 or not self._ways.hub_in_use):
            return mesh
        return Path(ctx.relay, node_name(peer.key))

    def hurry(self, attempt: Attempt, now: float) -> None:
        """Send an INIT again that was answered with COOKIE or TIME."""
        self.initiate(attempt.session, now)

    def met(self, met: Met, now: float) -> None:
        """Go on if the introduced key has answered."""
        session = met.attempt.session
        peer = _peer(session)
        neighbour = self._roster.get(peer.key)
        if neighbour is None or neighbour.refused or met.key != peer.key:
            self._p.ctx.stats.drop(Drop.FORGED)
            return
        peer.rtt = peer.rtt or now - met.attempt.sent  # until a PONG says it better
        settings = self._p.ctx.settings
        claim = ConfirmPayload(name=settings.name, mtu=settings.mtu, stack=settings.stack)
        self._p.initiation.confirm(met, peer, claim, now)

    def proven(self, session: Session, epoch: Epoch, now: float) -> None:
        """Use the epoch that this side began: the neighbour does."""
        pending, was_there = session.pending, session.in_use
        if not self._p.epochs.proven(session, epoch, now):
            return
        relayed = pending is not None and pending.epoch is epoch and pending.transport == self._p.ctx.relay
        self._p.initiation.stop(session)
        session.move(Step.CONFIRMED)
        self._begin(session, now, anew=not was_there, relayed=relayed)

    # ---------------------------------------------------------------- handshakes from there

    def answers(self, transport: int, flow: Flow, now: float) -> bool:
        """Answer introduced nodes, through the relay or a node; and neighbours, over ways known to be theirs."""
        ctx = self._p.ctx
        if transport not in (ctx.relay, ctx.mesh):
            session = self._ways.session_at(transport, flow)
            return session is not None and session.in_use
        neighbour, bringer = self._roster.named(flow[-NAME_SIZE:]), self._roster.named(flow[:NAME_SIZE])
        if neighbour is None or neighbour.refused or bringer is None:
            return False
        return bringer.inits.take(now)  # the hub brings everybody's under their true names, a node whose it likes

    def admit(self, proved: Proved, now: float) -> None:
        """Take a neighbour that the hub has introduced, and that came by a way which is its own."""
        ctx = self._p.ctx
        neighbour = self._roster.get(proved.key)
        if neighbour is None or neighbour.refused or not self._own_way(proved):
            ctx.stats.drop(Drop.FORGED)
            self._p.acceptance.refuse(proved, None, now)
            return
        if sorted(proved.claim.stack) != sorted(ctx.settings.stack):
            ctx.stats.drop(Drop.STACK)
            self._p.acceptance.refuse(proved, None, now)
            return
        session = self._session(neighbour)
        was_there, path = session.in_use, neighbour.peer.path
        relayed = proved.path.transport in (ctx.relay, ctx.mesh)
        relayed &= proved.path.transport == ctx.relay or path is None or path.flow != proved.path.flow
        epoch = self._p.acceptance.accept(proved, session, neighbour.peer, now)
        self._p.epochs.accepted(session, epoch, proved.arrived, now)
        self._p.initiation.stop(session)
        session.move(Step.ACCEPTED)
        self._begin(session, now, anew=not was_there, relayed=relayed)
        self.greet(session, epoch, now)

    def greet(self, session: Session, epoch: Epoch, now: float) -> None:
        """Send a PING on the new epoch, so that the neighbour learns that it may use it."""
        repeated = epoch.counter and now - session.greeted < GREETING_GAP
        if epoch.peer.path is not None and not repeated:
            session.greeted = now
            self._p.ctx.send_frame(epoch, epoch.peer.path, Ping(self._p.ctx.random(TOKEN_SIZE)), now)

    def _own_way(self, proved: Proved) -> bool:
        """Whether a handshake came relayed under its key's name, or over a way of that very neighbour."""
        transport, flow = proved.path.transport, proved.path.flow
        if transport in (self._p.ctx.relay, self._p.ctx.mesh):
            return bool(flow[-NAME_SIZE:] == node_name(proved.key))
        session = self._ways.session_at(transport, flow)
        return session is not None and _peer(session).key == proved.key

    # ---------------------------------------------------------------- a session's life

    def _begin(self, session: Session, now: float, *, anew: bool, relayed: bool) -> None:
        """Look after a session with new keys. `relayed`: the neighbour may know of no other way than the relay."""
        peer = _peer(session)
        self._p.liveness.begin(session, now, keepalive=False)
        if anew or relayed:
            self._ways.begin(session, now)
        if not anew:
            return
        session.connected = now
        neighbour = self._roster.get(peer.key)
        if neighbour is not None:
            neighbour.traffic, neighbour.busy = peer.stats.packets, now
        self._p.ctx.timers.set(Timer.IDLE, session, now + Timer.IDLE.schedule.first)
        self._roster.pin(peer)
        self._p.ctx.emit(
            "neighbour-joined", f"talking to {peer.name} end to end", name=peer.name, key=peer.key.hex(),
            addresses=words(peer),
        )  # fmt: skip

    def handle_frame(self, session: Session, epoch: Epoch, frame: Frame, now: float) -> bool:
        """BYE and ADVERT are all that a neighbour may say besides PING and PONG."""
        if isinstance(frame, Advert) and self.mesh is not None:
            self.mesh.heard(session, frame, now)
            return True
        if not isinstance(frame, Bye):
            return False
        if epoch is not epoch.peer.epoch:  # of a session that a newer one has replaced
            self._p.epochs.remove(session, epoch)
            return True
        idle = frame.code is ByeCode.TIMEOUT
        self._finish(session, "it had nothing to say" if idle else "it said goodbye", now)
        return True

    def silent(self, session: Session, now: float) -> None:
        """Give up a neighbour that was not heard for `timeout`; a packet for it makes a new session."""
        self._finish(session, f"it was not heard for {self._p.ctx.settings.timeout:g} s", now)

    def keyless(self, session: Session, now: float) -> None:
        """Give up a session whose keys expired before new ones were agreed."""
        self._finish(session, "the keys expired and it did not agree on new ones", now)

    def due(self, timer: Timer, session: Session, now: float) -> None:
        """End a session that nobody uses."""
        peer = _peer(session)
        neighbour = self._roster.get(peer.key)
        if timer is not Timer.IDLE or neighbour is None or not session.in_use:
            return
        traffic = peer.stats.packets + peer.stats.relayed_datagrams
        if traffic != neighbour.traffic or (self.mesh is not None and self.mesh.leads(peer)):
            neighbour.traffic, neighbour.busy = traffic, now
        if now - neighbour.busy >= IDLE_TIME:
            self._p.ctx.send_bye(session, ByeCode.TIMEOUT, now)
            self._finish(session, "nothing has passed for a while", now)
        else:
            self._p.ctx.timers.set(Timer.IDLE, session, now + Timer.IDLE.schedule.first)

    def doubt(self, session: Session, now: float) -> None:
        """Do nothing: `Ways` finds out by itself."""

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
        """Take note of where a neighbour's datagrams come from."""
        self._ways.arrived(session, transport, flow, size, newest, now)

    def probed(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Do nothing: the answer is all, and `arrived` has been told."""

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> None:
        """Take a PONG: of a way, or of the path in use when its life was in doubt."""
        if not self._ways.pong(session, pong, transport, flow, now):
            self._p.liveness.pong(session, peer, pong, transport, flow, now)

    def _drop(self, neighbour: Neighbour, why: str, now: float) -> None:
        """Forget a node that is no neighbour any more."""
        neighbour.present = False
        session = self._p.ctx.sessions.get(neighbour.peer.key)
        if session is None:
            self._roster.forget(neighbour, now)
            return
        self._p.ctx.send_bye(session, ByeCode.REMOVED, now)
        self._finish(session, why, now)

    def _finish(self, session: Session, why: str, now: float) -> None:
        """End a session, and tell if it was in use."""
        peer, was_there = _peer(session), session.in_use
        if was_there:
            self._p.ctx.emit(
                "neighbour-left", f"not talking to {peer.name} any more: {why}", name=peer.name, key=peer.key.hex(),
                reason=why,
            )  # fmt: skip
        session.move(Step.LOST)
        self._p.initiation.stop(session)
        self._p.liveness.end(session)
        self._p.epochs.clear(session)
        self._ways.end(session, now)
        self._p.ctx.timers.cancel_all(session)
        self._p.ctx.sessions.pop(peer.key, None)
        neighbour = self._roster.get(peer.key)
        if neighbour is not None:
            self._roster.over(neighbour, now)

    def _session(self, neighbour: Neighbour) -> Session:
        """Return the session with a node, made if there is none."""
        return self._p.ctx.sessions.setdefault(neighbour.peer.key, Session(neighbour.peer))


def _peer(session: Session) -> Peer:
    """Return the far end, which is known from the start here."""
    assert session.peer is not None  # noqa: S101
    return session.peer
