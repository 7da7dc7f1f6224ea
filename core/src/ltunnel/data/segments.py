"""A run of opened rows, joined: checks of what a peer claims about it, and the header that fits what has arrived.

After opening, a run of rows is ``payload ... payload | header | trailer``. The header is that of the whole
super-packet; where only part of it arrived, lengths, sequence number, identification and flags are brought in line
with that part.
Nothing here trusts a peer: whatever does not add up is refused, since the kernel gets the result.
"""

from __future__ import annotations

from struct import Struct, pack
from typing import NamedTuple

from ltunnel.constants import ROW_TRAILER
from ltunnel.data.inet import IPV4_HEADER, IPV6_HEADER, TCP, UDP, fold, seal_ipv4
from ltunnel.data.virtio import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_SIZE
from ltunnel.wire.types import FrameType

_TRAILER = Struct("<BBBBHBB")
_H = Struct(">H")
_FIN_PSH = 0x09
_CWR = 0x80


class Trailer(NamedTuple):
    """What stands at the end of a row."""

    gso: int
    header_length: int
    csum_start: int
    rows: int
    seg: int
    place: int
    frame_type: int


def read_trailer(data: bytearray, end: int) -> Trailer | None:
    """Read the trailer of the row that ends at ``data[end]``; None when its fields contradict each other."""
    trailer = Trailer._make(_TRAILER.unpack_from(data, end - ROW_TRAILER))
    if trailer.place >= trailer.rows or not trailer.seg or trailer.csum_start >= trailer.header_length:
        return None
    return trailer


def read_super(data: bytearray, end: int) -> tuple[bytearray, Trailer | None]:
    """Read a super-packet's virtio-net header and packet, ``data[:end]``, as header and the trailer of its only row.

    None when the headers do not fit in.
    """
    if end < VNET_SIZE + IPV4_HEADER + 8:
        return bytearray(), None
    _, gso, _, seg, l4, _ = VNET.unpack_from(data)
    at = VNET_SIZE + l4 + 12  # where TCP says how long its header is
    length = l4 + 8 if gso == GSO_UDP_L4 else l4 + (data[at] >> 4) * 4 if at < end else 0
    if not seg or not 0 < length <= end - VNET_SIZE:
        return bytearray(), None
    header = data[VNET_SIZE : VNET_SIZE + length]
    return header, Trailer(gso, length, l4, 1, seg, 0, FrameType.SUPER)


def virtio_of(trailer: Trailer) -> tuple[int, ...]:
    """Return the fields of the virtio-net header of a whole super-packet."""
    udp = trailer.gso == GSO_UDP_L4
    return (NEEDS_CSUM, trailer.gso, trailer.header_length, trailer.seg, trailer.csum_start, 6 if udp else 16)


def sane(header: bytearray, trailer: Trailer) -> bool:
    """Whether header and trailer describe one TCP or UDP packet whose headers end where they say."""
    kind, l4, length = trailer.gso & ~GSO_ECN, trailer.csum_start, trailer.header_length
    if header[0] >> 4 == 4:
        if (header[0] & 15) * 4 != l4 or l4 < 20 or header[6] & 0x3F or header[7]:
            return False
        protocol = header[9]
        if kind not in (GSO_TCPV4, GSO_UDP_L4):
            return False
    elif header[0] >> 4 == 6 and l4 >= IPV6_HEADER and kind in (GSO_TCPV6, GSO_UDP_L4):
        protocol = header[6]
        if l4 != IPV6_HEADER:  # the kernel parses extension headers itself; TCP behind them is rare: not joined by us
            return False
    else:
        return False
    if kind == GSO_UDP_L4:
        return protocol == UDP and length == l4 + 8 and not trailer.gso & GSO_ECN
    return protocol == TCP and length >= l4 + 20 and (header[l4 + 12] >> 4) * 4 == length - l4


def fit(header: bytearray, trailer: Trailer, first: int, last: int, payload: int) -> bytes:
    """Make `header` that of rows `first` .. `last` with `payload` bytes and return their virtio-net header."""
    gso, header_length, l4, count, seg, _, _ = trailer
    length = header_length + payload
    version4 = header[0] >> 4 == 4
    old = header[2] << 8 | header[3] if version4 else IPV6_HEADER + (header[4] << 8 | header[5])
    udp = gso == GSO_UDP_L4
    if old != length or first:
        if version4:
            header[2:4] = _H.pack(length)
            header[4:6] = _H.pack((header[4] << 8 | header[5]) + first & 0xFFFF)
            seal_ipv4(header)
        else:
            header[4:6] = _H.pack(length - IPV6_HEADER)
        field = l4 + (6 if udp else 16)  # the pseudo-header's sum, which holds the length
        csum = header[field] << 8 | header[field + 1]
        header[field : field + 2] = _H.pack(fold(csum + (~old & 0xFFFF) + length))
        if udp:
            header[l4 + 4 : l4 + 6] = _H.pack(length - l4)
        else:
            sequence = int.from_bytes(header[l4 + 4 : l4 + 8], "big") + first * seg
            header[l4 + 4 : l4 + 8] = pack(">I", sequence & 0xFFFFFFFF)
            if first:
                header[l4 + 13] &= ~_CWR
            if last != count - 1:
                header[l4 + 13] &= ~_FIN_PSH
    if payload > seg:
        return VNET.pack(*virtio_of(trailer))
    return VNET.pack(NEEDS_CSUM, 0, 0, 0, l4, 6 if udp else 16)
