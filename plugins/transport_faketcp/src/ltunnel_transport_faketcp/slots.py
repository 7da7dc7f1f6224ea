"""Datagrams in a stream of bytes: slots, each a length of two bytes (big-endian) and as many bytes of datagram.

A sender lays slots back to back, and every batch ends with a PSH, so that the byte after it begins a slot. Mostly a
batch arrives as it was sent, or segment by segment, and one look at the prefixes says so (`slot_size`). What was joined
or cut elsewhere goes through a `Reader` (`ltunnel_transport_faketcp.reader`), which copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from ltunnel.plugin import Buffer

PREFIX = 2

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


def runs(slots: Sequence[bytes | bytearray]) -> list[tuple[bytes | bytearray, int]]:
    """Group slots, in order, into (bytes, seg): equal ones with a shorter last one, at most 65,507 bytes each."""
    grouped: list[tuple[list[bytes | bytearray], int]] = []
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
    return [(parts[0] if len(parts) == 1 else b"".join(parts), size) for parts, size in grouped]
