"""IP, TCP and UDP headers: checksums (RFC 1071, 1624), MSS clamping, ICMP errors, IPv4 fragments.

Functions work on packets that start with the IP header; offsets are from there unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct, pack, unpack_from

import numpy as np

TCP = 6
UDP = 17
ICMP = 1
ICMPV6 = 58
IPV4_HEADER = 20
IPV6_HEADER = 40

SYN = 0x02
_TCP_NOP = 1
_TCP_MSS = 2
_H = Struct(">H")
_ICMP_ERROR_SIZE = {4: 548, 6: 1232}  # what of the packet is quoted: RFC 1812 4.3.2.3, RFC 4443 2.4


def fold(total: int) -> int:
    """Fold a sum of 16-bit words to 16 bits with end-around carry."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def word_sum(data: bytes | bytearray | memoryview) -> int:
    """Sum the big-endian 16-bit words of `data`, an odd last byte padded with zero; unfolded."""
    even = len(data) & ~1
    total = int(np.frombuffer(data, ">u2", count=even // 2).sum(dtype=np.uint64)) if even else 0
    return total + (data[even] << 8) if len(data) & 1 else total


def checksum(data: bytes | bytearray | memoryview, start: int = 0) -> int:
    """Return the Internet checksum of `data`, with `start` added to the sum."""
    return ~fold(word_sum(data) + start) & 0xFFFF


def pseudo_header_sum(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    """Sum of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1), folded to 16 bits."""
    return fold(word_sum(source + destination) + protocol + length)


def seal_ipv4(header: bytearray | memoryview) -> None:
    """Set the header checksum of an IPv4 header in place."""
    header[10:12] = b"\0\0"
    size = (header[0] & 15) * 4
    words = unpack_from(f">{size // 2}H", header)
    header[10:12] = _H.pack(~fold(sum(words)) & 0xFFFF)


def replace_word(csum: int, old: int, new: int) -> int:
    """Update a complete checksum for a 16-bit word that changed (RFC 1624, equation 3)."""
    return ~fold((~csum & 0xFFFF) + (~old & 0xFFFF) + new) & 0xFFFF


def packet_length(packet: bytearray | memoryview, at: int, end: int) -> int:
    """Length that the IP header at `at` claims; 0 when it is no IP packet or does not fit before `end`."""
    room = end - at
    if room < IPV4_HEADER:
        return 0
    version = packet[at] >> 4
    if version == 4:
        length = packet[at + 2] << 8 | packet[at + 3]
        return length if IPV4_HEADER <= length <= room else 0
    if version == 6 and room >= IPV6_HEADER:
        length = IPV6_HEADER + (packet[at + 4] << 8 | packet[at + 5])
        return length if length <= room else 0
    return 0


def clamp_mss(packet: bytearray, at: int, end: int, mtu: int, *, partial: bool) -> None:
    """Lower the MSS option of a TCP SYN at ``packet[at:end]`` so that segments fit `mtu`; other packets stay.

    `partial`: the checksum field holds only the pseudo-header's sum, which an option does not change.
    """
    if packet[at] >> 4 == 4:
        if packet[at + 9] != TCP or packet[at + 6] & 0x1F or packet[at + 7]:
            return
        tcp = at + (packet[at] & 15) * 4
        limit = mtu - 40
    else:
        if packet[at + 6] != TCP:
            return
        tcp = at + IPV6_HEADER
        limit = mtu - 60
    if end - tcp < 20 or not packet[tcp + 13] & SYN:
        return
    option, stop = tcp + 20, min(end, tcp + (packet[tcp + 12] >> 4) * 4)
    while option < stop:
        kind = packet[option]
        if kind == 0:
            return
        if kind == _TCP_NOP:
            option += 1
            continue
        if option + 2 > stop or packet[option + 1] < 2:
            return
        if kind == _TCP_MSS and packet[option + 1] == 4 and option + 4 <= stop:
            old = packet[option + 2] << 8 | packet[option + 3]
            if old > limit:
                _rewrite(packet, tcp, option + 2, limit, partial=partial)
            return
        option += packet[option + 1]


def _rewrite(packet: bytearray, tcp: int, at: int, value: int, *, partial: bool) -> None:
    """Replace the 16-bit option value at `at`; it may stand at an odd offset, where its bytes count swapped."""
    old = packet[at] << 8 | packet[at + 1]
    packet[at : at + 2] = _H.pack(value)
    if partial:
        return
    if (at - tcp) & 1:
        old, value = (old & 0xFF) << 8 | old >> 8, (value & 0xFF) << 8 | value >> 8
    csum = _H.unpack_from(packet, tcp + 16)[0]
    packet[tcp + 16 : tcp + 18] = _H.pack(replace_word(csum, old, value))


def complete_checksum(packet: bytearray, csum_start: int, csum_offset: int) -> None:
    """Finish a partial checksum in place, as the kernel does for NEEDS_CSUM."""
    field = csum_start + csum_offset
    total = checksum(memoryview(packet)[csum_start:])
    if total == 0 and csum_offset == 6:
        total = 0xFFFF  # RFC 768: zero means that there is no checksum
    packet[field : field + 2] = _H.pack(total)


def too_big(packet: bytes, mtu: int, source: bytes) -> bytes | None:
    """Answer a packet that does not fit: "fragmentation needed" or ICMPv6 "packet too big" (RFC 1191, 8201)."""
    if packet[0] >> 4 == 4:
        return _icmp_error(packet, source, 3, 4, mtu)
    return _icmp_error(packet, source, 2, 0, mtu)


def unreachable(packet: bytes, source: bytes) -> bytes | None:
    """Answer a packet to an address that nobody has with ICMP "host unreachable" or its ICMPv6 twin."""
    if packet[0] >> 4 == 4:
        return _icmp_error(packet, source, 3, 1, 0)
    return _icmp_error(packet, source, 1, 3, 0)


def _icmp_error(packet: bytes, source: bytes, kind: int, code: int, value: int) -> bytes | None:
    """Build an ICMP error from `source` (packed) about `packet`; None where RFC 1122 3.2.2 forbids one."""
    version = packet[0] >> 4
    if len(source) != (4 if version == 4 else 16) or not _may_be_answered(packet):
        return None
    quoted = packet[: _ICMP_ERROR_SIZE[version]]
    body = pack(">BBHI", kind, code, 0, value) + quoted
    if version == 4:
        destination = packet[12:16]
        icmp = body[:2] + _H.pack(checksum(body)) + body[4:]
        header = bytearray(pack(">BBHHHBBH", 0x45, 0xC0, IPV4_HEADER + len(icmp), 0, 0, 64, ICMP, 0))
        header += source + destination
        seal_ipv4(header)
        return bytes(header) + icmp
    destination = packet[8:24]
    csum = checksum(body, pseudo_header_sum(source, destination, ICMPV6, len(body)))
    icmp = body[:2] + _H.pack(csum) + body[4:]
    return pack(">IHBB", 6 << 28, len(icmp), ICMPV6, 64) + source + destination + icmp


def _may_be_answered(packet: bytes) -> bool:
    """No ICMP error about an ICMP error, a later fragment, a multicast or an unspecified source."""
    if packet[0] >> 4 == 4:
        if len(packet) < IPV4_HEADER or packet[6] & 0x1F or packet[7] or packet[16] >= 224 or packet[12] in (0, 127):
            return False
        l4 = (packet[0] & 15) * 4
        return packet[9] != ICMP or (len(packet) > l4 and packet[l4] in (0, 8))
    if len(packet) < IPV6_HEADER or packet[24] == 0xFF or packet[8] == 0xFF or not any(packet[8:24]):
        return False
    return packet[6] != ICMPV6 or (len(packet) > IPV6_HEADER and packet[40] >= 128)


def may_fragment(packet: bytes | bytearray | memoryview) -> bool:
    """Whether it is IPv4 without the "don't fragment" bit."""
    return packet[0] >> 4 == 4 and not packet[6] & 0x40


def fragments(packet: bytes, mtu: int) -> Iterator[bytes]:
    """Cut an IPv4 packet into fragments that fit `mtu` (RFC 791); its checksums must be complete."""
    size = (packet[0] & 15) * 4
    step = (mtu - size) & ~7
    flags = packet[6] << 8 | packet[7]
    first, more_after = flags & 0x1FFF, flags & 0x2000
    for at in range(size, len(packet), step):
        piece = packet[at : at + step]
        more = more_after if at + step >= len(packet) else 0x2000
        header = bytearray(packet[:size])
        header[2:4] = _H.pack(size + len(piece))
        header[6:8] = _H.pack(more | first + (at - size) // 8)
        seal_ipv4(header)
        yield bytes(header) + piece
