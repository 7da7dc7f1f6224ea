"""Inner packets: builders, and a parser that checks every length and checksum.

Builders make whole packets with right checksums; a TCP or UDP packet may be larger than any MTU. `offload` turns such a
packet into what a kernel with segmentation offload hands to a TUN device (a super-packet with a virtio-net header and a
partial checksum), and `complete` does to it what a kernel or a card would: cut it and finish its checksums.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import ip_address

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
"""TCP flags."""

_CHECKSUM_AT = {TCP: 16, UDP: 6}
_LARGEST = 65_535


def ones_sum(data: bytes, start: int = 0) -> int:
    """Return the 16-bit ones' complement sum of `data` on top of `start` (RFC 1071), not inverted."""
    if len(data) % 2:
        data += b"\0"
    total: int = start + sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes, start: int = 0) -> int:
    """Return the Internet checksum (RFC 1071)."""
    return ~ones_sum(data, start) & 0xFFFF


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _pseudo(source: bytes, destination: bytes, protocol: int, length: int) -> int:
    return ones_sum(source + destination + struct.pack("!IHH", length, 0, protocol))


def ip(
    source: str, destination: str, protocol: int, payload: bytes, *, ident: int = 0, ttl: int = 64, tos: int = 0,
    dont_fragment: bool = True,
) -> bytes:  # fmt: skip
    """Build an IPv4 or IPv6 packet, as the addresses say. `ident` and `dont_fragment` are IPv4's."""
    packed_source, packed_destination = _packed(source), _packed(destination)
    if len(packed_source) != len(packed_destination):
        raise ValueError(f"{source} and {destination} are not of one family")
    if 20 + len(payload) > _LARGEST:
        raise ValueError(f"{len(payload)} bytes do not fit an IP packet")
    if len(packed_source) == 16:
        first = 6 << 28 | tos << 20
        header = struct.pack("!IHBB", first, len(payload), protocol, ttl) + packed_source + packed_destination
        return header + payload
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, tos, 20 + len(payload), ident, dont_fragment << 14, ttl, protocol, 0,
        packed_source, packed_destination,
    )  # fmt: skip
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload


def udp(source: str, destination: str, sport: int, dport: int, payload: bytes, *, ident: int = 0) -> bytes:
    """Build a UDP packet with its IP header."""
    if 28 + len(payload) > _LARGEST:
        raise ValueError(f"{len(payload)} bytes do not fit a UDP packet")
    return _with_checksum(source, destination, UDP, struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload,
                          ident)  # fmt: skip


def tcp(
    source: str, destination: str, sport: int, dport: int, payload: bytes = b"", *, seq: int = 0, ack: int = 0,
    flags: int = ACK, window: int = 65_535, options: bytes = b"", ident: int = 0,
) -> bytes:  # fmt: skip
    """Build a TCP packet with its IP header. `options` are padded to a multiple of four."""
    options += b"\0" * (-len(options) % 4)
    header = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, (20 + len(options)) << 2, flags, window, 0, 0)
    return _with_checksum(source, destination, TCP, header + options + payload, ident)


def mss_option(mss: int) -> bytes:
    """Build the TCP option of a SYN that names the largest segment (RFC 9293, section 3.2)."""
    return struct.pack("!BBH", 2, 4, mss)


def echo(
    source: str, destination: str, ident: int, sequence: int, payload: bytes = b"", *, reply: bool = False
) -> bytes:
    """Build an ICMP or ICMPv6 echo request or reply (RFC 792, RFC 4443)."""
    version = ip_address(source).version
    kind = {(4, False): 8, (4, True): 0, (6, False): 128, (6, True): 129}[version, reply]
    message = struct.pack("!BBHHH", kind, 0, 0, ident, sequence) + payload
    start = 0 if version == 4 else _pseudo(_packed(source), _packed(destination), ICMPV6, len(message))
    message = message[:2] + checksum(message, start).to_bytes(2, "big") + message[4:]
    return ip(source, destination, ICMP if version == 4 else ICMPV6, message)


