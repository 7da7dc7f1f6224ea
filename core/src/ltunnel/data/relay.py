"""Datagrams between two nodes through their hub, in RELAY frames; see `ltunnel.wire.relay`.

    node   Outbound ─► RelayTransport.send ─► trailers behind the datagrams ─► seal for the hub ─► its transport
    hub    Inbound ─► open ─► RelayForwarder: by name to the peer, name of the sender, ttl ─► seal ─► its transport
    node   Inbound ─► open ─► RelayReceiver: trailers off ─► another Inbound, as from a transport

To a node the relay is one more transport, whose flows are the names of other nodes. Batches stay batches: frames of
equal length lie back to back in one arena, where they are opened, looked at and sealed all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, RELAY_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena, GridCache, Nonces
from ltunnel.data.openings import open_alike
from ltunnel.data.sending import send_sealed, usable_epoch
from ltunnel.plugin import Address, Buffer, Port, Transport
from ltunnel.session import Drop, Epoch, Peer, Stats
from ltunnel.wire.relay import NAME_SIZE, TRAILER, TTL, RelayTrailer, node_name
from ltunnel.wire.types import FrameType

CAPACITY = MAX_DATAGRAM + (MAX_ROWS + 1) * RELAY_TRAILER
"""Enough for the frames of one batch, whether it is on its way in or out."""

_KINDS = (FrameType.RELAY,)
_NAMES_LIMIT = 1024


class Relays(Protocol):
    """What `Inbound` does with RELAY frames."""

    def takes(self, peer: Peer) -> bool:
        """Whether a peer may send any."""
        ...

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """Open the RELAY frames that follow row `at`, whose plaintext is `first`; returns what `open_alike` returns."""
        ...

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """Take `count` frames of `length` bytes that `open` has opened, and one more of `rest` bytes, if not 0."""
        ...


class RelayGrid:
    """Where RELAY frames of one length lie in `arena`, and where their datagrams go in `out`, from HEADROOM on."""

    __slots__ = ("headers", "limit", "plain", "rows", "sealed", "slot")

    def __init__(self, arena: Arena, out: Arena, length: int, prefix: int) -> None:
        count = min(MAX_ROWS, len(arena.data) // length)
        self.rows = arena.array[: count * length].reshape(count, length)
        self.plain = [arena.view[at : at + length] for at in range(0, count * length, length)]
        self.slot = slot = prefix + length + DATA_OVERHEAD
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // slot))
        end = HEADROOM + self.limit * slot
        self.headers = out.array[HEADROOM:end].reshape(self.limit, slot)[:, prefix : prefix + DATA_HEADER]
        self.sealed = [out.view[at + prefix + DATA_HEADER : at + slot] for at in range(HEADROOM, end, slot)]


class RelaySealer:
    """Seals frames that lie back to back at the start of `arena` for a peer, and sends them."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self.arena = Arena(CAPACITY)
        self._transports = transports
        self._out = Arena(HEADROOM + MAX_DATAGRAM + 64)
        self._nonces = Nonces()
        self._grids = GridCache(lambda length, prefix: RelayGrid(self.arena, self._out, length, prefix), limit=16)

    def send(self, peer: Peer, first: int, stop: int, length: int, rest: int, now: float) -> bool:
        """Send frames `first` .. `stop` of `length` bytes, and one of `rest` bytes behind them, if that is not 0.

        False when they, or some of them, did not leave.
        """
        epoch = usable_epoch(peer, stop - first + 1, now)
        if epoch is None:
            return False
        assert peer.path is not None  # noqa: S101  # usable_epoch has looked
        prefix = self._transports[peer.path.transport].prefix
        grid = self._grids.get(length, prefix)
        sent = True
        while first < stop or rest:
            end = min(stop, first + grid.limit)
            room = end - first < grid.limit and rest and end == stop
            sent &= self._send(epoch, peer, grid, first, end, length, rest if room else 0, prefix, now)
            first = end
            if room:
                break
        return sent

    def _send(
        self, epoch: Epoch, peer: Peer, grid: RelayGrid, first: int, stop: int, length: int, rest: int, prefix: int,
        now: float,
    ) -> bool:  # fmt: skip
        """Seal and send as many frames as go into one batch."""
        full = stop - first
        count = full + (rest > 0)
        nonces, pos = self._nonces, HEADROOM + full * grid.slot
        nonces.fill(count, epoch.send_word, epoch.take(count))
        if full:
            grid.headers[:full] = nonces.array[:full]
            epoch.sealer.seal(nonces.views, grid.plain[first:stop], grid.sealed)
        size = grid.slot
        if rest:
            at, out = pos + prefix, self._out.view
            pos = at + rest + DATA_OVERHEAD
            out[at : at + DATA_HEADER] = nonces.views[full]
            frame = self.arena.view[stop * length : stop * length + rest]
            epoch.sealer.seal(nonces.views[full:count], [frame], [out[at + DATA_HEADER : pos]])
            size = size if full else pos - HEADROOM
        return send_sealed(self._transports, peer, self._out, pos, size, now)


