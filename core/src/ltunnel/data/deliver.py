"""Opened packets to where they belong: the TUN device, or nowhere.

Cryptokey routing: the inner source must be an address of the peer whose key opened the packet. Nodes send each other
nothing that a hub could read: what comes to a hub for another address of the tunnel is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.constants import BUNDLE_ENTRY
from ltunnel.data.grid import Arena
from ltunnel.data.inet import packet_length
from ltunnel.data.local import Local, source
from ltunnel.data.outbound import Outbound
from ltunnel.data.plain import complete
from ltunnel.data.refuse import Refusals
from ltunnel.data.segments import Trailer, fit, read_super, sane, virtio_of
from ltunnel.data.udp_runs import Run, find_run
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
        if not peer.owns(source(header, 0)):
            peer.stats.drop(Drop.SOURCE, count)
            return
        virtio = fit(header, trailer, trailer.place, trailer.place + count - 1, payload)
        peer.stats.rx_packets += count
        peer.stats.rx_bytes += payload + count * trailer.header_length
        self._pass_on((virtio, header, view[:payload]), header, trailer.gso, count, now)

    def super_packet(self, peer: Peer, length: int, now: float) -> None:
        """Deliver the whole super-packet of a record: ``virtio-net header | packet | type`` of `length` bytes at 0."""
        data, view = self.arena.data, self.arena.view
        end = length - 1
        header, trailer = read_super(data, end)
        if trailer is None or packet_length(data, VNET_SIZE, end) != end - VNET_SIZE or not sane(header, trailer):
            peer.stats.drop(Drop.MALFORMED)
            return
        if not peer.owns(source(header, 0)):
            peer.stats.drop(Drop.SOURCE)
            return
        payload = end - VNET_SIZE - trailer.header_length
        count = max(1, -(-payload // trailer.seg))
        peer.stats.rx_packets += count
        peer.stats.rx_bytes += payload + count * trailer.header_length
        VNET.pack_into(data, 0, *virtio_of(trailer))
        self._pass_on((view[:end],), header, trailer.gso, count, now)

    def _pass_on(self, parts: Parts, header: bytearray, gso: int, count: int, now: float) -> None:
        """Write a super-packet of `count` segments to the TUN device."""
        if self._hub and self._refused(parts, header, 0, now):
            return
        if not (self._write(parts) if self._uso or gso != GSO_UDP_L4 else self._write_pieces(parts)):
            self._stats.drop(Drop.TUN, count)

    def bundles(self, peer: Peer, length: int, count: int, now: float) -> None:
        """Deliver the packets of `count` bundles of `length` bytes each."""
        data, stats, hosts = self.arena.data, peer.stats, peer.hosts
        spans: list[tuple[int, int]] = []
        at, total = 0, count * length
        while at < total:
            run = find_run(self.arena, at, length, total) if self._uso else None
            if run is not None:
                self._packets(peer, spans, now)
                spans.clear()
                self._run(peer, run, now)
                at += run.size
                continue
            ip, end = at + VNET_SIZE, at - at % length + length
            size = packet_length(data, ip, end - 1)
            if not size or data[at + 1] or (data[at] & NEEDS_CSUM and not _bounded(data, at, size)):
                stats.drop(Drop.MALFORMED)
                at = end
                continue
            if (address := source(data, ip)) in hosts or peer.owns(address):
                data[at] &= NEEDS_CSUM
                spans.append((at, ip + size))
            else:
                stats.drop(Drop.SOURCE)
            at = ip + size + 1
        self._packets(peer, spans, now)

    def _run(self, peer: Peer, run: Run, now: float) -> None:
        """Deliver datagrams of one UDP flow as one super-packet."""
        if not peer.owns(source(run.header, 0)):
            peer.stats.drop(Drop.SOURCE, run.packets)
            return
        peer.stats.rx_packets += run.packets
        peer.stats.rx_bytes += run.size - BUNDLE_ENTRY * run.packets
        self._pass_on(run.parts, run.header, GSO_UDP_L4, run.packets, now)

    def _packets(self, peer: Peer, spans: Sequence[tuple[int, int]], now: float) -> None:
        """Deliver packets one by one; each span begins with the virtio-net header."""
        data, view, write = self.arena.data, self.arena.view, self._write
        for at, stop in spans:
            peer.stats.rx_bytes += stop - at - VNET_SIZE
            if self._hub and self._refused((view[at:stop],), data, at + VNET_SIZE, now):
                continue
            if not write((view[at:stop],)):
                self._stats.drop(Drop.TUN)
        peer.stats.rx_packets += len(spans)

    def flush(self, now: float) -> None:
        """Send the ICMP errors about what was refused since the last call."""
        if self._refusals.waiting:
            self._outbound.flush(now)

    def _refused(self, parts: Parts, data: bytearray, ip: int, now: float) -> bool:
        """Refuse a packet for an address of the tunnel that is not the hub's own; False for any other."""
        if self._local.owns(data, ip) or not self._local.inside(data, ip):
            return False
        self._refusals.no_route(b"".join(parts)[VNET_SIZE:], now)
        return True

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
