"""Records: one seal over up to 64 KB, the ciphertext cut into datagrams. For paths that lose nothing.

    datagram   type 1 | receiver index 3 | parts 1 | part 1 | part size 2 | counter 4 | slice of the ciphertext
    nonce      the header of part 0; part i has the record's first counter plus i

A record takes as many counters as it has parts, so that what a key may seal (REJECT_AFTER_PACKETS), and what is lost,
is counted in datagrams all the same; one that is sent in one part, a large datagram of a `StreamTransport`, as many as
it could have. Sealing 60 KB at once costs half of sealing 43 rows, but a record that lacks one part is lost whole,
unless its parity came (`ltunnel.data.fec.record_parity`); `ltunnel.session.quality` says when it is worth it.
"""

from __future__ import annotations

from struct import Struct

from ltunnel.constants import (
    BUNDLE_ENTRY,
    DATA_HEADER,
    DATA_OVERHEAD,
    HEADROOM,
    MAX_DATAGRAM,
    MAX_ROWS,
    REJECT_AFTER_PACKETS,
    TAG,
)
from ltunnel.data.fec.record_parity import RecordParity
from ltunnel.data.grid import Arena, Bytes2D, GridCache, Nonces
from ltunnel.plugin import Buffer, Transport
from ltunnel.session import Epoch, Peer
from ltunnel.wire.types import MessageType

HEADER = Struct(">IBBHI")
NEXT_PART = (1 << 48) + 1
"""What the last eight header bytes, read as one number, grow by from part to part."""
LONGEST = MAX_DATAGRAM
COUNTED = 1400
"""Bytes for which a record of one part takes a counter."""

_SMALLEST_PART = 17  # with its header longer than any datagram that cannot be DATA
_AS_RECORD = (MessageType.RECORD - MessageType.DATA) << 24  # what makes a DATA header's first word a RECORD header's


class PartGrid:
    """Slots for parts of one size: ``prefix | header 12 | slice``, from HEADROOM of `out` on."""

    __slots__ = ("bodies", "headers", "limit", "slot")

    def __init__(self, out: Arena, size: int, prefix: int) -> None:
        self.slot = slot = prefix + DATA_HEADER + size
        self.limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // slot))
        grid: Bytes2D = out.array[HEADROOM : HEADROOM + self.limit * slot].reshape(self.limit, slot)
        self.headers = grid[:, prefix : prefix + DATA_HEADER]
        self.bodies = grid[:, prefix + DATA_HEADER :]


