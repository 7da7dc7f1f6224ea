"""Joining TCP segments that come one by one, where neither card nor kernel has done it: generic receive offload, again.

A segment whose end is not marked by a PSH is mostly followed by others of its kind. They are read with their headers
aside and their payload behind that of the first, so nothing is copied, and whoever takes the packet looks at one header
instead of dozens: *measured*, 2 µs for each further segment instead of 10.

The rules are those of Linux (``tcp_gro_receive``): consecutive numbers, equal sizes but for a shorter last one, equal
acknowledgement, window and options, nothing after a PSH.
"""

from __future__ import annotations

import os
from struct import Struct, pack_into
from typing import NamedTuple

from ltunnel.constants import MAX_ROWS
from ltunnel.plugin import Buffer
from ltunnel.runtime.loop import make_event

ACK, PSH = 0x10, 0x08

_LARGEST = 65_535
_MASK = 0xFFFFFFFF
_HEADERS = 256
_GSO_TYPE_AT = 1
_IPV4_HEADER, _IPV6_HEADER, _TCP_HEADER = 20, 40, 20


class _Shape(NamedTuple):
    """Packets whose payload begins at the same place."""

    head: Buffer
    """Room for what stands before the payload of a further segment."""
    fields: Struct
    """(length by the IP header, addresses and ports, seq, ack and data offset, flags, window, options)."""


class Joiner:
    """Joins what one descriptor brings. `flag` is readable while there is a packet that was read but not taken."""

    def __init__(self) -> None:
        self.flag = make_event()
        self.kept = b""
        """A packet that was read and did not belong to others: as it was read, to be taken by `take`."""
        self._heads = memoryview(bytearray(_HEADERS))
        self._rest = memoryview(bytearray(_LARGEST + _HEADERS))
        self._shapes: dict[tuple[int, int, int], _Shape] = {}

    def close(self) -> None:
        """Close the flag."""
        os.close(self.flag)

    def take(self, buf: Buffer, pos: int) -> int:
        """Put the kept packet to ``buf[pos:]`` and return its size."""
        kept, self.kept = self.kept, b""
        os.eventfd_read(self.flag)
        buf[pos : pos + len(kept)] = kept
        return len(kept)

    def join(self, fd: int, buf: Buffer, at: int, ip: int, end: int) -> tuple[int, int]:
        """Read on behind a packet: ``buf[at:end]`` as it was read from `fd`, whose IP header is at `ip`.

        Returns (its end, size of its segments, 0 if it is but one). Lengths in the IP header are set, checksums not.
        """
        six = buf[ip] >> 4 == 6
        tcp = ip + (_IPV6_HEADER if six else _IPV4_HEADER)
        data = tcp + (buf[tcp + 12] >> 4) * 4
        length_at, length_base = (ip + 4, tcp) if six else (ip + 2, ip)
        stop = length_base + (buf[length_at] << 8 | buf[length_at + 1])
        size = stop - data
        if size <= 0 or stop > end or data < tcp + _TCP_HEADER or not (six or buf[ip] == 0x45):
            return end, 0
        lead = data - at
        shape = ip - at, tcp - ip, data - tcp
        head, fields = self._shapes.get(shape) or self._make_shape(*shape)
        _, ends, seq, acked, _, window, options = fields.unpack_from(buf, at)
        more = data - length_base
        last = min(ip + _LARGEST, len(buf)) - size
        readv, unpack, rest = os.readv, fields.unpack_from, self._rest
        count, end, flags = 1, stop, 0
        seq = seq + size & _MASK
        while count < MAX_ROWS and end <= last:
            try:
                got = readv(fd, (head, buf[end : end + size], rest)) - lead
            except OSError:  # mostly BlockingIOError: nothing waits
                break
            length, its_ends, its_seq, its_ack, flags, its_window, its_options = unpack(head)
            if (
                its_seq != seq
                or length != more + got
                or its_ack != acked
                or flags | PSH != ACK | PSH
                or its_window != window
                or its_ends != ends
                or its_options != options
                or not 0 < got <= size
                or head[_GSO_TYPE_AT]
            ):
                self._keep(head, buf[end : end + size], lead + got)
                break
            count += 1
            end += got
            seq = seq + got & _MASK
            if flags & PSH:
                buf[tcp + 13] = flags
                break
            if got < size:
                break
        if count == 1:
            return end, 0
        pack_into("!H", buf, length_at, end - length_base)
        return end, size

    def _keep(self, head: Buffer, payload: Buffer, size: int) -> None:
        """Keep a packet for later that was read in three parts."""
        self.kept = b"".join((head, payload, self._rest[: max(0, size - len(head) - len(payload))]))[:size]
        os.eventfd_write(self.flag, 1)

    def _make_shape(self, link: int, ip_size: int, tcp_size: int) -> _Shape:
        layout = "2xH8x12sI5sB2s4x" if ip_size == _IPV4_HEADER else "4xH2x36sI5sB2s4x"
        fields = Struct(f"!{link}x{layout}{tcp_size - _TCP_HEADER}s")
        shape = _Shape(self._heads[: link + ip_size + tcp_size], fields)
        self._shapes[link, ip_size, tcp_size] = shape
        return shape
