"""The hub's side: who is taken, under which addresses, and when a node is gone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from ipaddress import ip_interface

from ltunnel.control.acceptance import GREETING_GAP, Proved
from ltunnel.control.directory import Binding, Denial, Directory
from ltunnel.control.events import Level
from ltunnel.control.initiation import Met
from ltunnel.control.introductions import Introductions
from ltunnel.control.session import Attempt, Session
from ltunnel.control.side import Parts
from ltunnel.control.states import Step
from ltunnel.control.timers import Timer
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Path, Peer
from ltunnel.wire.frames import Bye, ByeCode, DenyCode, Frame, Pong, Welcome
from ltunnel.wire.payloads import ConfirmPayload
from ltunnel.wire.places import HubPlace

GONE_LIMIT = 256
"""Nodes that are gone and still shown in status."""
DENIED_LIMIT = 256
DENIED_GAP = 60.0
"""A node that is refused again and again makes one line a minute."""


class HubSide:
    """A hub: answers INITs, keeps the directory, forwards (in the data path) between nodes."""

    __slots__ = ("_denied", "_introductions", "_p", "directory", "places")

    def __init__(self, parts: Parts, bindings: Iterable[Binding]) -> None:
        self._p = parts
        settings = parts.ctx.settings
        self.directory = Directory(settings.addresses, settings.name, bindings)
        self._introductions = Introductions(parts.ctx)
        self._denied: OrderedDict[bytes, float] = OrderedDict()  # key -> when that was last told
        self.places: tuple[HubPlace, ...] = ()
        """Where nodes can ask this hub from outside; they learn it when keys are made."""

    # ---------------------------------------------------------------- joining

    def answers(self, transport: int, flow: Flow, now: float) -> bool:  # noqa: ARG002
        """Answer everybody who has the key."""
        return True

    def admit(self, proved: Proved, now: float) -> None:
        """Take a node, or refuse it with a reason."""
        ctx = self._p.ctx
        binding = self._decide(proved.key, proved.claim)
        if isinstance(binding, Denial):
            self._p.acceptance.refuse(proved, binding, now)
            self._tell_denied(proved, binding, now)
            return
        session = ctx.sessions.get(proved.key)
        if session is None:
            session = ctx.sessions[proved.key] = Session(ctx.peers.get(proved.key) or Peer(proved.key))
        peer = session.peer
        assert peer is not None  # noqa: S101 (a hub's sessions have one from the start)
        ctx.peers[peer.key] = peer
        was_there, before = session.in_use, (peer.name, peer.hosts, peer.limit)
        self._describe(peer, binding, proved.claim)
        epoch = self._p.acceptance.accept(proved, session, peer, now)
        self._p.epochs.accepted(session, epoch, proved.arrived, now)
        self._p.initiation.stop(session)
        session.move(Step.ACCEPTED)
        peer.rtt = peer.rtt or now - proved.arrived  # until a PONG says it better
        self._p.liveness.begin(session, now)
        if not was_there:
            peer.path = None
        self._p.paths.move(session, peer, proved.path, now)
        self._p.sounding.begin(session, peer.limit)
        self.greet(session, epoch, now)
        self._p.subnets.offer(peer, proved.claim.routes)
        self._p.subnets.settle(now, peer.path)
        if not was_there or before != (peer.name, peer.hosts, peer.limit):
            self._introductions.changed([session], now)
        if not was_there:
            session.connected = now
            where = ctx.describe(proved.path.transport, proved.path.flow)
            ctx.emit(
                "node-joined", f"{peer.name} joined from {where} with {_join(binding.addresses)}",
                name=peer.name, key=peer.key.hex(), endpoint=where, addresses=[str(a) for a in binding.addresses],
            )  # fmt: skip
        self._forget_gone()

    def greet(self, session: Session, epoch: Epoch, now: float) -> None:
        """Send WELCOME on the epoch that the CONFIRM made."""
        peer = epoch.peer
        binding = self.directory.get(peer.key)
        if binding is None or peer.path is None or (epoch.counter and now - session.greeted < GREETING_GAP):
            return
        session.greeted = now
        settings = self._p.ctx.settings
        networks = tuple(own.network for own in settings.addresses)
        granted = [
            ip_interface((address, next(net.prefixlen for net in networks if address in net)))
            for address in binding.addresses
        ]
        welcome = Welcome(
            name=settings.name, mtu=settings.mtu, addresses=tuple(granted), networks=networks,
            hub_addresses=settings.addresses, isolated=settings.client_isolation, places=self.places,
            behind=settings.routes,
        )  # fmt: skip
        self._p.ctx.send_frame(epoch, peer.path, welcome, now)
        self._introductions.welcomed(session, now)

    def _decide(self, key: bytes, claim: ConfirmPayload) -> Binding | Denial:
        """Look at everything that does not change the directory first, so that a refused node leaves no binding."""
        ctx = self._p.ctx
        settings = ctx.settings
        if key == settings.identity.public:
            return Denial(
                DenyCode.OTHER, "this node uses the hub's own identity: give each machine a state folder of its own"
            )
        if sorted(claim.stack) != sorted(settings.stack):
            ours, theirs = ", ".join(sorted(settings.stack)), ", ".join(sorted(claim.stack)) or "nothing"
            return Denial(DenyCode.STACK, f"the plugins differ: the hub runs {ours}; the node runs {theirs}")
        others = [session for other, session in ctx.sessions.items() if other != key and session.in_use]
        if not settings.multi_client and others:
            return Denial(DenyCode.SINGLE_CLIENT, "the hub takes one node at a time (multi_client is off) and has one")
        if len(others) >= settings.max_clients:
            return Denial(DenyCode.FULL, f"the hub is full: it takes {settings.max_clients} nodes (max_clients)")
        before = self.directory.get(key)
        binding = self.directory.claim(key, claim.addresses, claim.name)
        if isinstance(binding, Binding) and binding != before:
            ctx.emit("bindings", f"{binding.name} is bound to {_join(binding.addresses)}", Level.DEBUG, key=key.hex())
        return binding

    def _describe(self, peer: Peer, binding: Binding, claim: ConfirmPayload) -> None:
        """Write into the peer what the directory and its claim say, and route to it."""
        peer.name = binding.name
        peer.limit = claim.mtu
        peer.hosts = frozenset(address.packed for address in binding.addresses)
        self._p.ctx.fib.set(peer)

    def _tell_denied(self, proved: Proved, denial: Denial, now: float) -> None:
        last = self._denied.get(proved.key)
        if last is not None and now - last < DENIED_GAP:
            return
        while len(self._denied) >= DENIED_LIMIT:
            self._denied.popitem(last=False)
        self._denied[proved.key] = now
        self._denied.move_to_end(proved.key)
        where = self._p.ctx.describe(proved.path.transport, proved.path.flow)
        self._p.ctx.emit(
            "node-denied", f"refused {proved.claim.name} at {where}: {denial.text}", Level.WARNING,
            name=proved.claim.name, key=proved.key.hex(), endpoint=where, code=denial.code.name.lower(),
            reason=denial.text,
        )  # fmt: skip

    # ---------------------------------------------------------------- handshakes that the hub starts (late rekeying)

    def initiate(self, session: Session, now: float) -> None:
        """Send the next INIT to where the node is, once that place has proved itself."""
        path = None if session.peer is None else session.peer.path
        if path is not None and path.budget is None:
            self._p.initiation.send_init(session, path.transport, path.flow, now)
            self._p.initiation.again(session, now)
        else:
            self._p.ctx.timers.set(Timer.INIT, session, now + Timer.INIT.schedule.cap)

    def hurry(self, attempt: Attempt, now: float) -> None:
        """Send the INIT again."""
        self.initiate(attempt.session, now)

    def met(self, met: Met, now: float) -> None:
        """Go on if it is the node that was asked, and nobody else."""
        peer = met.attempt.session.peer
        if peer is None or met.key != peer.key:
            self._p.ctx.stats.drop(Drop.FORGED)
            return
        settings = self._p.ctx.settings
        self._p.initiation.confirm(
            met, peer, ConfirmPayload(name=settings.name, mtu=settings.mtu, stack=settings.stack), now
        )

    def proven(self, session: Session, epoch: Epoch, now: float) -> None:
        """Seal with the epoch that the hub began."""
        if self._p.epochs.proven(session, epoch, now):
            self._p.initiation.stop(session)
            session.move(Step.CONFIRMED)

    def networks_changed(self, peers: Collection[Peer], now: float) -> None:
        """Tell the nodes what is behind some of them now; those that are joining are introduced anyway."""
        found = [self._p.ctx.sessions.get(peer.key) for peer in peers]
        there = [session for session in found if session is not None and session.connected is not None]
        self._introductions.changed([session for session in there if session.in_use], now)

    # ---------------------------------------------------------------- paths

    def probed(self, session: Session, epoch: Epoch, path: Path, now: float) -> None:
        """Be ready to answer there, when the node moves."""
        self._p.paths.probed(session, epoch, path, now)

    def arrived(
        self, session: Session, epoch: Epoch, transport: int, flow: Flow, size: int, newest: bool, now: float
    ) -> None:
        """Go to nodes by whatever they came by last."""
        if newest:
            self._p.paths.follow(session, epoch, transport, flow, size, now)
            self._p.subnets.settle(now, epoch.peer.path)

    def pong(self, session: Session, peer: Peer, pong: Pong, transport: int, flow: Flow, now: float) -> None:
        """Take a PONG."""
        self._p.pong(session, peer, pong, transport, flow, now)

    def doubt(self, session: Session, now: float) -> None:
        """Do nothing: nodes choose the way, and a hub does not ask."""

    def due(self, timer: Timer, session: Session, now: float) -> None:
        """Introduce others to a node again."""
        if timer is Timer.INTRODUCE:
            self._introductions.due(session, now)

    # ---------------------------------------------------------------- leaving

    def handle_frame(self, session: Session, epoch: Epoch, frame: Frame, now: float) -> bool:
        """BYE is all that a node may say besides PING and PONG."""
        if not isinstance(frame, Bye):
            return False
        if epoch is not epoch.peer.epoch:  # of a session that a newer one of the same node has replaced
            self._p.epochs.remove(session, epoch)
            return True
        self._leave(session, now, "node-left", f"{epoch.peer.name} left")
        return True

    def silent(self, session: Session, now: float) -> None:
        """Take a node that fell silent out of the tables. Its binding stays."""
        name = session.peer.name if session.peer is not None else ""
        timeout = self._p.ctx.settings.timeout
        self._leave(session, now, "node-expired", f"{name} was not heard for {timeout:g} s and is taken to be gone")

    def keyless(self, session: Session, now: float) -> None:
        """Take out a node whose keys have expired without new ones."""
        if session.in_use:
            self.silent(session, now)

    def forget(self, who: str, now: float) -> Binding | None:
        """Forget the binding of a node (by name, address or key) and end its session."""
        binding = self.directory.find(who)
        if binding is None:
            return None
        self.directory.forget(binding.key)
        session = self._p.ctx.sessions.get(binding.key)
        if session is not None and session.in_use:
            self._p.ctx.send_bye(session, ByeCode.REMOVED, now)
            self._leave(session, now, "node-left", f"{binding.name} was removed")
        self._p.ctx.emit("bindings", f"the binding of {binding.name} is forgotten", Level.INFO, key=binding.key.hex())
        return binding

    def _leave(self, session: Session, now: float, event: str, text: str) -> None:
        peer = session.peer
        if peer is None or not session.move(Step.LOST):
            return
        self._p.initiation.stop(session)
        self._p.liveness.end(session)
        self._p.sounding.end(session)
        self._p.epochs.clear(session)
        self._p.ctx.fib.remove(peer)
        del self._p.ctx.sessions[peer.key]
        self._p.ctx.timers.cancel_all(session)
        self._introductions.left(session, now)
        self._p.subnets.offer(peer, ())
        self._p.subnets.settle(now)
        since = 0.0 if session.connected is None else now - session.connected
        self._p.ctx.emit(event, text, name=peer.name, key=peer.key.hex(), connected=round(since, 3))

    def _forget_gone(self) -> None:
        """Keep what status shows bounded: the nodes that were heard longest ago go first."""
        ctx = self._p.ctx
        gone = [peer for peer in ctx.peers.values() if peer.key not in ctx.sessions]
        for peer in sorted(gone, key=lambda peer: peer.last_rx)[: max(0, len(gone) - GONE_LIMIT)]:
            del ctx.peers[peer.key]


def _join(addresses: Iterable[object]) -> str:
    return ", ".join(map(str, addresses))
