"""Packets that go no further: ICMP errors for those who sent them, fragments for those that may be cut.

Errors are limited in rate (RFC 1812 4.3.2.8): a flood of packets to nowhere must not become a flood of errors.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.data import inet
from ltunnel.data.local import Local, destination, source
from ltunnel.data.virtio import NEEDS_CSUM, NO_OFFLOAD, VNET, VNET_SIZE
from ltunnel.session import Drop, Peer, Stats

ERRORS_PER_SECOND = 50.0
BURST = 50.0


class Refusals:
    """Makes ICMP errors from this machine's addresses and keeps them until they are taken."""

    def __init__(self, local: Local, stats: Stats) -> None:
        self._local = local
        self._stats = stats
        self.waiting: list[bytes] = []
        """Errors that were made and not taken yet."""
        self._tokens = BURST
        self._filled = 0.0

    def take(self) -> list[bytes]:
        """Hand over the errors made since the last call."""
        replies, self.waiting = self.waiting, []
        return replies

    def no_route(self, packet: bytes, now: float) -> None:
        """Count a packet (from its IP header on) that no peer owns the destination of, and tell its sender."""
        self._stats.drop(Drop.NO_ROUTE)
        reporter = self._source(packet)
        if reporter is not None and self._allowed(now):
            self._reply(inet.unreachable(packet, reporter))

    def packet_too_big(self, packet: bytes, mtu: int, now: float) -> None:
        """Tell the sender of a packet that only `mtu` bytes get through."""
        reporter = self._source(packet)
        if reporter is not None and self._allowed(now):
            self._reply(inet.too_big(packet, mtu, reporter))

    def too_big(self, packet: bytearray, peer: Peer, now: float) -> Sequence[bytes]:
        """Refuse a packet (virtio-net header first) that exceeds the peer's MTU, or return the fragments to send."""
        flags, _, _, _, csum_start, csum_offset = VNET.unpack_from(packet)
        inner = packet[VNET_SIZE:]
        if not inet.may_fragment(inner):
            peer.stats.drop(Drop.TOO_BIG)
            self.packet_too_big(bytes(inner), peer.mtu, now)
            return ()
        if flags & NEEDS_CSUM:
            inet.complete_checksum(inner, csum_start, csum_offset)
        return [NO_OFFLOAD + piece for piece in inet.fragments(bytes(inner), peer.mtu)]

    def _source(self, packet: bytes) -> bytes | None:
        """Choose who reports an error: this machine; but its own kernel takes nothing from itself, nor passes it on."""
        if self._local.takes(source(packet, 0)):
            return destination(packet, 0)
        return self._local.source(packet[0] >> 4)

    def _allowed(self, now: float) -> bool:
        self._tokens = min(BURST, self._tokens + (now - self._filled) * ERRORS_PER_SECOND)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _reply(self, packet: bytes | None) -> None:
        if packet is not None:
            self.waiting.append(packet)
