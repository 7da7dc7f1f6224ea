"""Opened packets to where they belong: the TUN device, or nowhere.

Cryptokey routing: the inner source must be an address of the peer whose key opened the packet. The inner destination
must be an own tunnel address, or lie in a network that this machine offers: a kernel that forwards, as that of every
gateway and of every host of containers does, would pass anything else on to wherever it has a route. Nodes send each
other nothing that a hub could read: what comes to a hub for another address of the tunnel is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.constants import BUNDLE_ENTRY
from ltunnel.data.grid import Arena
from ltunnel.data.inet import packet_length
from ltunnel.data.local import Local, ends
from ltunnel.data.outbound import Outbound
from ltunnel.data.plain import complete
from ltunnel.data.refuse import Refusals
from ltunnel.data.segments import Trailer, fit, read_super, sane, virtio_of
from ltunnel.data.udp_runs import find_run
from ltunnel.data.virtio import GSO_UDP_L4, NEEDS_CSUM, NO_OFFLOAD, VNET, VNET_SIZE, TunPort
from ltunnel.plugin import Buffer
from ltunnel.session import Drop, Peer, Stats

Parts = tuple[Buffer | bytes | bytearray, ...]

_LONGEST = 65_535
_CAPACITY = 140_000


class Delivery:
    """Takes what `Inbound` has opened at the start of `arena`."""

    def __init__(
        self,
        tun: TunPort,
        outbound: Outbound,
        local: Local,
        refusals: Refusals,
        stats: Stats,
        *,
        hub: bool,
    ) -> None:
        self.arena = Arena(_CAPACITY)
        self._write = tun.write
        self._uso = tun.uso
        self._outbound = outbound
        self._local = local
        self._taken = local.taken
        self._refusals = refusals
        self._stats = stats
        self._hub = hub

    def rows(self, peer: Peer, trailer: Trailer, count: int, payload: int, now: float) -> None:
        """Deliver `count` joined rows: ``payload`` bytes at 0, then the header."""
        view = self.arena.view
        header = bytearray(view[payload : payload + trailer.header_length])
        if trailer.header_length + payload > _LONGEST or not sane(header, trailer):
            peer.stats.drop(Drop.MALFORMED, count)
            return
        virtio = fit(header, trailer, trailer.place, trailer.place + count - 1, payload)
        size = payload + count * trailer.header_length
        self._pass_on(peer, (virtio, header, view[:payload]), header, trailer.gso, count, size, now)

    def super_packet(self, peer: Peer, length: int, now: float) -> None:
        """Deliver the whole super-packet of a record: ``virtio-net header | packet | type`` of `length` bytes at 0."""
        data, view = self.arena.data, self.arena.view
        end = length - 1
        header, trailer = read_super(data, end)
        if trailer is None or packet_length(data, VNET_SIZE, end) != end - VNET_SIZE or not sane(header, trailer):
            peer.stats.drop(Drop.MALFORMED)
            return
        payload = end - VNET_SIZE - trailer.header_length
        count = max(1, -(-payload // trailer.seg))
        VNET.pack_into(data, 0, *virtio_of(trailer))
        size = payload + count * trailer.header_length
        self._pass_on(peer, (view[:end],), header, trailer.gso, count, size, now)

    def _pass_on(
        self, peer: Peer, parts: Parts, header: bytearray, gso: int, count: int, size: int, now: float
    ) -> None:
        """Write a super-packet of `count` segments, `size` bytes as packets, to the TUN device, if it may go there."""
        origin, target = ends(header, 0)
        if not peer.owns(origin):
            peer.stats.drop(Drop.SOURCE, count)
            return
        if not (target in self._taken or self._local.takes(target)):
            self._refuse(peer, parts, target, count, now)
            return
        peer.stats.rx_packets += count
        peer.stats.rx_bytes += size
        if not (self._write(parts) if self._uso or gso != GSO_UDP_L4 else self._write_pieces(parts)):
            self._stats.drop(Drop.TUN, count)

    def bundles(self, peer: Peer, length: int, count: int, now: float) -> None:
        """Deliver the packets of `count` bundles of `length` bytes each."""
        data, stats, hosts, taken = self.arena.data, peer.stats, peer.hosts, self._taken
        spans: list[tuple[int, int]] = []
        at, total = 0, count * length
        while at < total:
            run = find_run(self.arena, at, length, total) if self._uso else None
            if run is not None:
                self._packets(peer, spans)
                spans.clear()
                size = run.size - BUNDLE_ENTRY * run.packets
                self._pass_on(peer, run.parts, run.header, GSO_UDP_L4, run.packets, size, now)
                at += run.size
                continue
            ip, end = at + VNET_SIZE, at - at % length + length
            size = packet_length(data, ip, end - 1)
            if not size or data[at + 1] or (data[at] & NEEDS_CSUM and not _bounded(data, at, size)):
                stats.drop(Drop.MALFORMED)
                at = end
                continue
            stop = ip + size
            origin, target = ends(data, ip)
            if not (origin in hosts or peer.owns(origin)):
                stats.drop(Drop.SOURCE)
            elif target in taken or self._local.takes(target):
                data[at] &= NEEDS_CSUM
                spans.append((at, stop))
            else:
                self._refuse(peer, (self.arena.view[at:stop],), target, 1, now)
            at = stop + 1
        self._packets(peer, spans)

    def _packets(self, peer: Peer, spans: Sequence[tuple[int, int]]) -> None:
        """Deliver packets one by one; each span begins with the virtio-net header."""
        view, write = self.arena.view, self._write
        for at, stop in spans:
            peer.stats.rx_bytes += stop - at - VNET_SIZE
            if not write((view[at:stop],)):
                self._stats.drop(Drop.TUN)
        peer.stats.rx_packets += len(spans)

    def flush(self, now: float) -> None:
        """Send the ICMP errors about what was refused since the last call."""
        if self._refusals.waiting:
            self._outbound.flush(now)

    def _refuse(self, peer: Peer, parts: Parts, target: bytes, count: int, now: float) -> None:
        """Take no packet for another machine. Who takes a hub for one that passes on inside the tunnel is told so."""
        if self._hub and self._local.inside(target):
            self._refusals.no_route(b"".join(parts)[VNET_SIZE:], now)
        else:
            peer.stats.drop(Drop.DESTINATION, count)

    def _write_pieces(self, parts: Parts) -> bool:
        """Write a UDP super-packet to a device that takes only what is complete."""
        taken = True
        for packet in complete(parts):
            taken &= self._write((NO_OFFLOAD, packet))
        return taken


def _bounded(data: bytearray, at: int, size: int) -> bool:
    """Whether the checksum that a virtio-net header asks for lies inside the packet."""
    csum_start: int
    csum_offset: int
    _, _, _, _, csum_start, csum_offset = VNET.unpack_from(data, at)
    return csum_start >= 20 and csum_start + csum_offset + 2 <= size and csum_offset <= 16