class RelayTransport:
    """On a node: the transport that goes through the hub. A flow is the name of a node."""

    ports: Sequence[Port] = ()
    prefix = RELAY_TRAILER + DATA_OVERHEAD + 2
    """Not written: what the hub's datagram takes around ours, so that as many of them make a batch as of those."""

    def __init__(self, name: bytes, hub: Callable[[], Peer | None], transports: Sequence[Transport]) -> None:
        self._name = name
        self._hub = hub
        self._sealer = RelaySealer(transports)
        self._trailers: dict[bytes, bytes] = {}

    def connect(self, remote: Address, now: float) -> bytes:  # noqa: ARG002
        """Return a name that no node has: nodes are reached by `ltunnel.wire.relay.node_name`, not by an address."""
        return b""

    def send(self, flow: bytes, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch to the node with a name; False without a session with the hub. See `Transport`."""
        hub = self._hub()
        if hub is None or len(flow) != NAME_SIZE:
            return False
        sealer, trailer = self._sealer, self._trailers.get(flow) or self._trailer(flow)
        arena, prefix = sealer.arena, self.prefix
        size = seg - prefix
        length = size + RELAY_TRAILER
        full, rest = divmod(end - start, seg)
        if full == 1:
            arena.data[:size] = buf[start + prefix : start + seg]
            arena.data[size:length] = trailer
        elif full:
            rows = arena.array[: full * length].reshape(full, length)
            rows[:, :size] = np.frombuffer(buf, np.uint8, full * seg, start).reshape(full, seg)[:, prefix:]
            rows[:, size:] = np.frombuffer(trailer, np.uint8)
        if rest > prefix:
            at = full * length
            stop = at + rest - prefix
            arena.data[at:stop] = buf[end - rest + prefix : end]
            arena.data[stop : stop + RELAY_TRAILER] = trailer
            rest = stop + RELAY_TRAILER - at
        return sealer.send(hub, 0, full, length, rest, now)

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[bytes, int, int, int]:  # noqa: ARG002
        """Raise `BlockingIOError`: what arrives by the relay comes with the hub's datagrams (`RelayReceiver`)."""
        raise BlockingIOError

    def describe(self, flow: bytes) -> str:
        """Name a flow as ``relay to 4a0b...``."""
        return f"relay to {flow.hex()}"

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
        trailer = self._trailers[flow] = RelayTrailer(flow, self._name, TTL).pack()
        return trailer


class Relayed(Protocol):
    """An `Inbound` that takes datagrams from an arena of its own instead of a port."""

    rx: Arena

    def relayed(self, index: int, flow: bytes, start: int, size: int, stride: int, full: int, rest: int, now: float
                ) -> None:  # fmt: skip
        """Take `full` datagrams of `size` bytes, `stride` apart from `start` on, and one of `rest` bytes, if not 0."""
        ...


class RelayReceiver:
    """On a node: takes what others have sent through the hub."""

    def __init__(self, name: bytes, index: int, inbound: Relayed) -> None:
        self._name = name
        self._index = index
        self._inbound = inbound

    def takes(self, peer: Peer) -> bool:
        """Only the hub relays."""
        return peer.is_hub

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """See `Relays.open`."""
        return open_alike(self._inbound.rx, _KINDS, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """Pass datagrams on that are for this node, as from the relay's flow of their sender."""
        for first, stop, last, trailer in _runs(self._inbound.rx, epoch.peer.stats, count, length, rest):
            destination, source, _, _ = TRAILER.unpack(trailer)
            if destination != self._name:
                epoch.peer.stats.drop(Drop.NO_ROUTE, stop - first + (last > 0))
                continue
            size, full = (length, stop - first) if stop > first else (last, 1)
            self._inbound.relayed(
                self._index, source, first * length, size - RELAY_TRAILER, size, full,
                max(0, last - RELAY_TRAILER) if stop > first else 0, now,
            )  # fmt: skip


class RelayForwarder:
    """On a hub: sends what is for another node on to it."""

    def __init__(self, names: Mapping[bytes, Peer], transports: Sequence[Transport], *, isolated: bool) -> None:
        self._names = names
        self._isolated = isolated
        self._sealer = RelaySealer(transports)

    def takes(self, peer: Peer) -> bool:  # noqa: ARG002
        """Every node may."""
        return True

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """See `Relays.open`."""
        return open_alike(self._sealer.arena, _KINDS, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int) -> None:
        """Send frames on, or count why not."""
        origin, sealer = epoch.peer, self._sealer
        for first, stop, last, trailer in _runs(sealer.arena, origin.stats, count, length, rest):
            destination, _, ttl, _ = TRAILER.unpack(trailer)
            frames = stop - first + (last > 0)
            target = self._names.get(destination)
            if target is None or target is origin:
                origin.stats.drop(Drop.NO_ROUTE, frames)
            elif self._isolated:
                origin.stats.drop(Drop.ISOLATED, frames)
            elif ttl < 2:
                origin.stats.drop(Drop.HOPS, frames)
            elif usable_epoch(target, frames, now) is None:
                origin.stats.drop(Drop.NO_SESSION, frames)
            else:
                signed = TRAILER.pack(destination, node_name(origin.key), ttl - 1, FrameType.RELAY)
                _write_trailers(sealer.arena, first, stop, length, last, signed)
                if sealer.send(target, first, stop, length, last, now):
                    origin.stats.relayed_datagrams += frames
                    origin.stats.relayed_bytes += (stop - first) * length + last - frames * RELAY_TRAILER


def _runs(arena: Arena, stats: Stats, count: int, length: int, rest: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Part frames by their trailers: (first, stop, length of a shorter one behind `stop` or 0, trailer).

    They lie at the start of `arena`, `count` of `length` bytes and one of `rest` bytes, if not 0. Frames that hold no
    datagram are counted and left out.
    """
    if length <= RELAY_TRAILER:
        stats.drop(Drop.MALFORMED, count + (rest > 0))
        return
    end = count * length
    last = b""
    if rest > RELAY_TRAILER:
        last = bytes(arena.view[end + rest - RELAY_TRAILER : end + rest])
    elif rest:
        stats.drop(Drop.MALFORMED)
    trailers = arena.array[:end].reshape(count, length)[:, length - RELAY_TRAILER :].tobytes()
    first, trailer = 0, b""
    while first < count:
        at, stop = first * RELAY_TRAILER, count
        trailer = trailers[at : at + RELAY_TRAILER]
        if trailers[at:] != trailer * (count - first):
            stop = first + 1
            while trailers[stop * RELAY_TRAILER : (stop + 1) * RELAY_TRAILER] == trailer:
                stop += 1
        yield first, stop, rest if stop == count and last == trailer else 0, trailer
        first = stop
    if last and last != trailer:
        yield count, count, rest, last


def _write_trailers(arena: Arena, first: int, stop: int, length: int, rest: int, trailer: bytes) -> None:
    """Give frames `first` .. `stop` and one of `rest` bytes behind them, if not 0, another trailer."""
    end = stop * length
    if stop - first == 1:
        arena.data[end - RELAY_TRAILER : end] = trailer
    elif stop > first:
        rows = arena.array[first * length : end].reshape(stop - first, length)
        rows[:, length - RELAY_TRAILER :] = np.frombuffer(trailer, np.uint8)
    if rest:
        arena.data[end + rest - RELAY_TRAILER : end + rest] = trailer
