"""Datagrams in a stream of bytes: slots, each a length of two bytes (big-endian) and as many bytes of datagram.

A sender lays slots back to back, and every batch ends with a PSH, so that the byte after it begins a slot. Mostly a
batch arrives as it was sent, or segment by segment, and one look at the prefixes says so (`slot_size`). What was joined
or cut elsewhere goes through a `Reader`, which copies.
"""

from __future__ import annotations

from struct import Struct

from ltunnel.plugin import Buffer
from ltunnel_transport_faketcp.segment import MASK

PREFIX = 2
LARGEST_PARTIAL = 16_384
"""A slot that arrives in parts may have this many bytes, a datagram of a 9000-byte link and more."""

_LENGTH = Struct("!H")
_BYTES = [bytes((value,)) for value in range(256)]


def write_prefixes(buf: Buffer, start: int, end: int, seg: int) -> None:
    """Write the lengths into the slots of ``buf[start:end]``, `seg` bytes each, the last may be shorter."""
    count = (end - start - 1) // seg
    last = start + count * seg
    if count:
        size = seg - PREFIX
        buf[start:last:seg] = _BYTES[size >> 8] * count
        buf[start + 1 : last : seg] = _BYTES[size & 0xFF] * count
    _LENGTH.pack_into(buf, last, end - last - PREFIX)


def slot_size(buf: Buffer, start: int, end: int, piece: int = 0) -> int:
    """Return the size of the slots that ``buf[start:end]`` consists of, the last may be shorter; 0 if it does not.

    `piece` is the size of the segments that were joined, 0 for none. What is joined was sent as one batch, whose slots
    are equal; if the first one fills its segment, so do those behind it, and are not looked at.
    """
    size = end - start
    if size <= PREFIX:
        return 0
    high, low = buf[start], buf[start + 1]
    seg = (high << 8 | low) + PREFIX
    if seg >= size:
        return seg if seg == size else 0
    rest = size % seg
    body = end - rest
    if rest and (rest <= PREFIX or (buf[body] << 8 | buf[body + 1]) != rest - PREFIX):
        return 0
    if seg == piece > PREFIX:
        return seg
    count = size // seg
    if seg == PREFIX or buf[start:body:seg] != _BYTES[high] * count:
        return 0
    return seg if buf[start + 1 : body : seg] == _BYTES[low] * count else 0


class Reader:
    """Slots out of segments whose boundaries are not those of slots. State of one flow's stream, bounded."""

    __slots__ = ("_partial", "aligned", "usual")

    def __init__(self, seq: int) -> None:
        self.aligned = seq & MASK
        """A sequence number at which a slot begins, or its rest that follows `_partial`; -1: none is known."""
        self.usual = 0
        """Size of recent slots, by which the stream is found again; 0: not known."""
        self._partial = b""

    def skip(self, seq: int, seg: int, size: int) -> None:
        """Take note that slots of `seg` bytes, `size` bytes together, were whole as they came and end at `seq`."""
        self.aligned = seq
        if size > seg:
            self.usual = seg
        if self._partial:
            self._partial = b""

    def read(self, seq: int, data: bytes, *, pushed: bool) -> list[bytes]:
        """Return the slots that ``data`` at `seq` completes; `pushed`: the segment has a PSH."""
        after = seq + len(data) & MASK
        at = 0
        if seq == self.aligned:
            data = self._partial + data
        else:
            at = self._find(data)
        slots, rest = _walk(data, at)
        if slots and not (pushed and len(slots) == 1):  # the last of a batch may be a short one
            self.usual = len(slots[0])
        wanted = int.from_bytes(rest[:PREFIX], "big") + PREFIX if len(rest) >= PREFIX else 0
        lost = at == len(data) or wanted == PREFIX or wanted > LARGEST_PARTIAL
        self._partial = b"" if pushed or lost else rest
        self.aligned = after if pushed or not lost else -1
        return slots

    def _find(self, data: bytes) -> int:
        """Return where a slot begins in data that follows a gap, its length if nowhere."""
        if not _walk(data, 0)[1]:
            return 0
        if self.usual:
            pattern = (self.usual - PREFIX).to_bytes(PREFIX, "big")
            at = data.find(pattern)
            while at >= 0:
                follows = at + self.usual
                if data[follows : follows + PREFIX] == pattern or not _walk(data, follows)[1]:
                    return at
                at = data.find(pattern, at + 1)
        return len(data)


def _walk(data: bytes, at: int) -> tuple[list[bytes], bytes]:
    """Cut whole slots off ``data[at:]``; return them and what is left."""
    slots = []
    size = len(data)
    while at + PREFIX < size:
        end = at + PREFIX + (data[at] << 8 | data[at + 1])
        if end > size or end == at + PREFIX:
            break
        slots.append(data[at:end])
        at = end
    return slots, data[at:]


def runs(slots: list[bytes]) -> list[tuple[bytes, int]]:
    """Group slots, in order, into (bytes, seg): equal ones with a shorter last one, at most 65,507 bytes each."""
    grouped: list[tuple[list[bytes], int]] = []
    room, open_ended = 0, False
    for slot in slots:
        size = len(slot)
        if open_ended and size <= grouped[-1][1] and size <= room:
            grouped[-1][0].append(slot)
            open_ended = size == grouped[-1][1]
        else:
            grouped.append(([slot], size))
            room, open_ended = 65_507, True
        room -= size
    return [(b"".join(parts), size) for parts, size in grouped]
