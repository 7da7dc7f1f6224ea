"""Frames of relayed datagrams, many at a time: laid out, parted by where they go, sealed and sent.

A RELAY frame is ``datagram | trailer 18``; in a record it is ``datagrams of one size | size 2 | trailer 18`` (see
`ltunnel.wire.relay`). Frames of equal length lie back to back in an arena, where they are opened, looked at and sealed
all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Protocol

import numpy as np

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, RELAY_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.grid import Arena, Bytes2D, GridCache, Nonces
from ltunnel.data.openings import open_alike
from ltunnel.data.records import RecordSealer
from ltunnel.data.sending import send_sealed, usable_epoch
from ltunnel.plugin import Buffer, Transport
from ltunnel.session import Drop, Epoch, Peer, Stats
from ltunnel.wire.relay import SIZE
from ltunnel.wire.types import FrameType

CAPACITY = MAX_DATAGRAM + (MAX_ROWS + 1) * RELAY_TRAILER
"""Enough for the frames of one batch, whether it is on its way in or out."""
RECORD_TRAILER = SIZE.size + RELAY_TRAILER
LONGEST = MAX_DATAGRAM - DATA_OVERHEAD - RELAY_TRAILER
"""The largest datagram that goes into a RELAY frame of its own."""

_HEADER = Struct(">IQ")
_KINDS = (FrameType.RELAY,)


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

    def take_one(self, epoch: Epoch, frame: Buffer, now: float) -> None:
        """Take one frame that came alone, and lies elsewhere."""
        ...

    def take_record(self, epoch: Epoch, arena: Arena, length: int, now: float) -> None:
        """Take the RELAY frame of a record, `length` bytes at the start of `arena`."""
        ...


def open_relays(target: Arena, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
    """Open RELAY frames behind each other in `target`; see `Relays.open`."""
    return open_alike(target, _KINDS, batch, at, end, epoch, first)


def read_record(arena: Arena, stats: Stats, length: int) -> tuple[int, int, int, bytes] | None:
    """Read the RELAY frame of a record: (size of a datagram, full ones, bytes of a shorter one behind, trailer).

    None for one that holds no datagram, more than one batch may have, or one that is too large; that is counted.
    """
    end = length - RECORD_TRAILER
    if end > 0:
        (size,) = SIZE.unpack_from(arena.data, end)
        if size and end <= MAX_ROWS * size and min(size, end) <= LONGEST:
            full, rest = divmod(end, size)
            return size, full, rest, bytes(arena.view[end + SIZE.size : length])
    stats.drop(Drop.MALFORMED)
    return None


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
    """Lays frames out in `arena`, back to back from its start, seals them for a peer and sends them."""

    def __init__(self, transports: Sequence[Transport]) -> None:
        self.arena = Arena(CAPACITY)
        self._transports = transports
        self._out = Arena(HEADROOM + MAX_DATAGRAM + 64)
        self._nonces = Nonces()
        self._grids = GridCache(lambda length, prefix: RelayGrid(self.arena, self._out, length, prefix), limit=16)
        self._records = RecordSealer(self._out)

    def relay(self, peer: Peer, rows: Bytes2D, last: Buffer, trailer: bytes, now: float) -> bool:
        """Send datagrams, a (n, size) array and a shorter one unless that is empty; False when not all have left."""
        arena = self.arena
        count, size = rows.shape
        if count + (len(last) > 0) > 1 and peer.quality.clean(now):
            end = count * size
            arena.array[:end].reshape(count, size)[:] = rows
            stop = end + len(last)
            arena.view[end:stop] = last
            arena.data[stop : stop + RECORD_TRAILER] = SIZE.pack(size) + trailer
            sent = self.record(peer, arena, stop + RECORD_TRAILER, now)
            if sent is not None:
                return sent
        length = size + RELAY_TRAILER
        if count:
            frames = arena.array[: count * length].reshape(count, length)
            frames[:, :size] = rows
            frames[:, size:] = np.frombuffer(trailer, np.uint8)
        at = count * length
        if last:
            stop = at + len(last)
            arena.view[at:stop] = last
            arena.data[stop : stop + RELAY_TRAILER] = trailer
        return self.send(peer, 0, count, length, len(last) + RELAY_TRAILER if last else 0, now)

    def relay_one(self, peer: Peer, datagram: Buffer, trailer: bytes, now: float) -> bool:
        """Send one datagram; False when it has not left."""
        size = len(datagram)
        self.arena.view[:size] = datagram
        self.arena.data[size : size + RELAY_TRAILER] = trailer
        return self._send_one(peer, 0, size + RELAY_TRAILER, now)

    def record(self, peer: Peer, arena: Arena, end: int, now: float) -> bool | None:
        """Send the frame at the start of an arena, `end` bytes, as one record; None if the path is not for that."""
        epoch = usable_epoch(peer, MAX_ROWS, now) if peer.quality.clean(now) else None
        if epoch is None or peer.path is None:
            return None
        sealed = self._records.seal_for(peer, epoch, arena.view[:end], self._transports[peer.path.transport])
        return None if sealed is None else send_sealed(self._transports, peer, self._out, *sealed, now)

    def send(self, peer: Peer, first: int, stop: int, length: int, rest: int, now: float) -> bool:
        """Send frames `first` .. `stop` of `length` bytes, and one of `rest` bytes behind them, if that is not 0.

        False when they, or some of them, did not leave.
        """
        if stop - first + (rest > 0) == 1:
            return self._send_one(peer, first * length, rest or length, now)
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

    def _send_one(self, peer: Peer, at: int, length: int, now: float) -> bool:
        """Seal and send the frame at ``at:at + length``; it needs no grid, of which there are but a few."""
        epoch = usable_epoch(peer, 1, now)
        if epoch is None:
            return False
        assert peer.path is not None  # noqa: S101  # usable_epoch has looked
        out, start = self._out.view, HEADROOM + self._transports[peer.path.transport].prefix
        middle, end = start + DATA_HEADER, start + length + DATA_OVERHEAD
        header, sealed = out[start:middle], out[middle:end]
        _HEADER.pack_into(header, 0, epoch.send_word, epoch.take(1))
        epoch.sealer.seal((header,), (self.arena.view[at : at + length],), (sealed,))
        return send_sealed(self._transports, peer, self._out, end, end - HEADROOM, now)

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


Run = tuple[int, int, int, bytes]
"""Frames with one trailer: (first, stop, length of a shorter one behind `stop` or 0, trailer)."""


def runs(arena: Arena, stats: Stats, count: int, length: int, rest: int) -> Iterator[Run]:
    """Part frames by their trailers.

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


def write_trailers(arena: Arena, first: int, stop: int, length: int, rest: int, trailer: bytes) -> None:
    """Give frames `first` .. `stop` and one of `rest` bytes behind them, if not 0, another trailer."""
    end = stop * length
    if stop - first == 1:
        arena.data[end - RELAY_TRAILER : end] = trailer
    elif stop > first:
        rows = arena.array[first * length : end].reshape(stop - first, length)
        rows[:, length - RELAY_TRAILER :] = np.frombuffer(trailer, np.uint8)
    if rest:
        arena.data[end + rest - RELAY_TRAILER : end + rest] = trailer
