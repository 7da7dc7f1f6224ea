"""TCP segments as they are: packets of the simulated network with TCP's own header, and their way to and from bytes.

Payload of a `Segment`, what follows the two port numbers (RFC 9293, section 3.1): seq 4, ack 4, data offset and flags
2, window 2, checksum 2, urgent pointer 2, options, data. The checksum means nothing on the way: whoever puts a segment
into the network has checked it, and it is made anew for who takes it out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from ltunnel.testing import packets
from ltunnel.testing.datagrams import TCP, Packet, version_of
from ltunnel.testing.packets import FIN, SYN

_HEADER = struct.Struct("!IIBBHHH")
_PORTS = 4
_OFFSET_UNIT = 4


@dataclass(frozen=True, slots=True)
class Segment(Packet):
    """A packet whose payload is a TCP segment without its port numbers."""

    protocol: int = field(default=TCP)

    @property
    def size(self) -> int:
        """Bytes on the wire above the link layer: IP and TCP headers included."""
        return len(self.payload) + _PORTS + (20 if version_of(self.destination[0]) == 4 else 40)


class Fields(NamedTuple):
    """What stands in a segment's header."""

    seq: int
    ack: int
    flags: int
    window: int
    options: bytes
    data: bytes

    @property
    def length(self) -> int:
        """Sequence numbers that it takes up: data, SYN and FIN."""
        return len(self.data) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def option(self, kind: int) -> bytes | None:
        """Return the value of a TCP option, None when it is not there (RFC 9293, section 3.2)."""
        at, options = 0, self.options
        while at < len(options) and options[at]:
            if options[at] == 1:
                at += 1
                continue
            length = options[at + 1] if at + 1 < len(options) else 0
            if length < 2 or at + length > len(options):
                return None
            if options[at] == kind:
                return options[at + 2 : at + length]
            at += length
        return None


def fields_of(packet: Packet) -> Fields | None:
    """Read the header of a segment; None when there is none, or its lengths are wrong."""
    payload = packet.payload
    if len(payload) < _HEADER.size:
        return None
    seq, ack, offset, flags, window, _, _ = _HEADER.unpack_from(payload)
    data = (offset >> 4) * _OFFSET_UNIT - _PORTS
    if not _HEADER.size <= data <= len(payload):
        return None
    return Fields(seq, ack, flags, window, payload[_HEADER.size : data], payload[data:])


def make_payload(
    seq: int, ack: int, flags: int, window: int = 65_535, options: bytes = b"", data: bytes = b""
) -> bytes:
    """Return the payload of a `Segment`. `options` are padded to a multiple of four."""
    options += bytes(-len(options) % _OFFSET_UNIT)
    offset = (_PORTS + _HEADER.size + len(options)) // _OFFSET_UNIT << 4
    return _HEADER.pack(seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, offset, flags, window, 0, 0) + options + data


def from_ip(packet: bytes) -> Segment:
    """Make a segment of a TCP packet. ValueError when a length or checksum is wrong."""
    parsed = packets.parse(packet)
    if parsed.protocol != TCP:
        raise ValueError(f"protocol {parsed.protocol} is not TCP")
    start = 20 if parsed.version == 4 else 40
    payload = packet[start + _PORTS :]
    return Segment((parsed.source, parsed.sport), (parsed.destination, parsed.dport), payload)


def to_ip(packet: Packet) -> bytes:
    """Make an IP packet of a segment, or of what somebody sent as one; with the right checksum where it has a place."""
    (source, sport), (destination, dport) = packet.source, packet.destination
    segment = struct.pack("!HH", sport, dport) + packet.payload
    if len(segment) >= 18:
        addresses = ip_address(source).packed + ip_address(destination).packed
        pseudo = packets.ones_sum(addresses + struct.pack("!IHH", len(segment), 0, TCP))
        segment = segment[:16] + b"\0\0" + segment[18:]
        segment = segment[:16] + packets.checksum(segment, pseudo).to_bytes(2, "big") + segment[18:]
    return packets.ip(source, destination, TCP, segment)
