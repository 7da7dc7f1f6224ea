"""A UDP socket as a `Port`: whole batches by one system call each way (UDP_SEGMENT, UDP_GRO; Linux 4.18 and 5.0).

The Don't Fragment bit: IPv4 sends without it and without regard to ICMP (IP_PMTUDISC_OMIT), so a datagram larger than
the path takes arrives in fragments instead of never, and a forged "fragmentation needed" changes nothing. IPv6 routers
do not fragment, so there the kernel's default stays: it believes "packet too big" and fragments locally.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable
from struct import Struct

from ltunnel.errors import HostError
from ltunnel.plugin import Buffer, Endpoint

SOL_UDP = 17
_UDP_SEGMENT = 103
UDP_GRO = 104
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_OMIT = 5

_SEGMENT_SIZE = Struct("=H")
GRO_SIZE = Struct("=i")
_GRO_SPACE = socket.CMSG_SPACE(GRO_SIZE.size)

# What waits in a send buffer is delay: 1 MiB (the kernel doubles it) are 17 ms at 1 Gbit/s.
_SEND_BUFFER = 1 << 20

RECEIVE_BUFFER = 8 << 20
"""Bytes: some 100 full batches may come while Python is busy elsewhere."""

_CACHED_SIZES = 1024

Ancillary = list[tuple[int, int, bytes]]


class _Segments(dict[int, Ancillary]):
    """Ancillary data for UDP_SEGMENT by segment size, made once each; bounded, since far ends choose the sizes."""

    def __missing__(self, size: int) -> Ancillary:
        if len(self) >= _CACHED_SIZES:
            self.clear()
        ancillary = self[size] = [(SOL_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        return ancillary


class UdpPort:
    """An unconnected UDP socket, bound to a numeric address; see `ltunnel.plugin.Port`.

    `drops` counts, in datagrams, what the kernel would not send ("queue full", "unreachable", "too big") and, in
    calls, what it reported while receiving ("receive error").
    """

    __slots__ = ("_recvmsg_into", "_segmentation", "_segments", "_sendmsg", "_sendto", "_socket", "drops", "local")

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._sendmsg = sock.sendmsg
        self._sendto = sock.sendto
        self._recvmsg_into = sock.recvmsg_into
        self._segments = _Segments()
        self._segmentation = True
        self.local: Endpoint = sock.getsockname()
        self.drops: dict[str, int] = {}

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send a batch with one call; see `ltunnel.plugin.Port`."""
        try:
            if end - start <= seg:
                self._sendto(buf[start:end], to)
            elif self._segmentation:
                self._sendmsg((buf[start:end],), self._segments[seg], 0, to)
            else:
                return self._send_each(buf, start, end, seg, to)
        except OSError as error:
            return self._refused(error, buf, start, end, seg, to)
        return True

    def limit_hops(self, hops: int) -> None:
        """Let what is sent from now on pass so many routers at most; 0: as many as usual."""
        value = hops or -1  # ip(7), ipv6(7): the default
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, value)
        if self._socket.family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, value)

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive what the kernel coalesced of one sender; see `ltunnel.plugin.Port`."""
        try:
            size, ancillary, _, source = self._recvmsg_into((buf[pos:],), _GRO_SPACE)
        except BlockingIOError:
            raise
        except OSError as error:
            raise self._nothing(error) from None
        if ancillary:  # absent when the datagram came alone
            return pos, pos + size, GRO_SIZE.unpack(ancillary[0][2])[0], source
        return pos, pos + size, size, source

    def _nothing(self, error: OSError) -> OSError:
        """Count an error that ICMP brought; asking for it took it off the socket. Return what to raise."""
        if error.errno == errno.EBADF:
            return error
        self._drop("receive error", 1)
        return BlockingIOError()

    def _refused(self, error: OSError, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Find another way to send a batch, or count it as lost."""
        code = error.errno
        if code == errno.EBADF:
            raise error
        if end - start > seg:
            if code == errno.EIO:  # the device computes no checksums, and before Linux 6.11 UDP_SEGMENT needs that
                self._segmentation = False
                return self._send_each(buf, start, end, seg, to)
            if code in (errno.EMSGSIZE, errno.EINVAL):  # segments are never fragmented, single datagrams are
                return self._send_each(buf, start, end, seg, to)
        count = -(-(end - start) // seg) if seg else 1
        if isinstance(error, BlockingIOError) or code == errno.ENOBUFS:
            self._drop("queue full", count)
        elif code == errno.EMSGSIZE:
            self._drop("too big", count)
        else:  # ENETUNREACH, EHOSTUNREACH, ECONNREFUSED, EPERM by a firewall rule, ...
            self._drop("unreachable", count)
        return False

    def _send_each(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        sent = True
        for offset in range(start, end, seg):
            sent &= self.send(buf, offset, min(offset + seg, end), seg, to)
        return sent

    def _drop(self, reason: str, count: int) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + count


def open_udp(
    host: str,
    port: int,
    *,
    dual_stack: bool,
    receive_buffer: int = RECEIVE_BUFFER,
    make: Callable[[socket.socket], UdpPort] = UdpPort,
) -> UdpPort:
    """Open and bind a UDP port at a numeric address; port 0 lets the kernel choose. `receive_buffer` is in bytes.

    A dual-stack wildcard is IPv4's own on a kernel without IPv6.

    Raises OSError as `socket` and `bind` does, and `HostError` when the address is not numeric.
    """
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=flags)[0]
    except socket.gaierror:
        raise HostError(f"cannot listen on {host!r}: give a numeric IP address, 0.0.0.0 or :: for all") from None
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT and dual_stack and host == "::":
            return open_udp("0.0.0.0", port, dual_stack=False, receive_buffer=receive_buffer, make=make)  # noqa: S104
        raise
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        set_buffers(sock, receive_buffer)
        with contextlib.suppress(OSError):  # kernels before 5.0 bring one datagram a call
            sock.setsockopt(SOL_UDP, UDP_GRO, 1)
        if family == socket.AF_INET or dual_stack:
            sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_OMIT)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return make(sock)


def set_buffers(sock: socket.socket, receive_buffer: int | None = None) -> None:
    """Set both buffers of a socket; without `receive_buffer` (bytes) only the one for sending."""
    if receive_buffer is not None:
        _set_buffer(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_buffer)
    _set_buffer(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, _SEND_BUFFER)


def _set_buffer(sock: socket.socket, forced: int, plain: int, size: int) -> None:
    """Set a socket buffer beyond the system's limit, or up to it without CAP_NET_ADMIN."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, plain, size)
