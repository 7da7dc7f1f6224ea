"""A node's part of the mesh: RELAY frames are taken in, or go on to the next node; see `ltunnel.data.relay`.

    Inbound ─► open ─┬─ for this node ─► RelayReceiver ─► another Inbound
                     └─ for another ───► RelayForwarder, as on a hub: MeshRouter says over whom

Whole batches, as a rule: what the first frame of one is for says where all are opened. Frames that turn out to be for
the other side are copied there.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import ParamSpec

from ltunnel.constants import RELAY_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena
from ltunnel.data.relay import RelayReceiver
from ltunnel.data.relay_frames import Run, open_relays, runs
from ltunnel.data.relay_hub import RelayForwarder
from ltunnel.plugin import Buffer
from ltunnel.session import Drop, Epoch, Hops, Peer
from ltunnel.wire.relay import NAME_SIZE

_P = ParamSpec("_P")


class MeshRouter:
    """On a node: along the routes that the control side has chosen, and never back to where it came from.

    `names` are the introduced nodes, `indirect` the transports that go through somebody else: nothing is relayed over
    those.
    """

    def __init__(self, own: bytes, hops: Hops, names: Mapping[bytes, Peer], indirect: Container[int]) -> None:
        self._own = own
        self._hops = hops
        self._names = names
        self._indirect = indirect

    def link(self, flow: bytes) -> Peer | None:
        """Return the neighbour that a flow of the mesh begins with, if there is a direct path to it."""
        return self._direct(self._hops.links.get(flow[:NAME_SIZE]))

    def next_hop(self, origin: Peer, destination: bytes, source: bytes) -> tuple[Peer, bytes] | Drop:
        """See `Router.next_hop`. The source is as the neighbour says; its keys alone prove it to the far end."""
        target = self._direct(self._hops.next.get(destination))
        if source == self._own:
            return Drop.HOPS
        if target is None or target is origin or origin.is_hub or source not in self._names or source == destination:
            return Drop.NO_ROUTE
        return target, source

    def _direct(self, peer: Peer | None) -> Peer | None:
        return None if peer is None or peer.path is None or peer.path.transport in self._indirect else peer


class MeshRelays:
    """See `Relays`: both sides of the relay in one."""

    def __init__(self, own: bytes, hops: Hops, receiver: RelayReceiver, forwarder: RelayForwarder) -> None:
        self._own = own
        self._hops = hops
        self._receiver = receiver
        self._forwarder = forwarder
        self._arena = receiver.arena  # where the last ones were opened
        self._inside = False  # whether a relayed datagram is being opened; no other one may be in there

    def takes(self, peer: Peer) -> bool:
        """Take them from the hub, and where there is a mesh from any node that there is a session with."""
        return not self._inside and (peer.is_hub or bool(self._hops.ttl))

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """See `Relays.open`."""
        self._arena = (self._receiver if self._for_us(first) else self._forwarder).arena
        return open_relays(self._arena, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """See `Relays.take`."""
        arena, ours = self._arena, self._arena is self._receiver.arena
        parts = list(runs(arena, epoch.peer.stats, count, length, rest))
        if all((part[3][:NAME_SIZE] == self._own) is ours for part in parts):
            self._pass(ours, epoch, parts, length, now)
            return
        held = bytes(arena.view[: count * length + rest])
        for first, stop, last, trailer in parts:
            ours = trailer[:NAME_SIZE] == self._own
            start, end = first * length, stop * length + last
            (self._receiver if ours else self._forwarder).arena.view[: end - start] = held[start:end]
            self._pass(ours, epoch, [(0, stop - first, last, trailer)], length, now)

    def take_one(self, epoch: Epoch, frame: Buffer, now: float) -> None:
        """See `Relays.take_one`."""
        if self._for_us(frame):
            self._deliver(self._receiver.take_one, epoch, frame, now)
        else:
            self._forwarder.take_one(epoch, frame, now)

    def take_record(self, epoch: Epoch, arena: Arena, length: int, now: float) -> None:
        """See `Relays.take_record`."""
        if self._for_us(arena.view[:length]):
            self._deliver(self._receiver.take_record, epoch, arena, length, now)
        else:
            self._forwarder.take_record(epoch, arena, length, now)

    def _pass(self, ours: bool, epoch: Epoch, parts: Sequence[Run], length: int, now: float) -> None:
        """Hand over what lies in the arena of whichever side it is for."""
        if ours:
            self._deliver(self._receiver.take_runs, epoch, parts, length, now)
        else:
            self._forwarder.take_runs(epoch, parts, length, now)

    def _deliver(self, take: Callable[_P, None], *args: _P.args, **more: _P.kwargs) -> None:
        """Let the receiver take what is for this node; whatever becomes of it, the next one is taken again."""
        self._inside = True
        try:
            take(*args, **more)
        finally:
            self._inside = False

    def _for_us(self, frame: Buffer) -> bool:
        """Whether a frame is this node's, or too short to say."""
        size = len(frame)
        return size <= RELAY_TRAILER or frame[size - RELAY_TRAILER : size - RELAY_TRAILER + NAME_SIZE] == self._own
