"""Datagrams in a stream: each with its length in front, 2 bytes, big-endian; the length does not count itself.

A slot is ``length 2 | datagram``. The core leaves room for the lengths when it builds a batch, and takes slots as they
are when a batch comes in, so equal datagrams go through in one piece.
"""

from __future__ import annotations

from ltunnel.constants import MAX_DATAGRAM, MAX_ROWS
from ltunnel.plugin import Buffer

PREFIX = 2
LARGEST_SLOT = PREFIX + MAX_DATAGRAM
RUN_LIMIT = 65_536
"""Bytes of a run at most: what a receiver of batches has room for."""


def write_lengths(buf: Buffer, start: int, end: int, seg: int) -> None:
    """Fill in the lengths of a batch ``buf[start:end]`` of slots of `seg` bytes, the last may be shorter."""
    full, rest = divmod(end - start, seg)
    high, low = divmod(seg - PREFIX, 256)
    stop = start + full * seg
    if full == 1:
        buf[start], buf[start + 1] = high, low
    elif full:
        buf[start:stop:seg] = bytes((high,)) * full
        buf[start + 1 : stop : seg] = bytes((low,)) * full
    if rest:
        buf[stop], buf[stop + 1] = divmod(rest - PREFIX, 256)


def find_run(data: bytearray, at: int, end: int) -> tuple[int, int]:
    """Find the slots at ``data[at:end]`` that make one batch: (stop, slot size).

    They are equal but for a shorter last one, and whole; stop == at when not even the first is whole. A slot size of 0
    says that the length there is none of a datagram: such a stream cannot be read on.
    """
    if end - at < PREFIX:
        return at, PREFIX
    high, low = data[at], data[at + 1]
    length = high << 8 | low
    if not 0 < length <= MAX_DATAGRAM:
        return at, 0
    slot = PREFIX + length
    count = min((end - at) // slot, MAX_ROWS, RUN_LIMIT // slot)
    if not count:
        return at, slot
    stop = at + count * slot
    highs, lows = data[at:stop:slot], data[at + 1 : stop : slot]
    if count > 1 and (highs != bytes((high,)) * count or lows != bytes((low,)) * count):
        stop = at + slot * next(i for i in range(count) if highs[i] != high or lows[i] != low)
        count = 0  # another follows at once, so a shorter one is looked for below
    if count < MAX_ROWS and end - stop >= PREFIX:
        last = data[stop] << 8 | data[stop + 1]
        after = stop + PREFIX + last
        if 0 < last < length and after <= end and after - at <= RUN_LIMIT:
            stop = after
    return stop, slot
