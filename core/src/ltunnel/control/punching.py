"""The hub's part in direct paths: it tells nodes as whom it sees them, and has two of them begin together.

::

    node ─ OBSERVE ─► OBSERVED, from the port that was asked or the other one
    A ─ REQUEST ─► PREPARE ─► B ─ READY ─► START ─► A and B     (REQUEST from B counts as READY)

What a node says of its addresses is not believed: a public one is passed on only if its host has proved to be that
node's (`Session.proved`, or the path in use), so that nobody can be made to probe a third party. A private one is
passed on between nodes on one LAN that also share a host, or if the hub itself sees both nodes in private networks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ltunnel.control.context import Context
from ltunnel.control.flows import address_of, endpoint_of, limit_group
from ltunnel.control.limits import Buckets
from ltunnel.control.paths import Paths
from ltunnel.control.session import Session
from ltunnel.plugin import Behaviour, Candidate, Flow, Limits, is_private, read_target
from ltunnel.plugin.addresses import IPAddress
from ltunnel.session import Drop, Epoch, Path
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.punch import Punch, PunchStage

ROUND_TIME = 4.0
"""Seconds that the second node has to get ready."""
HOST_TIME = 600.0
"""Seconds for which a host counts as a node's after it has proved to be; one that asks proves it anew after half."""
MARGIN = 0.02
"""Seconds that a START may be late."""
UNKNOWN_RTT = 0.1
PAIR_RATE, PAIR_BURST = 12 / 60, 12.0
NODE_RATE, NODE_BURST = 2.0, 60.0
"""Rounds a second, and at once, for a pair of nodes and for one node."""
OBSERVE_RATE, OBSERVE_BURST = 20.0, 600.0
"""The same for OBSERVEs of one node."""
_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Ready:
    """What one side of a round has said."""

    candidates: tuple[Candidate, ...]
    behaviour: Behaviour


@dataclass(slots=True)
class Round:
    """A round that waits for its second node."""

    number: int
    asked_by: bytes
    ready: Ready
    since: float


