"""In software what a TUN device without offloads cannot do: complete checksums and cut super-packets.

Only for kernels whose TUN lacks IFF_VNET_HDR or TUNSETOFFLOAD; everywhere else the kernel does this work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import pack

from ltunnel.data.inet import IPV6_HEADER, TCP, UDP, complete_checksum, pseudo_header_sum, seal_ipv4
from ltunnel.data.virtio import GSO_ECN, GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VNET, VNET_SIZE
from ltunnel.plugin import Buffer

_FIN_PSH = 0x09
_CWR = 0x80


def complete(parts: Sequence[Buffer | bytes | bytearray]) -> Iterator[bytearray]:
    """Turn one packet as `TunPort.write` gets it into packets that need no offload, without virtio-net headers."""
    whole = bytearray().join(parts)
    flags, gso, _, gso_size, csum_start, csum_offset = VNET.unpack_from(whole)
    packet = whole[VNET_SIZE:]
    if gso & ~GSO_ECN == GSO_NONE or not gso_size:
        if flags & NEEDS_CSUM:
            complete_checksum(packet, csum_start, csum_offset)
        yield packet
        return
    udp = gso == GSO_UDP_L4
    header_length = csum_start + (8 if udp else (packet[csum_start + 12] >> 4) * 4)
    payload = memoryview(packet)[header_length:]
    last = (len(payload) - 1) // gso_size
    for index in range(last + 1):
        piece = payload[index * gso_size : (index + 1) * gso_size]
        segment = packet[:header_length]
        _number(segment, csum_start, index, index * gso_size, final=index == last, udp=udp)
        segment += piece
        _set_lengths(segment, csum_start, udp=udp)
        complete_checksum(segment, csum_start, csum_offset)
        yield segment


def _number(header: bytearray, l4: int, index: int, offset: int, *, final: bool, udp: bool) -> None:
    """Make a copied header that of segment `index`: IP identification, sequence number, flags."""
    if header[0] >> 4 == 4:
        identification = (header[4] << 8 | header[5]) + index
        header[4:6] = pack(">H", identification & 0xFFFF)
    if udp:
        return
    sequence = int.from_bytes(header[l4 + 4 : l4 + 8], "big") + offset
    header[l4 + 4 : l4 + 8] = pack(">I", sequence & 0xFFFFFFFF)
    if index:
        header[l4 + 13] &= ~_CWR
    if not final:
        header[l4 + 13] &= ~_FIN_PSH


def _set_lengths(segment: bytearray, l4: int, *, udp: bool) -> None:
    """Write lengths and the pseudo-header sum for the segment as it now stands."""
    length = len(segment)
    if segment[0] >> 4 == 4:
        segment[2:4] = pack(">H", length)
        seal_ipv4(segment)
        source, destination = bytes(segment[12:16]), bytes(segment[16:20])
    else:
        segment[4:6] = pack(">H", length - IPV6_HEADER)
        source, destination = bytes(segment[8:24]), bytes(segment[24:40])
    if udp:
        segment[l4 + 4 : l4 + 6] = pack(">H", length - l4)
    field = l4 + (6 if udp else 16)
    total = pseudo_header_sum(source, destination, UDP if udp else TCP, length - l4)
    segment[field : field + 2] = pack(">H", total)
