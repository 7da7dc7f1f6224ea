"""Out: packets from the TUN device to sealed datagrams of their next hop.

    TUN.read ─► next hop ─┬─ super-packet ─► rows ────────┐
                          └─ packet ─► staging ─► bundles ┴─► seal ─► transport.send, one call per batch

A super-packet is cut into rows that each fit one datagram and are sealed each by itself, so that a lost datagram costs
its own row. Small packets with the same next hop share a datagram up to the MTU. On a path that loses nothing, whatever
needs more than one datagram is sealed whole and then cut (`ltunnel.data.records`).
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np

from ltunnel.constants import (
    BUNDLE_ENTRY,
    DATA_HEADER,
    DATA_OVERHEAD,
    HEADROOM,
    MAX_DATAGRAM,
    MAX_ROWS,
    TAG,
)
from ltunnel.data.fec.line import Line
from ltunnel.data.fec.sender import ShardSender
from ltunnel.data.grid import Arena, GridCache, Nonces, RowGrid
from ltunnel.data.inet import SYN, TCP, clamp_mss
from ltunnel.data.local import Local, destination
from ltunnel.data.records import RecordSealer
from ltunnel.data.refuse import Refusals
from ltunnel.data.sending import send_sealed, usable_epoch
from ltunnel.data.staging import CAPACITY, Staging, bundled
from ltunnel.data.virtio import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    NO_OFFLOAD,
    VNET,
    VNET_SIZE,
    TunPort,
)
from ltunnel.data.waiting import Waiting
from ltunnel.plugin import Buffer, Transport
from ltunnel.session import Drop, Epoch, Fib, Peer, Stats
from ltunnel.wire.types import FrameType

READS = 64
"""Packets taken from the TUN device at a time, so that TUN and ports take turns."""
SUPERS = 12
"""Super-packets taken at a time: each is worth some forty packets."""

_TRAILER = Struct("<BBBBH")  # gso type, header length, checksum start, count, segment size; index and type follow
_HEADER = Struct(">IQ")
_SEG = Struct("<H")  # in a virtio-net header


class Outbound:
    """Seals packets for peers. One object serves all peers; nothing is allocated per packet."""

    def __init__(
        self,
        tun: TunPort,
        fib: Fib,
        transports: Sequence[Transport],
        local: Local,
        refusals: Refusals,
        stats: Stats,
        mtu: int,
        shards: ShardSender | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self._waiting = waiting
        self._read = tun.read
        self._write = tun.write
        self._fib = fib
        self._transports = transports
        self._local = local
        self._stats = stats
        self._refusals = refusals
        self._mtu = mtu
        self._out = Arena(HEADROOM + MAX_DATAGRAM + 64)
        self._nonces = Nonces()
        self._grids = GridCache(lambda *geometry: RowGrid(self._out, *geometry), limit=16)
        self._records = RecordSealer(self._out)
        self._shards = shards
        if shards is not None:
            shards.attach(self._out, self._nonces, transports, self._send)
        self._tun = Staging()
        self._transit = Staging()
        self._scratch = Arena(CAPACITY + 2 * 65_600)

    # ---------------------------------------------------------------- from the TUN device

    def pump(self, now: float) -> bool:
        """Take packets from the TUN device and send them. True when more may wait."""
        staging, read = self._tun, self._read
        view, data = staging.arena.view, staging.arena.data
        supers = 0
        more = True
        for _ in range(READS):
            at = staging.pos
            try:
                stop = at + read(view, at)
            except BlockingIOError:
                more = False
                break
            peer = self.next_hop(data, at + VNET_SIZE)
            if peer is None:
                self._refusals.no_route(bytes(view[at + VNET_SIZE : stop]), now)
            elif peer.epoch is None and self._waiting is not None and not peer.is_hub:
                self._waiting.put(peer, bytes(view[at:stop]), now)
            elif data[at + 1]:
                self._flush(staging, now)
                self._send_super(staging.arena, at, stop, peer, now)
                supers += 1
                if supers == SUPERS:
                    break
            else:
                self._stage(staging, at, stop, peer, now)
        self._flush(staging, now)
        self._finish(now)
        return more

    def next_hop(self, data: bytearray | bytes, ip: int) -> Peer | None:
        """Return the peer that the packet at ``data[ip:]`` goes to."""
        address = destination(data, ip)
        try:
            return self._fib.cache[address]
        except KeyError:
            return self._fib.lookup(address)

    # ---------------------------------------------------------------- from elsewhere

    def forward(self, parts: Sequence[Buffer | bytes | bytearray], peer: Peer, now: float) -> None:
        """Send a packet that had to wait, or an ICMP error, given as to `TunPort.write`; `flush` follows."""
        staging = self._transit
        if staging.pos >= CAPACITY:
            self._flush(staging, now)
        at = stop = staging.pos
        data = staging.arena.data
        for part in parts:
            end = stop + len(part)
            data[stop:end] = part
            stop = end
        if data[at + 1]:
            self._flush(staging, now)
            self._send_super(staging.arena, at, stop, peer, now)
        else:
            self._stage(staging, at, stop, peer, now)

    def flush(self, now: float) -> None:
        """Seal and send what `forward` has gathered."""
        if self._transit.pos:
            self._flush(self._transit, now)
        self._finish(now)

    def _finish(self, now: float) -> None:
        """End a turn: deliver ICMP errors, send what parity has come up."""
        if self._refusals.waiting:
            self._answer(now)
        if self._shards is not None:
            self._shards.flush(now)

    def _answer(self, now: float) -> None:
        """Deliver the ICMP errors that refused packets have caused."""
        for packet in self._refusals.take():
            peer = None if self._local.owns(packet, 0) else self.next_hop(packet, 0)
            if peer is not None:
                self.forward((NO_OFFLOAD, packet), peer, now)
            elif not self._write((NO_OFFLOAD, packet)):
                self._stats.drop(Drop.TUN)
        if self._transit.pos:
            self._flush(self._transit, now)

    # ---------------------------------------------------------------- small packets

    def _stage(self, staging: Staging, at: int, stop: int, peer: Peer, now: float) -> None:
        """Put one packet (without GSO) into its peer's next bundle."""
        data = staging.arena.data
        ip = at + VNET_SIZE
        if data[ip] != 0x45 or (data[ip + 9] == TCP and data[ip + 33] & SYN):  # anything but a plain IPv4 header: look
            clamp_mss(data, ip, stop, min(self._mtu, peer.mtu), partial=bool(data[at] & NEEDS_CSUM))
        if stop - ip > peer.mtu:
            for piece in self._refusals.too_big(data[at:stop], peer, now):
                end = at + len(piece)
                data[at:end] = piece
                data[end] = FrameType.BUNDLE
                staging.add(peer, at, end + 1)
                at = end + 1
            return
        data[stop] = FrameType.BUNDLE
        staging.add(peer, at, stop + 1)
        if stop >= CAPACITY:
            self._flush(staging, now)

    def _flush(self, staging: Staging, now: float) -> None:
        """Seal everything staged, peer by peer."""
        if not staging.pos:
            return
        groups = staging.groups
        staging.clear()  # first, so that nothing is staged twice whatever happens; the bytes stay until new ones come
        if len(groups) == 1:
            for peer, spans in groups.items():
                self._send_bundles(staging.arena, spans, peer, now)
        else:
            scratch = self._scratch
            source, target = staging.arena.view, scratch.view
            for peer, spans in groups.items():  # bring each peer's packets together, so that they can share datagrams
                pos, moved = 0, []
                for start, stop in spans:
                    end = pos + stop - start
                    target[pos:end] = source[start:stop]
                    moved.append((pos, end))
                    pos = end
                self._send_bundles(scratch, moved, peer, now)

    def _send_bundles(self, arena: Arena, spans: list[tuple[int, int]], peer: Peer, now: float) -> None:
        """Join neighbouring packets into bundles, seal them, and send runs of equal datagrams with one call each."""
        bundles = bundled(spans, peer.mtu + BUNDLE_ENTRY)
        epoch = usable_epoch(peer, len(bundles), now)
        if epoch is None:
            peer.stats.drop(Drop.NO_SESSION, len(spans))
            return
        stats = peer.stats
        start, end = spans[0][0], spans[-1][1]
        stats.tx_packets += len(spans)
        stats.tx_bytes += end - start - BUNDLE_ENTRY * len(spans)
        shards, coded = self._shards, False
        if shards is not None:
            line = shards.line(peer, epoch, now)
            coded = line.code is not None and not shards.picks
            if coded and self._send_whole(arena, start, end, bundles, epoch, peer, now, line):
                return
            without = shards.packets(line, arena, spans, now)
            if len(without) < len(spans):
                bundles = bundled(without, peer.mtu + BUNDLE_ENTRY)
        if not coded and self._send_whole(arena, start, end, bundles, epoch, peer, now):
            return
        at = 0
        while at < len(bundles):
            at += self._send_run(arena, bundles, at, epoch, peer, now)

    def _send_run(
        self, arena: Arena, bundles: list[tuple[int, int]], at: int, epoch: Epoch, peer: Peer, now: float
    ) -> int:
        """Seal and send the longest run of equal bundles from `at` on, with one shorter after it; return its length."""
        out, source, seal = self._out.view, arena.view, epoch.sealer.seal
        assert peer.path is not None  # noqa: S101  # usable_epoch has looked
        prefix = self._transports[peer.path.transport].prefix
        start, end = bundles[at]
        size = prefix + end - start + DATA_OVERHEAD
        room = min(MAX_ROWS, MAX_DATAGRAM // size, len(bundles) - at)
        plain, sealed, nonces = [], [], []
        word, counter, pos, count = epoch.send_word, epoch.counter, HEADROOM, 0
        for start, end in bundles[at : at + room]:
            length = prefix + end - start + DATA_OVERHEAD
            if length > size:
                break
            header, pos = pos + prefix, pos + length
            _HEADER.pack_into(out, header, word, counter + count)
            nonces.append(out[header : header + DATA_HEADER])
            plain.append(source[start:end])
            sealed.append(out[header + DATA_HEADER : pos])
            count += 1
            if length < size:
                break
        epoch.take(count)
        seal(nonces, plain, sealed)
        self._send(peer, pos, size, now)
        return count

    # ---------------------------------------------------------------- super-packets

    def _send_super(self, arena: Arena, at: int, stop: int, peer: Peer, now: float) -> None:
        """Cut the GSO packet at ``at:stop`` into rows, seal them and send them, at most `RowGrid.limit` at a time."""
        data = arena.data
        _flags, gso, _, seg, csum_start, _ = VNET.unpack_from(data, at)
        l4 = at + VNET_SIZE + csum_start
        header_length = csum_start + (8 if gso == GSO_UDP_L4 else (data[l4 + 12] >> 4) * 4)
        payload = at + VNET_SIZE + header_length
        if (
            header_length > 255
            or payload >= stop
            or not seg
            or gso & ~GSO_ECN not in (GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4)
        ):
            peer.stats.drop(Drop.MALFORMED)
            return
        if seg > peer.mtu - header_length:
            if gso == GSO_UDP_L4:  # datagrams cannot be cut where it suits us; a TCP segment can
                peer.stats.drop(Drop.TOO_BIG)
                self._refusals.packet_too_big(bytes(data[at + VNET_SIZE : payload + seg]), peer.mtu, now)
                return
            seg = peer.mtu - header_length
        count = -(-(stop - payload) // seg)
        if count > 255:
            peer.stats.drop(Drop.TOO_BIG, count)
            return
        epoch = usable_epoch(peer, count, now)
        if epoch is None:
            peer.stats.drop(Drop.NO_SESSION, count)
            return
        stats = peer.stats
        stats.tx_packets += count
        stats.tx_bytes += stop - payload + count * header_length
        shards = self._shards
        line = shards.line(peer, epoch, now) if shards is not None else None
        if peer.quality.clean(now):
            data[stop] = FrameType.SUPER
            _SEG.pack_into(data, at + 4, seg)
            if self._send_record(arena, at, stop + 1, epoch, peer, now, line):
                return
        tail = data[at + VNET_SIZE : payload]
        tail += _TRAILER.pack(gso, header_length, csum_start, count, seg)
        if shards is not None and line is not None and line.code is not None:
            shards.super_packet(line, arena, payload, stop, tail, seg, now)
            return
        assert peer.path is not None  # noqa: S101  # usable_epoch has looked
        grid = self._grids.get(header_length, seg, self._transports[peer.path.transport].prefix)
        for first in range(0, count, grid.limit):
            begin = payload + first * seg
            end = min(stop, begin + grid.limit * seg)
            self._send_rows(arena, begin, end, tail, first, seg, grid, epoch, peer, now)

    def _send_rows(
        self, arena: Arena, begin: int, end: int, tail: bytearray, first: int, seg: int, grid: RowGrid, epoch: Epoch,
        peer: Peer, now: float,
    ) -> None:  # fmt: skip
        """Seal the payload ``begin:end`` as rows `first`, `first` + 1, ... of their super-packet and send them."""
        full, rest = divmod(end - begin, seg)
        count = full + (rest > 0)
        counter = epoch.take(count)
        nonces = self._nonces
        nonces.fill(count, epoch.send_word, counter)
        size = grid.slot
        pos = HEADROOM + full * size
        if full:
            grid.headers[:full] = nonces.array[:full]
            grid.staging[:full, :seg] = arena.array[begin : begin + full * seg].reshape(full, seg)
            grid.tail[:full] = np.frombuffer(tail, np.uint8)
            if first:
                grid.indices[:full] += first
            epoch.sealer.seal(nonces.views, grid.plain[:full], grid.sealed)
            if first:
                grid.indices[:full] -= first
        if rest:  # the last, shorter row is sealed where it lies, its tail written behind the packet
            stop = end + len(tail) + 2
            arena.data[end:stop] = tail + bytes((first + full, FrameType.ROW))
            pos += grid.prefix
            out, after = self._out.view, pos + stop - end + rest + DATA_OVERHEAD
            header = nonces.views[full]
            out[pos : pos + DATA_HEADER] = header
            epoch.sealer.seal([header], [arena.view[end - rest : stop]], [out[pos + DATA_HEADER : after]])
            pos = after
        self._send(peer, pos, size if full else pos - HEADROOM, now)

    # ---------------------------------------------------------------- records

    def _send_whole(
        self, arena: Arena, start: int, end: int, bundles: list[tuple[int, int]], epoch: Epoch, peer: Peer, now: float,
        line: Line | None = None,
    ) -> bool:  # fmt: skip
        """Send bundles as one record, if they are neighbours all from `start` to `end` and the path is clean."""
        neighbours = len(bundles) > 1 and bundles[-1][1] - bundles[0][0] == end - start
        return neighbours and peer.quality.clean(now) and self._send_record(arena, start, end, epoch, peer, now, line)

    def _send_record(
        self, arena: Arena, start: int, end: int, epoch: Epoch, peer: Peer, now: float, line: Line | None = None
    ) -> bool:
        """Seal the frame at ``start:end`` as one record and send its parts. False when it had better go otherwise."""
        assert peer.path is not None  # noqa: S101  # usable_epoch has looked
        shards, size, plan, length = self._shards, 0, None, end - start + TAG
        if shards is not None and line is not None and line.code is not None:
            size, plan = shards.plan(line, length)
            if plan is None:
                return False
        transport, counter = self._transports[peer.path.transport], epoch.counter
        sealed = self._records.seal_for(peer, epoch, arena.view[start:end], transport, size)
        if sealed is None:
            return False
        self._send(peer, *sealed, now)
        if shards is not None and line is not None and plan is not None:
            shards.record(line, self._records.ciphertext, length, size, plan, counter)
        return True

    # ---------------------------------------------------------------- common

    def _send(self, peer: Peer, end: int, size: int, now: float) -> None:
        """Hand a sealed batch, ``HEADROOM:end`` of the out buffer, to the peer's transport."""
        send_sealed(self._transports, peer, self._out, end, size, now)