class Punching:
    """Arranges rounds. `other` is the transport of the hub's second UDP port, and its number there."""

    __slots__ = ("_ctx", "_nodes", "_observes", "_pairs", "_paths", "_rounds", "other")

    def __init__(self, ctx: Context, paths: Paths) -> None:
        self._ctx = ctx
        self._paths = paths
        self._rounds: dict[frozenset[bytes], Round] = {}
        self._pairs = Buckets(PAIR_RATE, PAIR_BURST, _LIMIT)
        self._nodes = Buckets(NODE_RATE, NODE_BURST, _LIMIT)
        self._observes = Buckets(OBSERVE_RATE, OBSERVE_BURST, _LIMIT)
        self.other: OtherPort | None = None

    # ---------------------------------------------------------------- OBSERVE

    def observe(self, session: Session, epoch: Epoch, frame: Observe, transport: int, flow: Flow, now: float) -> None:
        """Say where an OBSERVE came from, and have a host prove itself that has not."""
        ctx = self._ctx
        name = ctx.describe(transport, flow)
        seen = endpoint_of(name)
        if seen is None or not self._observes.take(epoch.peer.key, now):
            epoch.peer.stats.drop(Drop.LIMITED)
            return
        other = self.other
        back = transport
        if frame.from_other:
            if other is None or transport not in (other.first, other.second):
                return
            back = other.first if transport == other.second else other.second
        number = 0 if other is None or transport not in (other.first, other.second) else other.number
        if address_of(name) not in self._hosts(session, now + HOST_TIME / 2):  # first, so that the proof is not late
            self._paths.probed(session, epoch, Path(transport, flow), now)
        ctx.send_frame(epoch, Path(back, flow), Observed(frame.token, frame.from_other, number, seen), now)

    # ---------------------------------------------------------------- PUNCH

    def handle(self, session: Session, frame: Punch, now: float) -> None:
        """Take a PUNCH from a node."""
        peer = session.peer
        if peer is None:
            return
        other = self._ctx.sessions.get(frame.key)
        if other is None or other is session or not other.in_use or other.peer is None:
            self._refuse(session, frame, "the hub has no session with that node", now)
            return
        pair = frozenset((peer.key, frame.key))
        if frame.stage is PunchStage.REFUSED:
            waiting = self._rounds.pop(pair, None)
            if waiting is not None and waiting.asked_by == frame.key:
                self._refuse(other, replace(frame, key=peer.key), "that node takes no direct paths", now)
            return
        if frame.stage not in (PunchStage.REQUEST, PunchStage.READY):
            peer.stats.drop(Drop.MALFORMED)
            return
        ready = Ready(frame.candidates, frame.behaviour)
        waiting = self._rounds.get(pair)
        if waiting is not None and now - waiting.since > ROUND_TIME:
            waiting = None
        if waiting is not None and waiting.asked_by != peer.key:
            del self._rounds[pair]
            self._start(other, waiting.ready, session, ready, waiting.number, now)
        elif frame.stage is PunchStage.REQUEST:
            self._request(session, other, pair, frame, ready, now)

    def _request(
        self, session: Session, other: Session, pair: frozenset[bytes], frame: Punch, ready: Ready, now: float
    ) -> None:
        assert session.peer is not None  # noqa: S101 (checked by `handle`)
        if self._ctx.settings.client_isolation:
            self._refuse(session, frame, "the hub isolates its nodes from each other", now)
        elif not (self._pairs.take(pair, now) and self._nodes.take(session.peer.key, now)):
            self._refuse(session, frame, "too many tries in a short time", now)
        else:
            while len(self._rounds) >= _LIMIT:
                del self._rounds[next(iter(self._rounds))]
            self._rounds[pair] = Round(frame.round, session.peer.key, ready, now)
            self._send(other, Punch(stage=PunchStage.PREPARE, key=session.peer.key, round=frame.round), now)

    def _start(
        self, one: Session, ones: Ready, two: Session, twos: Ready, number: int, now: float
    ) -> None:  # fmt: skip
        """Have both begin at the same moment, as well as their round-trip times tell."""
        assert one.peer is not None  # noqa: S101 (checked by `handle`)
        assert two.peer is not None  # noqa: S101 (as above)
        trips = {session: self._rtt(session) for session in (one, two)}
        low = one if one.peer.key < two.peer.key else two
        first = low if number % 2 else (two if low is one else one)
        for session, other, theirs, own in ((one, two, twos, ones), (two, one, ones, twos)):
            assert other.peer is not None  # noqa: S101 (as above)
            punch = Punch(
                stage=PunchStage.START, key=other.peer.key, round=number, first=session is first,
                delay=MARGIN + (max(trips.values()) - trips[session]) / 2, behaviour=theirs.behaviour,
                candidates=self._vetted(other, theirs, session, own, now),
            )  # fmt: skip
            self._send(session, punch, now)

    def _rtt(self, session: Session) -> float:
        rtt = None if session.peer is None else session.peer.rtt
        return UNKNOWN_RTT if rtt is None else min(2.0, rtt)

    # ---------------------------------------------------------------- what is believed

    def _vetted(
        self, session: Session, ready: Ready, receiver: Session, theirs: Ready, now: float
    ) -> tuple[Candidate, ...]:  # fmt: skip
        """Return a node's candidates as far as they are passed on to a receiver."""
        hosts, others = self._hosts(session, now), self._hosts(receiver, now)
        near = bool({limit_group(str(host)) for host in hosts} & {limit_group(str(host)) for host in others})
        lans = {candidate.network for candidate in theirs.candidates if candidate.network} if near else set()
        inside = any(map(is_private, others))
        passed: list[Candidate] = []
        for candidate in ready.candidates:
            ip = read_target(candidate.address)
            if ip is None:
                continue
            if candidate.network in lans and is_private(ip):
                passed.append(candidate)
            elif ip in hosts and (inside or not is_private(ip)):
                passed.append(replace(candidate, network=b""))
        return tuple(passed[: Limits.CANDIDATES])

    def _hosts(self, session: Session, now: float) -> set[IPAddress]:
        """Return the hosts that have proved to be a node's: an answer to what was sent there came from there."""
        flows = [flow for flow, when in session.proved.items() if now - when < HOST_TIME]
        path = None if session.peer is None else session.peer.path
        if path is not None and path.budget is None:
            flows.append((path.transport, path.flow))
        return set(_addresses(self._ctx, flows))

    # ---------------------------------------------------------------- sending

    def _refuse(self, session: Session, frame: Punch, reason: str, now: float) -> None:
        if frame.stage in (PunchStage.REQUEST, PunchStage.REFUSED):
            refusal = Punch(stage=PunchStage.REFUSED, key=frame.key, round=frame.round, reason=reason)
            self._send(session, refusal, now)

    def _send(self, session: Session, frame: Punch, now: float) -> None:
        peer = session.peer
        if peer is not None and peer.epoch is not None and peer.path is not None:
            self._ctx.send_frame(peer.epoch, peer.path, frame, now)


@dataclass(frozen=True, slots=True)
class OtherPort:
    """Two transports of a hub that are alike but for their port."""

    first: int
    second: int
    number: int
    """The port's number of the second one."""


def _addresses(ctx: Context, flows: Iterable[tuple[int, Flow]]) -> Iterable[IPAddress]:
    for transport, flow in flows:
        host = address_of(ctx.describe(transport, flow))
        if host is not None:
            yield host
