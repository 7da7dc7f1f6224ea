"""A RAW port of a simulated host: TCP segments in and out, as a transport sees the runtime's."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from ltunnel.constants import MAX_ROWS
from ltunnel.plugin import Buffer, Endpoint, PortKind, PortSpec, Route
from ltunnel.testing.datagrams import TCP, Packet, canonical, version_of
from ltunnel.testing.host import Host
from ltunnel.testing.inbox import Inbox
from ltunnel.testing.offload import NEEDS_CHECKSUM, GsoType, VirtioHeader, complete, refusal
from ltunnel.testing.packets import ACK, FIN, PSH
from ltunnel.testing.segments import Fields, Segment, fields_of, from_ip, make_payload, to_ip

ETHERNET_MTU = 1500
HEADROOM = 32
"""Bytes in front of a packet that a port may write over."""

_RECEIVE_ROOM = 65_536
_LARGEST = 65_535
_MERGEABLE = ACK | PSH | FIN


class SimRawPort(Inbox):
    """`ltunnel.plugin.RawPort` for TCP over a simulated host.

    What a transport must not hand over (a wrong checksum, length, offload header or source) is a ValueError. With
    `gro`, `recv` joins waiting segments of one connection as Linux does (``tcp_gro_receive``): consecutive numbers,
    equal sizes (the last may be shorter), equal ack, window and options, nothing after a PSH; at most `gro_limit` of
    them. What does not fit `buffer` bytes is lost. `mtu` is what `route` tells.
    """

    def __init__(
        self, host: Host, spec: PortSpec, *, gro: bool = False, gro_limit: int = MAX_ROWS, buffer: int = 4 << 20,
        mtu: int = ETHERNET_MTU,
    ) -> None:  # fmt: skip
        if spec.kind is not PortKind.RAW or spec.extra.get("protocol", TCP) != TCP:
            raise ValueError(f"not a raw port for TCP: {spec}")
        count = spec.extra.get("numbers", 1)
        if count < 1 or (spec.port and count > 1):
            raise ValueError(f"{count} numbers for port {spec.port}")
        super().__init__(host, buffer)
        self.gro = gro
        self.gro_limit = gro_limit
        self.mtu = mtu
        self.sent = 0
        """Segments that left."""
        self.changes = 0
        self.refused = 0
        """Packets for which there was no way out."""
        self._version = version_of(spec.host)
        self._dual = spec.dual_stack and self._version == 6
        address = canonical(spec.host)
        is_wildcard = address in ("0.0.0.0", "::")  # noqa: S104 (of a simulated host)
        bound = None if is_wildcard and self._dual else address
        self.numbers: Sequence[int] = tuple(host.bind(self, bound, spec.port, TCP) for _ in range(count))
        tail = () if self._version == 4 else (0, 0)
        self.local: Endpoint = (address, self.numbers[0], *tail)
        name = f"{host.name}/raw/{self.numbers}/{host.network.clock.now}"
        self.secret = host.network.random(name).randbytes(32)
        host.watchers.append(self._look_around)

    def route(self, host: str) -> Route | None:
        """Return how packets get to `host`, None without a route."""
        if not self._serves(host):
            return None
        source = self.host.source_for(host)
        if source is None:
            return None
        packed = ip_address(source).packed
        return Route(packed, self.mtu, packed)

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send one packet, cut into segments of `seg` bytes of payload."""
        if not HEADROOM <= start < end <= len(buf):
            raise ValueError(f"not a packet with headroom: start {start}, end {end}, buffer {len(buf)}")
        header = VirtioHeader.unpack(bytes(buf[start : start + VirtioHeader.size]))
        packet = bytes(buf[start + VirtioHeader.size : end])
        buf[start - HEADROOM : start + VirtioHeader.size] = b"\xee" * (HEADROOM + VirtioHeader.size)
        self._check(header, packet, seg)
        segments = [from_ip(piece) for piece in complete(header, packet)]
        first = segments[0]
        if first.source[1] not in self.numbers:
            raise ValueError(f"source port {first.source[1]} is not one of {self.numbers}")
        if to != (first.destination[0],):
            raise ValueError(f"a packet to {first.destination[0]}, and a next hop for {to}")
        if first.source[0] not in self.host.addresses or not self._serves(first.destination[0]):
            self.refused += 1
            return False
        for segment in segments:
            self.host.send(segment.source, segment.destination, segment.payload, TCP, kind=Segment)
        self.sent += len(segments)
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive into ``buf[pos:]``: (start, end, seg, from)."""
        if len(buf) - pos < _RECEIVE_ROOM:
            raise ValueError(f"only {len(buf) - pos} bytes of room at {pos}, a port may need {_RECEIVE_ROOM}")
        if not self._queue:
            raise BlockingIOError
        first = self._take()
        seg = 0
        if self.gro:
            first, seg = self._join(first)
        packet = to_ip(first)
        kind = GsoType.NONE if not seg else GsoType.TCP4 if packet[0] >> 4 == 4 else GsoType.TCP6
        data = VirtioHeader(0, kind, 0, seg, 0, 0).pack() + packet
        end = pos + len(data)
        buf[pos:end] = data
        if len(packet) < 46:  # Ethernet fills up short frames
            buf[end : pos + 56] = bytes(pos + 56 - end)
            end = pos + 56
        return pos, end, seg, (first.source[0],)

    def close(self) -> None:
        """Give the port back; what waits in it is lost."""
        super().close()
        self.host.watchers.remove(self._look_around)

    def _look_around(self) -> None:
        """Wake: the host's addresses have changed."""
        self.changes += 1
        self.host.network.ready[self] = None

    def _serves(self, host: str) -> bool:
        return self._dual or version_of(host) == self._version

    def _check(self, header: VirtioHeader, packet: bytes, seg: int) -> None:
        """Raise ValueError for a packet that no kernel would send as it was meant."""
        why = refusal(header, packet)
        if why is not None:
            raise ValueError(f"refused: {why}")
        start = 20 if packet[0] >> 4 == 4 else 40
        if len(packet) < start + 20 or len(packet) > _LARGEST:
            raise ValueError(f"a packet of {len(packet)} bytes")
        length = start + (packet[start + 12] >> 4) * 4
        if (header.flags, header.csum_start, header.csum_offset) != (NEEDS_CHECKSUM, start, 16):
            raise ValueError(f"the checksum is not left to the port: {header}")
        cut = len(packet) - length > seg
        if cut != (header.gso_type != GsoType.NONE) or (cut and (header.gso_size, header.hdr_len) != (seg, length)):
            raise ValueError(f"{len(packet) - length} bytes in segments of {seg}, and {header}")

    def _join(self, first: Packet) -> tuple[Packet, int]:
        """Join the segments that go with the first one: (what they make, size of a segment, 0 if nothing joined)."""
        head = fields_of(first)
        if head is None or not head.data or not _merges(head):
            return first, 0
        full, last = len(head.data), head
        parts = [head.data]
        room = _LARGEST - 100 - full
        while self._queue and len(parts) < self.gro_limit and not last.flags & (PSH | FIN):
            packet = self._queue[0]
            following = fields_of(packet)
            if following is None or (packet.source, packet.destination) != (first.source, first.destination):
                break
            size = len(following.data)
            alike = (following.ack, following.window, following.options) == (head.ack, head.window, head.options)
            follows = following.seq == (last.seq + len(last.data)) & 0xFFFFFFFF
            if not (alike and follows and _merges(following) and 0 < size <= min(full, room)):
                break
            parts.append(following.data)
            room -= size
            self._take()
            last = following
            if size < full:
                break
        if len(parts) == 1:
            return first, 0
        payload = make_payload(head.seq, head.ack, last.flags, head.window, head.options, b"".join(parts))
        return Segment(first.source, first.destination, payload), full


def _merges(fields: Fields) -> bool:
    return bool(fields.flags & ACK) and not fields.flags & ~_MERGEABLE
