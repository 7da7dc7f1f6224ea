"""TCP packets below the kernel's IP layer: packet sockets with virtio-net headers (packet(7), PACKET_VNET_HDR).

    send   route and neighbour ─► hop ─► Ethernet header in front ─► socket bound to the interface ─► cut by the device
    recv   any interface ─► filter (ours? whole?) ─► is it sent to one of our addresses? ─► joined, if GRO has not
                              └─► asks for a connection: a socket of its own, of which a few are taken at a time

What is received is a copy of what the kernel gets, before its firewall has seen it, and what is sent never meets that
firewall. Sockets that receive are for IPv4 or IPv6 and for one length of link header, and not bound to an interface:
wherever a packet comes in, it is taken. They are protocol handlers as IP itself is, so they hear nothing that we send.

    virtio-net header 10 | Ethernet header 14 | IP packet         as the kernel takes and gives it
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
from collections.abc import Callable, Sequence
from struct import Struct

from ltunnel.plugin import Buffer, Endpoint, Route
from ltunnel.runtime.raw_gate import Gate
from ltunnel.runtime.raw_hop import Hop
from ltunnel.runtime.raw_intake import (
    ETHER_TYPE,
    ETHERNET,
    VNET_SIZE,
    WITH_HEADER,
    WITHOUT_HEADER,
    Intake,
    open_intakes,
    open_packet,
)
from ltunnel.runtime.raw_join import ACK, Joiner
from ltunnel.runtime.raw_netlink import FAILED, STALE, Link, Neighbour
from ltunnel.runtime.raw_numbers import Numbers
from ltunnel.runtime.raw_routes import Routes
from ltunnel.runtime.udp import RECEIVE_BUFFER, set_buffers

_NO_NEIGHBOURS = 0x8 | 0x80  # IFF_LOOPBACK, IFF_NOARP

_SHAPE_V4 = Struct("10sB11x8s")  # what a way is known by: virtio-net header, begin of the IP header, addresses
_SHAPE_V6 = Struct("10sB7x32s")

_KEPT = 4096
_WAITING = 3  # packets that wait for a neighbour's address, as many as ARP itself used to keep
_GONE = (errno.ENETDOWN, errno.ENXIO, errno.ENODEV)

# What the virtio-net header calls the length of the headers is how much of a packet the kernel lays down in one piece.
# The rest is in pages, and those are kept by the core that frees them, a hundred megabytes of them, so that a sender
# gets cold ones while the receiver runs on another core. Blocks of 64 KB are not kept. *Measured* between two
# namespaces, 57 KB a packet: 12.9 -> 9.6 µs to send, 7.3 -> 5.1 µs to receive.
_HEADER_LENGTH = Struct("<H")
_HEADER_LENGTH_AT = 2
_BLOCK = 64_000
"""Bytes that fit such a block beside what the kernel adds."""
_SMALL = 8192
"""Bytes of a packet that is not worth it."""
_WITHOUT_BLOCKS = 4096
"""So many packets are sent in pages where memory is too scattered for a block."""

_TURN = 256
"""So many packets are taken from one socket before the others, and news of the network, have their turn."""
_TURNS = range(_TURN)


_Shape = tuple[bytes, int, bytes]
"""(virtio-net header, first byte of the IP header, packed source and destination)."""
_Way = tuple[bytes, int, Callable[[Buffer], int]]
"""(what stands in front of the IP header, bytes of the link header in it, what sends)."""

_Place = tuple[int, bytes, int]
"""A neighbour: index of the interface, packed address, IP version of the packets."""


class PacketPort:
    """See `ltunnel.plugin.RawPort`. Raises OSError where packet sockets are not to be had.

    `drops` counts packets, cut ones by their segments: "queue full", "too big", "unreachable" (no route, no neighbour,
    not our address, no device), "no Ethernet" (a device whose header is unknown here), and calls: "receive error".
    """

    def __init__(self, numbers: Numbers, secret: bytes, receive_buffer: int = RECEIVE_BUFFER) -> None:
        self.local = numbers.local
        self.numbers: Sequence[int] = numbers.all
        self.secret = secret
        self.drops: dict[str, int] = {}
        self.changes = 0
        self._ways: dict[_Shape, _Way] = {}
        self._hops: dict[bytes, Hop] = {}  # by packed source and destination
        self._neighbours: dict[_Place, Hop] = {}
        self._sources: dict[bytes, Endpoint | None] = {}
        self._outlets: dict[tuple[int, int], socket.socket] = {}
        self._intakes: dict[int, Intake] = {}
        self._in_pages = 0
        """So many large packets are still sent in pages."""
        self._left = self._granted = _TURN
        self._served = False
        with contextlib.ExitStack() as stack:
            stack.callback(numbers.close)
            self._routes = stack.enter_context(contextlib.closing(Routes(numbers.versions, numbers.bound)))
            self._epoll = stack.enter_context(select.epoll())
            self._joiner = stack.enter_context(contextlib.closing(Joiner()))
            self._gate = stack.enter_context(contextlib.closing(Gate(self._epoll)))
            self._epoll.register(self._routes, select.EPOLLIN)
            self._epoll.register(self._joiner.flag, select.EPOLLIN)
            for intake in open_intakes(stack, numbers.versions, numbers.all, receive_buffer):
                self._intakes[intake.fd] = intake
                if intake.openings:
                    self._gate.add(intake.fd)
                else:
                    self._epoll.register(intake.fd, select.EPOLLIN)
            self._all = stack.pop_all()
        self._usual = self._intake = next(iter(self._intakes.values()))

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close all sockets and give the numbers back."""
        for outlet in self._outlets.values():
            outlet.close()
        self._all.close()

    # ---------------------------------------------------------------- as a RawPort

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send one packet or super-packet; see `ltunnel.plugin.RawPort`."""
        ways = self._ways
        way = ways.get(_SHAPE_V4.unpack_from(buf, start)) or ways.get(_SHAPE_V6.unpack_from(buf, start))
        if way is None:
            return self._send_first(buf, start, end, seg, to)
        head, size, send = way
        at = start - size
        buf[at : start + VNET_SIZE] = head
        length = end - at - VNET_SIZE
        if length > _SMALL:
            if self._in_pages:
                self._in_pages -= 1
            else:
                _HEADER_LENGTH.pack_into(buf, at + _HEADER_LENGTH_AT, length if length < _BLOCK else _BLOCK)
        try:
            send(buf[at:end])
        except OSError as error:
            if error.errno == errno.ENOBUFS and length > _SMALL and not self._in_pages:
                buf[at : start + VNET_SIZE] = head
                return self._send_in_pages(send, buf[at:end], end - start - VNET_SIZE, seg)
            return self._refused(error, end - start - VNET_SIZE, seg)
        return True

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive a packet, or what GRO made of several; see `ltunnel.plugin.RawPort`."""
        joiner = self._joiner
        for _ in _TURNS:
            self._left -= 1
            if self._left <= 0 and not joiner.kept:  # what is kept came by the socket in use
                self._look_around()
            receive, link, look, fd, _ = self._intake
            try:
                size = joiner.take(buf, pos) if joiner.kept else receive(buf[pos:] if pos else buf)
            except BlockingIOError:
                if self._served or not self._look_around():  # what waits elsewhere wakes the loop once more
                    self._served = False
                    raise
                continue
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise
                self._drop("receive error", 1)
                raise BlockingIOError from None
            self._served = True
            seg, ends, flags = look(buf, pos)
            try:
                source = self._sources[ends]
            except KeyError:
                source = self._introduce(ends)
            if source is not None:
                start, end = pos + link, pos + size
                if flags == ACK and not seg:
                    end, seg = joiner.join(fd, buf, pos, start + VNET_SIZE, end)
                return start, end, seg, source
        raise BlockingIOError  # much that is only passing through here; the loop comes back

    def route(self, host: str) -> Route | None:
        """Return how packets get to `host`; see `ltunnel.plugin.RawPort`."""
        return self._routes.find(host)

    # ---------------------------------------------------------------- the way out

    def _send_first(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send a packet of a shape, or to where, none was sent before."""
        ip = start + VNET_SIZE
        shape: _Shape = (_SHAPE_V4 if buf[ip] < 0x50 else _SHAPE_V6).unpack_from(buf, start)
        vnet, _, ends = shape
        try:
            hop = self._hops.get(ends) or self._find_hop(str(to[0]), ends[: len(ends) // 2])
            if hop is None:
                self._drop("unreachable", _count(end - ip, seg))
                return False
            if hop.header is not None:
                head = hop.head(vnet)
        except OSError as error:
            return self._refused(error, end - ip, seg)
        if hop.header is None:
            if len(hop.waiting) >= _WAITING:
                del hop.waiting[0]
                self._drop("unreachable", 1)
            hop.waiting.append(bytes(buf[start:end]))
            return True
        if len(self._ways) >= _KEPT:
            self._forget_ways()
        self._hops[ends] = hop
        self._ways[shape] = head, hop.size, hop.send
        return self.send(buf, start, end, seg, to)

    def _send_in_pages(self, send: Callable[[Buffer], int], packet: Buffer, size: int, seg: int) -> bool:
        """Send a packet once more: the kernel had no block for it, or no room in a queue, and says the same of both."""
        try:
            send(packet)
        except OSError as error:
            return self._refused(error, size, seg)
        self._in_pages = _WITHOUT_BLOCKS
        return True

    def _forget_ways(self) -> None:
        self._ways.clear()
        self._hops.clear()

    def _find_hop(self, host: str, source: bytes) -> Hop | None:
        """Return the way to a host, None if there is none. Raises OSError for a device that cannot be used."""
        way = self._routes.way(host, source)
        if way is None:
            return None
        version = 4 if len(source) == 4 else 6
        key = (way.link.device, way.next, version)
        hop = self._neighbours.get(key)
        if hop is None or hop.header is None:
            hop = self._make_hop(way.link, version) if hop is None else hop
            if len(self._neighbours) >= _KEPT:
                self._neighbours.clear()
            self._neighbours[key] = hop
            self._resolve(hop, way.link, key)
        return hop

    def _make_hop(self, link: Link, version: int) -> Hop:
        if link.hardware not in WITH_HEADER + WITHOUT_HEADER:
            raise OSError(errno.EPFNOSUPPORT, f"{link.name} has no Ethernet header")
        return Hop(self._outlet(link, version).send, link.mtu, ETHERNET if link.hardware in WITH_HEADER else 0)

    def _resolve(self, hop: Hop, link: Link, key: _Place) -> None:
        """Find out the next machine's link-layer address, if the kernel knows it; send what waits for it."""
        device, host, version = key
        header = b""
        if hop.size:
            address = link.address if link.flags & _NO_NEIGHBOURS else self._routes.neighbour(device, host)
            if address is None:
                return
            header = address + link.address + ETHER_TYPE[version].to_bytes(2, "big")
            if len(header) != ETHERNET:
                raise OSError(errno.EPFNOSUPPORT, f"{link.name} has no Ethernet addresses")
        hop.header, hop.mtu = header, link.mtu
        waiting, hop.waiting = hop.waiting, []
        for packet in waiting:
            with contextlib.suppress(OSError):
                hop.send(hop.head(packet[:VNET_SIZE]) + packet[VNET_SIZE:])
                continue
            self._drop("unreachable", 1)

    def _outlet(self, link: Link, version: int) -> socket.socket:
        """Return the socket that sends on a device. Raises OSError."""
        key = (link.device, version)
        outlet = self._outlets.get(key)
        if outlet is None:
            outlet = open_packet(0)
            try:
                set_buffers(outlet)
                # Ethernet says in each frame what it carries. A protocol here would make the socket a receiver too.
                outlet.bind((link.name, ETHER_TYPE[version] if link.hardware in WITHOUT_HEADER else 0))
            except OSError:
                outlet.close()
                raise
            self._outlets[key] = outlet
        return outlet

    def _refused(self, error: OSError, size: int, seg: int) -> bool:
        """Count a packet with `size` bytes that did not leave."""
        code, count = error.errno, _count(size, seg)
        if code == errno.EBADF:
            raise error
        if isinstance(error, BlockingIOError) or code == errno.ENOBUFS:
            self._drop("queue full", count)
        elif code == errno.EMSGSIZE:
            self._drop("too big", count)
        elif code == errno.EPFNOSUPPORT:
            self._drop("no Ethernet", count)
        else:
            self._drop("unreachable", count)
            if code in _GONE:
                self._forget_devices()
        return False

    # ---------------------------------------------------------------- what is known of the network

    def _look_around(self) -> bool:
        """Take note of news, and turn to another socket that has something. False: nothing is there to receive."""
        gate, current = self._gate, self._intake
        if current.openings:
            gate.take(self._granted - self._left)
        ready = [fd for fd, _ in self._epoll.poll(0)]
        if self._routes.fileno() in ready:
            self._take_news()
        if gate.fd in ready:
            gate.begin()
        waiting = [intake for fd, intake in self._intakes.items() if fd in ready and fd != current.fd]
        if waiting:
            self._intake = waiting[0]
        elif current.openings:
            self._intake = self._usual
        if not self._intake.openings:
            self._usual = self._intake
        self._left = self._granted = gate.left if self._intake.openings else _TURN
        return bool(waiting) or current.fd in ready

    def _take_news(self) -> None:
        changed, neighbours = self._routes.take_news()
        if changed:
            self.changes += 1
            self._sources.clear()
            self._forget_devices()
        for neighbour in neighbours:
            for version in (4, 6):
                self._hear_of(neighbour, version)

    def _hear_of(self, neighbour: Neighbour, version: int) -> None:
        """Use what is new about a neighbour; a stale entry is asked for anew when it is needed."""
        key = (neighbour.device, neighbour.host, version)
        hop = self._neighbours.get(key)
        if hop is None:
            return
        if hop.header is not None:
            is_same = hop.header.startswith(neighbour.address)
            if not neighbour.is_known or neighbour.state & STALE or not is_same:
                del self._neighbours[key]
                self._forget_ways()
        elif neighbour.is_known:
            link = self._routes.link(neighbour.device)
            if link is not None:
                self._resolve(hop, link, key)
        elif neighbour.state & FAILED:
            del self._neighbours[key]
            self._drop("unreachable", len(hop.waiting))

    def _forget_devices(self) -> None:
        """Look everything up again; what waits for a neighbour goes on waiting."""
        self._forget_ways()
        self._neighbours = {key: hop for key, hop in self._neighbours.items() if hop.waiting}
        for key in [key for key in self._outlets if self._routes.link(key[0]) is None]:
            self._outlets.pop(key).close()

    def _introduce(self, ends: bytes) -> Endpoint | None:
        """Name the source of a packet by its packed (source, destination); None if it is not sent to us."""
        size = len(ends) // 2
        family = socket.AF_INET if size == 4 else socket.AF_INET6
        source = (socket.inet_ntop(family, ends[:size]),) if self._routes.is_ours(ends[size:]) else None
        if len(self._sources) >= _KEPT:
            self._sources.clear()
        self._sources[ends] = source
        return source

    def _drop(self, reason: str, count: int) -> None:
        if count:
            self.drops[reason] = self.drops.get(reason, 0) + count


def _count(size: int, seg: int) -> int:
    """Return how many segments a packet of `size` bytes becomes."""
    return max(1, -(-(size - 40) // seg)) if seg else 1
