"""The part of the relay that passes on: datagrams that are for another node; see `ltunnel.data.relay`.

A hub sends them to the node itself, a node in a mesh to the next on the way (`ltunnel.data.relay_node`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from ltunnel.constants import RELAY_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena
from ltunnel.data.relay_frames import RelaySealer, Run, open_relays, read_record, runs, write_trailers
from ltunnel.data.sending import usable_epoch
from ltunnel.plugin import Buffer, Transport
from ltunnel.session import Drop, Epoch, Peer
from ltunnel.wire.relay import TRAILER, node_name
from ltunnel.wire.types import FrameType


class Router(Protocol):
    """Knows where frames go."""

    def next_hop(self, origin: Peer, destination: bytes, source: bytes) -> tuple[Peer, bytes] | Drop:
        """Return the peer that frames which came from `origin` go on to, and the name of their source; or why not."""
        ...


class HubRouter:
    """On a hub: to the node itself, in the name of the one whose session it came by."""

    def __init__(self, names: Mapping[bytes, Peer], *, isolated: bool) -> None:
        self._names = names
        self._isolated = isolated

    def next_hop(self, origin: Peer, destination: bytes, source: bytes) -> tuple[Peer, bytes] | Drop:  # noqa: ARG002
        """See `Router.next_hop`."""
        target = self._names.get(destination)
        if target is None or target is origin:
            return Drop.NO_ROUTE
        return Drop.ISOLATED if self._isolated else (target, node_name(origin.key))


class RelayForwarder:
    """Sends what is for another node on."""

    def __init__(self, router: Router, transports: Sequence[Transport]) -> None:
        self._router = router
        self._sealer = RelaySealer(transports)

    @property
    def arena(self) -> Arena:
        """Where `open` puts frames, and `take` finds them."""
        return self._sealer.arena

    def takes(self, peer: Peer) -> bool:  # noqa: ARG002
        """Every node may."""
        return True

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """See `Relays.open`."""
        return open_relays(self._sealer.arena, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """Send frames on, or count why not."""
        self.take_runs(epoch, runs(self._sealer.arena, epoch.peer.stats, count, length, rest), length, now)

    def take_runs(self, epoch: Epoch, parts: Iterable[Run], length: int, now: float) -> None:
        """Do so with frames that have been parted already."""
        origin, sealer = epoch.peer, self._sealer
        for first, stop, last, trailer in parts:
            frames = stop - first + (last > 0)
            target, signed = self._address(origin, trailer, frames, now)
            if target is not None:
                write_trailers(sealer.arena, first, stop, length, last, signed)
                if sealer.send(target, first, stop, length, last, now):
                    _count(origin, frames, (stop - first) * length + last - frames * RELAY_TRAILER)

    def take_one(self, epoch: Epoch, frame: Buffer, now: float) -> None:
        """See `Relays.take_one`."""
        self._sealer.arena.view[: len(frame)] = frame
        self.take(epoch, 1, len(frame), now, 0)

    def take_record(self, epoch: Epoch, arena: Arena, length: int, now: float) -> None:
        """Send the datagrams of a record on, as a record if that path, too, is clean."""
        origin, sealer = epoch.peer, self._sealer
        found = read_record(arena, origin.stats, length)
        if found is None:
            return
        size, full, rest, trailer = found
        frames = full + (rest > 0)
        target, signed = self._address(origin, trailer, frames, now)
        if target is None:
            return
        arena.data[length - RELAY_TRAILER : length] = signed
        sent = sealer.record(target, arena, length, now)
        if sent is None:
            end = full * size
            rows = arena.array[:end].reshape(full, size)
            sent = sealer.relay(target, rows, arena.view[end : end + rest], signed, now)
        if sent:
            _count(origin, frames, full * size + rest)

    def _address(self, origin: Peer, trailer: bytes, frames: int, now: float) -> tuple[Peer | None, bytes]:
        """Find out where frames go, and with what trailer; nowhere is counted."""
        destination, source, ttl, _ = TRAILER.unpack(trailer)
        found = self._router.next_hop(origin, destination, source)
        if isinstance(found, Drop):
            reason = found
        elif ttl < 2:
            reason = Drop.HOPS
        elif usable_epoch(found[0], frames, now) is None:
            reason = Drop.NO_SESSION
        else:
            return found[0], TRAILER.pack(destination, found[1], ttl - 1, FrameType.RELAY)
        origin.stats.drop(reason, frames)
        return None, trailer


def _count(origin: Peer, datagrams: int, size: int) -> None:
    origin.stats.relayed_datagrams += datagrams
    origin.stats.relayed_bytes += size
