"""Datagrams between two nodes through their hub or another node, in RELAY frames; see `ltunnel.wire.relay`.

    node   Outbound ─► RelayTransport.send ─► trailers behind the datagrams ─► seal for the hub ─► its transport
    hub    Inbound ─► open ─► RelayForwarder: by name to the peer, name of the sender, ttl ─► seal ─► its transport
    node   Inbound ─► open ─► RelayReceiver: trailers off ─► another Inbound, as from a transport

To a node the relay is one more transport, whose flows are the names of other nodes, and the mesh another one, whose
flows are the names of the first node on the way and of the last. Here are the node's two ends of both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from ltunnel.constants import DATA_OVERHEAD, RELAY_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena
from ltunnel.data.relay_frames import RelaySealer, Run, open_relays, read_record, runs
from ltunnel.plugin import Address, Buffer, Port, Transport
from ltunnel.session import Drop, Epoch, Peer
from ltunnel.wire.relay import NAME_SIZE, TRAILER, TTL, RelayTrailer, node_name

_NAMES_LIMIT = 1024


class RelayTransport:
    """On a node: a transport that goes through somebody else.

    A flow ends with the name of the node that it leads to; `through` returns the peer that passes its datagrams on, or
    None if there is none now.
    """

    ports: Sequence[Port] = ()
    prefix = RELAY_TRAILER + DATA_OVERHEAD + 2
    """Not written: what the outer datagram takes around ours, so that as many of them make a batch as of those."""

    def __init__(
        self, name: bytes, through: Callable[[bytes], Peer | None], transports: Sequence[Transport], ttl: int = TTL
    ) -> None:
        self._name = name
        self._through = through
        self._ttl = ttl
        self._sealer = RelaySealer(transports)
        self._trailers: dict[bytes, bytes] = {}

    def connect(self, remote: Address, now: float) -> bytes:  # noqa: ARG002
        """Return a name that no node has: nodes are reached by `ltunnel.wire.relay.node_name`, not by an address."""
        return b""

    def send(self, flow: bytes, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch to the node that a flow leads to; False while there is nobody in between. See `Transport`."""
        hop = self._through(flow)
        if hop is None or len(flow) < NAME_SIZE:
            return False
        trailer, prefix = self._trailers.get(flow) or self._trailer(flow), self.prefix
        if end - start <= seg:
            return self._sealer.relay_one(hop, buf[start + prefix : end], trailer, now)
        full, rest = divmod(end - start, seg)
        rows = np.frombuffer(buf, np.uint8, full * seg, start).reshape(full, seg)[:, prefix:]
        last = buf[end - rest + prefix : end] if rest else buf[:0]
        return self._sealer.relay(hop, rows, last, trailer, now)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[bytes, int, int, int]:  # noqa: ARG002
        """Raise `BlockingIOError`: what arrives comes in the datagrams of another session (`RelayReceiver`)."""
        raise BlockingIOError

    def describe(self, flow: bytes) -> str:
        """Name a flow as ``relay to 4a0b...``, with who is in between if the flow says so."""
        via, dest = flow[:-NAME_SIZE], flow[-NAME_SIZE:]
        return f"relay to {dest.hex()}" + (f" by {via.hex()}" if via else "")

    def close(self, flow: bytes, now: float) -> None:  # noqa: ARG002
        """Forget a name."""
        self._trailers.pop(flow, None)

    def next_timeout(self) -> float | None:
        """Return None: there is no timer."""
        return None

    def handle_timeout(self, now: float) -> None:
        """Do nothing."""

    def _trailer(self, flow: bytes) -> bytes:
        if len(self._trailers) >= _NAMES_LIMIT:
            self._trailers.clear()
        trailer = self._trailers[flow] = RelayTrailer(flow[-NAME_SIZE:], self._name, self._ttl).pack()
        return trailer


class Relayed(Protocol):
    """An `Inbound` that takes datagrams from an arena of its own instead of a port."""

    rx: Arena

    def relayed(self, index: int, flow: bytes, start: int, size: int, stride: int, full: int, rest: int, now: float
                ) -> None:  # fmt: skip
        """Take `full` datagrams of `size` bytes, `stride` apart from `start` on, and one of `rest` bytes, if not 0."""
        ...


class RelayReceiver:
    """On a node: takes what others have sent through the hub (transport `index`) or through a node (`mesh`)."""

    def __init__(self, name: bytes, index: int, inbound: Relayed, mesh: int | None = None) -> None:
        self._name = name
        self._index = index
        self._mesh = mesh
        self._inbound = inbound

    @property
    def arena(self) -> Arena:
        """Where `open` puts frames, and `take` finds them."""
        return self._inbound.rx

    def takes(self, peer: Peer) -> bool:
        """Only the hub relays."""
        return peer.is_hub

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """See `Relays.open`."""
        return open_relays(self._inbound.rx, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """Pass datagrams on that are for this node, as from the relay's flow of their sender."""
        self.take_runs(epoch, runs(self._inbound.rx, epoch.peer.stats, count, length, rest), length, now)

    def take_runs(self, epoch: Epoch, parts: Iterable[Run], length: int, now: float) -> None:
        """Do so with frames that have been parted already."""
        for first, stop, last, trailer in parts:
            destination, source, _, _ = TRAILER.unpack(trailer)
            if destination != self._name:
                epoch.peer.stats.drop(Drop.NO_ROUTE, stop - first + (last > 0))
                continue
            size, full = (length, stop - first) if stop > first else (last, 1)
            self._inbound.relayed(
                *self._flow(epoch.peer, source), first * length, size - RELAY_TRAILER, size, full,
                max(0, last - RELAY_TRAILER) if stop > first else 0, now,
            )  # fmt: skip

    def take_one(self, epoch: Epoch, frame: Buffer, now: float) -> None:
        """See `Relays.take_one`."""
        self._inbound.rx.view[: len(frame)] = frame
        self.take(epoch, 1, len(frame), now, 0)

    def take_record(self, epoch: Epoch, arena: Arena, length: int, now: float) -> None:
        """Pass the datagrams of a record on; they move first, since what they hold is opened to where they lie."""
        found = read_record(arena, epoch.peer.stats, length)
        if found is None:
            return
        size, full, rest, trailer = found
        destination, source, _, _ = TRAILER.unpack(trailer)
        if destination != self._name:
            epoch.peer.stats.drop(Drop.NO_ROUTE, full + (rest > 0))
            return
        end = full * size + rest
        self._inbound.rx.array[:end] = arena.array[:end]
        size, full, rest = (size, full, rest) if full else (rest, 1, 0)
        self._inbound.relayed(*self._flow(epoch.peer, source), 0, size, size, full, rest, now)

    def _flow(self, peer: Peer, source: bytes) -> tuple[int, bytes]:
        """Return by which transport and flow it came: of the mesh unless it is the hub's."""
        if peer.is_hub or self._mesh is None:
            return self._index, source
        return self._mesh, node_name(peer.key) + source
