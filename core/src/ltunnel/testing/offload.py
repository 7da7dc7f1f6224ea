"""Segmentation offload as the kernel does it, in the plainest way: the measure for the data path's fast one.

Follows Linux: ``tcp_gso_segment`` (net/ipv4/tcp_offload.c), ``__udp_gso_segment`` (net/ipv4/udp_offload.c) and
``virtio_net_hdr_to_skb`` (include/linux/virtio_net.h).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar

from ltunnel.testing.packets import CWR, FIN, PSH, TCP, UDP, checksum, ones_sum

_LAYOUT = struct.Struct("<BBHHHH")
NEEDS_CHECKSUM = 1
"""Flag of a virtio-net header: the checksum field holds the pseudo-header's sum only."""


_ECN = 0x80  # may be set on the TCP kinds


class GsoType(IntEnum):
    """Kinds of super-packet (virtio specification 1.2, section 5.1.6)."""

    NONE = 0
    TCP4 = 1
    TCP6 = 4
    UDP_L4 = 5


@dataclass(frozen=True, slots=True)
class VirtioHeader:
    """The 10 bytes in front of a packet on a TUN device with IFF_VNET_HDR."""

    size: ClassVar[int] = _LAYOUT.size
    flags: int = 0
    gso_type: int = 0
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0

    def pack(self) -> bytes:
        """Return the 10 bytes, little-endian."""
        return _LAYOUT.pack(self.flags, self.gso_type, self.hdr_len, self.gso_size, self.csum_start, self.csum_offset)

    @classmethod
    def unpack(cls, data: bytes) -> VirtioHeader:
        """Read the first 10 bytes of `data`."""
        return cls(*_LAYOUT.unpack_from(data))


def _transport(packet: bytes) -> tuple[int, int, int]:
    """Return (IP version, where the transport header starts, its protocol)."""
    if packet[0] >> 4 == 4:
        return 4, (packet[0] & 15) * 4, packet[9]
    return 6, 40, packet[6]


def _checksum_at(protocol: int) -> int:
    return 16 if protocol == TCP else 6


def _header_length(packet: bytes, start: int, protocol: int) -> int:
    return start + (8 if protocol == UDP else (packet[start + 12] >> 4) * 4)


def _pseudo_sum(packet: bytes, protocol: int, length: int) -> int:
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return ones_sum(addresses + struct.pack("!IHH", length, 0, protocol))


def offload(packet: bytes, gso_size: int | None = None) -> tuple[VirtioHeader, bytes]:
    """Make of a whole TCP or UDP packet what a kernel hands over: the checksum partial.

    With `gso_size`, and a payload larger than that, it is a super-packet. Other protocols stay as they are.
    """
    version, start, protocol = _transport(packet)
    if protocol not in (TCP, UDP):
        return VirtioHeader(), packet
    at = start + _checksum_at(protocol)
    partial = _pseudo_sum(packet, protocol, len(packet) - start)
    out = packet[:at] + partial.to_bytes(2, "big") + packet[at + 2 :]
    header_length = _header_length(packet, start, protocol)
    if gso_size is None or len(packet) - header_length <= gso_size:
        return VirtioHeader(NEEDS_CHECKSUM, 0, 0, 0, start, at - start), out
    kind = GsoType.UDP_L4 if protocol == UDP else GsoType.TCP4 if version == 4 else GsoType.TCP6
    return VirtioHeader(NEEDS_CHECKSUM, kind, header_length, gso_size, start, at - start), out


def refusal(header: VirtioHeader, packet: bytes) -> str | None:
    """Return why a TUN device would refuse such a write, or None."""
    if not packet or packet[0] >> 4 not in (4, 6):
        return "not an IP packet"
    if header.flags & ~NEEDS_CHECKSUM:
        return f"flags {header.flags:#x}"
    if header.hdr_len > len(packet):
        return f"hdr_len {header.hdr_len} beyond the packet"
    checked = header.flags & NEEDS_CHECKSUM
    if checked and header.csum_start + header.csum_offset + 2 > len(packet):
        return "checksum field beyond the packet"
    if header.gso_type == GsoType.NONE:
        return None
    version, start, protocol = _transport(packet)
    expected: dict[int, tuple[int, int]] = {
        GsoType.TCP4: (4, TCP),
        GsoType.TCP6: (6, TCP),
        GsoType.UDP_L4: (version, UDP),
    }
    if expected.get(header.gso_type & ~_ECN) != (version, protocol):
        return f"gso_type {header.gso_type} on protocol {protocol} in IPv{version}"
    if header.gso_size == 0 or not checked:
        return "super-packet without gso_size or partial checksum"
    if header.csum_start != start or header.csum_offset != _checksum_at(protocol):
        return "super-packet with its checksum elsewhere"
    return None


def complete(header: VirtioHeader, packet: bytes) -> list[bytes]:
    """Cut a super-packet and finish checksums: plain packets as they would leave on a wire.

    A wrong partial checksum in gives wrong checksums out, as with a kernel; `ltunnel.testing.packets.parse` finds them.
    """
    version, start, protocol = _transport(packet)
    if not header.flags & NEEDS_CHECKSUM:
        return [packet]
    if header.gso_type == GsoType.NONE:
        return [_finish(packet, header.csum_start, header.csum_start + header.csum_offset, protocol)]
    length = _header_length(packet, start, protocol)
    head, payload = packet[:length], packet[length:]
    at = start + header.csum_offset
    field = int.from_bytes(head[at : at + 2], "big")
    pieces = [payload[i : i + header.gso_size] for i in range(0, len(payload), header.gso_size)] or [b""]
    out = []
    for index, piece in enumerate(pieces):
        segment = bytearray(head)
        size = length + len(piece)
        # swap the length in the partial checksum: add the new one, subtract the old
        new = ones_sum((size - start).to_bytes(2, "big"), field + (~(len(packet) - start) & 0xFFFF))
        segment[at : at + 2] = new.to_bytes(2, "big")
        if version == 4:
            ident = int.from_bytes(head[4:6], "big") + index
            segment[2:6] = struct.pack("!HH", size, ident & 0xFFFF)
            segment[10:12] = b"\0\0"
            segment[10:12] = checksum(bytes(segment[:start])).to_bytes(2, "big")
        else:
            segment[4:6] = (size - 40).to_bytes(2, "big")
        if protocol == UDP:
            segment[start + 4 : start + 6] = (size - start).to_bytes(2, "big")
        else:
            seq = int.from_bytes(head[start + 4 : start + 8], "big") + index * header.gso_size
            segment[start + 4 : start + 8] = (seq & 0xFFFFFFFF).to_bytes(4, "big")
            if index:
                segment[start + 13] &= ~CWR
            if index < len(pieces) - 1:
                segment[start + 13] &= ~(FIN | PSH)
        out.append(_finish(bytes(segment) + piece, start, at, protocol))
    return out


def _finish(packet: bytes, start: int, at: int, protocol: int) -> bytes:
    total = checksum(packet[start:])
    if total == 0 and protocol == UDP:
        total = 0xFFFF
    return packet[:at] + total.to_bytes(2, "big") + packet[at + 2 :]