def _with_checksum(source: str, destination: str, protocol: int, segment: bytes, ident: int) -> bytes:
    at = _CHECKSUM_AT[protocol]
    total = checksum(segment, _pseudo(_packed(source), _packed(destination), protocol, len(segment)))
    if protocol == UDP and total == 0:
        total = 0xFFFF
    return ip(source, destination, protocol, segment[:at] + total.to_bytes(2, "big") + segment[at + 2 :], ident=ident)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A packet taken apart. Fields that the protocol does not have are 0."""

    version: int
    source: str
    destination: str
    protocol: int
    ttl: int
    ident: int = 0
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    options: bytes = b""
    icmp_type: int = 0
    echo_ident: int = 0
    echo_sequence: int = 0
    header_length: int = 0
    """Bytes in front of the payload: IP and transport header."""
    payload: bytes = b""

    @property
    def is_echo_request(self) -> bool:
        """Whether it asks for an echo."""
        return (self.protocol, self.icmp_type) in ((ICMP, 8), (ICMPV6, 128))

    @property
    def is_echo_reply(self) -> bool:
        """Whether it answers an echo request."""
        return (self.protocol, self.icmp_type) in ((ICMP, 0), (ICMPV6, 129))


def parse(packet: bytes) -> Parsed:
    """Take a packet apart. ValueError when a length or checksum is wrong.

    IPv6 extension headers and IPv4 fragments are not looked into: their payload is what follows the IP header.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        length, ident, fragment, ttl, protocol = struct.unpack_from("!HHHBB", packet, 2)
        at = (packet[0] & 15) * 4
        source, destination = packet[12:16], packet[16:20]
        _require(at >= 20 and length == len(packet), f"IPv4 length {length} in a packet of {len(packet)} bytes")
        _require(ones_sum(packet[:at]) == 0xFFFF, "IPv4 header checksum")
    elif version == 6 and len(packet) >= 40:
        length, protocol, ttl = struct.unpack_from("!HBB", packet, 4)
        ident = fragment = 0
        at = 40
        source, destination = packet[8:24], packet[24:40]
        _require(length + 40 == len(packet), f"IPv6 length {length} in a packet of {len(packet)} bytes")
    else:
        raise ValueError(f"not an IP packet: {packet[:20].hex()}")
    body = packet[at:]
    fields: dict[str, int] = {}
    options, header = b"", 0
    if not fragment & 0x3FFF and protocol in (TCP, UDP, ICMP, ICMPV6):
        header = 20 if protocol == TCP else 8
        _require(len(body) >= header, f"{len(body)} bytes of protocol {protocol}")
        start = 0 if protocol == ICMP else _pseudo(source, destination, protocol, len(body))
        unchecked = protocol == UDP and version == 4 and body[6:8] == b"\0\0"
        _require(unchecked or ones_sum(body, start) == 0xFFFF, f"checksum of protocol {protocol}")
        if protocol == TCP:
            sport, dport, seq, ack, offset, flags, window = struct.unpack_from("!HHIIBBH", body)
            header = (offset >> 4) * 4
            _require(20 <= header <= len(body), f"TCP data offset {header}")
            fields = {"sport": sport, "dport": dport, "seq": seq, "ack": ack, "flags": flags, "window": window}
            options = body[20:header]
        elif protocol == UDP:
            sport, dport, udp_length = struct.unpack_from("!HHH", body)
            _require(udp_length == len(body), f"UDP length {udp_length} in {len(body)} bytes")
            fields = {"sport": sport, "dport": dport}
        else:
            echo_ident, echo_sequence = struct.unpack_from("!HH", body, 4)
            fields = {"icmp_type": body[0], "echo_ident": echo_ident, "echo_sequence": echo_sequence}
    return Parsed(
        version=version, source=str(ip_address(source)), destination=str(ip_address(destination)), protocol=protocol,
        ttl=ttl, ident=ident, options=options, header_length=at + header, payload=body[header:], **fields,
    )  # fmt: skip


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(f"packet is wrong: {what}")