def counters(parts: int, size: int) -> int:
    """Return how many counters a record takes, given what its header says."""
    return parts if parts > 1 else max(1, size // COUNTED)


def part_size(length: int, largest: int) -> int:
    """Choose the size of parts for `length` bytes of ciphertext: at most `largest`, and no last one that is tiny."""
    size = largest
    while 0 < length % size < _SMALLEST_PART:
        size -= 1
    return size


class RecordSealer:
    """Seals a plaintext whole and lays its parts out in the out arena."""

    __slots__ = ("_grids", "_nonces", "_out", "ciphertext")

    def __init__(self, out: Arena) -> None:
        self._out = out
        self._grids = GridCache(lambda *geometry: PartGrid(out, *geometry), limit=16)
        self.ciphertext = Arena(2 * LONGEST)
        """What was sealed last, and room for as much behind it."""
        self._nonces = Nonces()

    def seal_for(
        self, peer: Peer, epoch: Epoch, plain: Buffer, transport: Transport, size: int = 0
    ) -> tuple[int, int] | None:
        """Seal `plain` in parts of `size`, or as the path to a peer carries it: (end of the last slot, size of a slot).

        The size is 0 for one slot that is larger than a packet. None when it needs too many parts.
        """
        length, prefix = len(plain) + TAG, transport.prefix
        if not size:
            largest = peer.mtu + BUNDLE_ENTRY + DATA_OVERHEAD - DATA_HEADER
            if largest < length <= min(getattr(transport, "largest_slot", 0) - prefix, LONGEST) - DATA_HEADER:
                return self._seal_whole(epoch, plain, prefix)
            size = part_size(length, largest)
        grid = self._grids.get(size, prefix)
        if length > grid.limit * size or epoch.counter + grid.limit > REJECT_AFTER_PACKETS:
            return None
        stop = self.seal(epoch, plain, grid, size)
        return stop, grid.slot if length > size else stop - HEADROOM

    def _seal_whole(self, epoch: Epoch, plain: Buffer, prefix: int) -> tuple[int, int] | None:
        """Seal `plain` in one part, to where that is sent from; returns what `seal_for` does."""
        length = len(plain) + TAG
        count = counters(1, length)
        if epoch.counter + count > REJECT_AFTER_PACKETS:
            return None
        out, at = self._out.view, HEADROOM + prefix
        middle = at + DATA_HEADER
        stop = middle + length
        HEADER.pack_into(out, at, epoch.send_word + _AS_RECORD, 1, 0, length, epoch.take(count))
        epoch.sealer.seal((out[at:middle],), (plain,), (out[middle:stop],))
        return stop, 0

    def seal(self, epoch: Epoch, plain: Buffer, grid: PartGrid, size: int) -> int:
        """Seal `plain` for an epoch in parts of `size`, at most ``grid.limit``; return where the last slot ends."""
        length = len(plain) + TAG
        full, rest = divmod(length, size)
        parts = full + (rest > 0)
        nonces = self._nonces
        first = epoch.take(counters(parts, size))
        nonces.fill_parts(parts, epoch.send_word + _AS_RECORD, parts << 24 | size, first)
        ciphertext = self.ciphertext
        epoch.sealer.seal(nonces.views[:1], (plain,), (ciphertext.view[:length],))
        grid.headers[:full] = nonces.array[:full]
        grid.bodies[:full, :size] = ciphertext.array[: full * size].reshape(full, size)
        end = HEADROOM + full * grid.slot
        if rest:
            prefix = grid.slot - size - DATA_HEADER
            out, at = self._out.view, end + prefix
            out[at : at + DATA_HEADER] = nonces.views[full]
            end = at + DATA_HEADER + rest
            out[at + DATA_HEADER : end] = ciphertext.view[full * size : length]
        return end


class Record:
    """The ciphertext of one record as its parts come in."""

    __slots__ = ("_have", "_last", "arena", "born", "first", "parity", "parts", "size", "word")

    def __init__(self, arena: Arena, word: int, parts: int, size: int, first: int, born: float) -> None:
        self.arena = arena
        self.word, self.parts, self.size, self.first = word, parts, size, first
        self.born = born
        self.parity: RecordParity | None = None
        self._have = 0  # bit i: part i is here
        self._last = 0  # size of the last part

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        return self._have == (1 << self.parts) - 1

    @property
    def missing(self) -> int:
        """How many parts are missing."""
        return self.parts - self._have.bit_count()

    @property
    def length(self) -> int:
        """Bytes of ciphertext of a complete record."""
        return (self.parts - 1) * self.size + self._last

    @property
    def nonce(self) -> Buffer:
        """Header of part 0."""
        return memoryview(HEADER.pack(self.word, self.parts, 0, self.size, self.first))

    def take(self, part: int, rows: Bytes2D) -> None:
        """Copy full parts, a (n, size) array, from `part` on. Parts that are here already stay as they are."""
        count = len(rows)
        mask = ((1 << count) - 1) << part
        if self._have & mask:
            for i in range(count):
                self.put(part + i, rows[i].data)
            return
        at = part * self.size
        self.arena.array[at : at + count * self.size].reshape(count, self.size)[:] = rows
        self._have |= mask
        if part + count == self.parts:
            self._last = self.size

    def put(self, part: int, body: Buffer) -> None:
        """Copy one part, unless it is here."""
        if not self._have >> part & 1:
            at = part * self.size
            self.arena.view[at : at + len(body)] = body
            self._have |= 1 << part
            if part == self.parts - 1:
                self._last = len(body)

    def restore(self) -> list[int]:
        """Make the parts that are missing out of the parity, if all can be made; return which."""
        found = self.parity.restore(self.arena, self._have, self._last) if self.parity is not None else None
        for part, body in (found or {}).items():
            self.put(part, memoryview(body))
        return sorted(found or ())


class Assembly:
    """Records that lack parts, at most `LIMIT`: the oldest gives way, as lost ones never complete."""

    LIMIT = 16

    __slots__ = ("_free", "_records")

    def __init__(self) -> None:
        self._records: dict[tuple[int, int, int, int], Record] = {}
        self._free: list[Arena] = []

    def get(self, word: int, parts: int, size: int, first: int, now: float) -> Record:
        """Return the record that a part with these header fields belongs to, perhaps a new one."""
        key = (word, first, parts, size)
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= self.LIMIT:
                self.forget(next(iter(self._records.values())))
            arena = self._free.pop() if self._free else Arena(LONGEST + TAG)
            record = self._records[key] = Record(arena, word, parts, size, first, now)
        return record

    def coded(self) -> list[Record]:
        """Return records of which parity has come, the oldest first."""
        return [record for record in self._records.values() if record.parity is not None]

    def forget(self, record: Record) -> None:
        """Drop a record. What it lacks is lost, as far as it is known that it was coded."""
        del self._records[record.word, record.first, record.parts, record.size]
        if record.parity is not None:
            record.parity.stats.lost += record.missing
        self._free.append(record.arena)
