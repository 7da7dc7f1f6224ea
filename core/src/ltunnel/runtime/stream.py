"""TCP connections as a `StreamPort`: those that come in on a listening socket, or those that are made.

    loop ── epoll of the port ─┬─ listening socket
                               ├─ connections
                               └─ flag: `recv` has not yet said that nothing is left

All descriptors of a port are in an epoll instance of its own, whose descriptor the loop watches as it does a socket's.
Work is bounded: so many accepts a turn and a second, so many connections, so many bytes that wait on each.

What waits in the kernel unsent is delay for all that comes after it. `room` allows as much as leaves within 50 ms at
the rate that the kernel has measured, so that what travels inside sees a short queue and loss instead of a long queue.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import sys
import time
from collections import deque
from ipaddress import IPv6Address
from struct import Struct, pack

from ltunnel.errors import HostError
from ltunnel.plugin import Address, Buffer, Endpoint, StreamEvent, write_address
from ltunnel.runtime.loop import make_event

QUEUE_TIME = 0.05
"""Seconds that what `room` allows takes to leave."""
QUEUE_LIMIT = 256 << 10
"""Bytes that `room` allows at most, besides what the congestion window takes at once."""
QUEUE_LEAST = 8 << 10
"""Bytes that `room` allows at least: a few packets, however slow the line is."""

MAX_CONNECTIONS = 4096
ACCEPTS_A_TURN = 16
ACCEPTS_A_SECOND = 200
ACCEPTS_AT_ONCE = 400

_KEPT_LIMIT = 1 << 20  # bytes that `send` keeps for one connection, far above what `room` allows
_BACKLOG = 256
_EVENTS = 64
_SPARE_DESCRIPTORS = 64  # of those that the process may have, for all else

_USER_TIMEOUT = 10_000  # ms that data goes unacknowledged before a connection is given up (RFC 5482)
_KEEPALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}  # seconds, seconds, probes
_RESET = pack("ii", 1, 0)  # SO_LINGER: close with RST, and leave no TIME_WAIT behind

# struct tcp_info of linux/tcp.h: flags at 7, snd_mss 16, unacked 24, rtt (us) 68, snd_cwnd 80, notsent_bytes 144,
# delivery_rate (bytes/s) 160
_TCP_INFO = Struct("=7xB8xI4xI40xI8xI60xI12xQ")
_APP_LIMITED = 1 if sys.byteorder == "little" else 0x80  # the first bit of a bit field

_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class _Connection:
    __slots__ = ("failed", "kept", "name", "sock", "text", "to_announce", "up")

    def __init__(self, sock: socket.socket, name: Endpoint, text: str, *, accepted: bool) -> None:
        self.sock = sock
        self.name = name
        self.text = text
        self.up = accepted
        self.to_announce = accepted
        self.failed = False
        self.kept = bytearray()
        """What the kernel has not taken yet."""


class TcpPort:
    """See `ltunnel.plugin.StreamPort`. `listener` is a listening socket, None for a port that only connects.

    `source` is what connections that it makes are bound to, None for any address. `drops` counts connections that were
    refused ("too many connections", "too many a second") and batches that nobody kept ("queue full").
    """

    def __init__(self, listener: socket.socket | None, local: Endpoint, source: str | None = None) -> None:
        self.local = local
        self.drops: dict[str, int] = {}
        self._listener = listener
        self._source = source
        self._connections: dict[Endpoint, _Connection] = {}
        self._by_fd: dict[int, _Connection] = {}
        self._ready: deque[_Connection] = deque()
        self._serial = 0
        self._limit = _connection_limit()
        self._tokens, self._filled = float(ACCEPTS_AT_ONCE), time.monotonic()
        self._epoll = select.epoll()
        self._flag = make_event()
        self._flagged = False
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._epoll.register(self._flag, _IN)
        if listener is not None:
            self._epoll.register(listener, _IN)

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the port and all connections."""
        for connection in self._connections.values():
            connection.sock.close()
        if self._listener is not None:
            self._listener.close()
        self._epoll.close()
        os.close(self._flag)
        os.close(self._spare)

    # ---------------------------------------------------------------- as a StreamPort

    def connect(self, remote: Address) -> Endpoint:
        """Begin a connection and return its name at once."""
        host, port = remote
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        connection = self._add(sock, host, port, accepted=False)
        try:
            _set_options(sock)
            if self._source is not None:
                sock.bind((self._source, 0))
            sock.connect(remote)
        except BlockingIOError:  # as it should be
            pass
        except OSError:
            self._fail(connection)
        return connection.name

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:  # noqa: ARG002
        """Send ``buf[start:end]`` on a connection, all or nothing."""
        connection = self._connections.get(to)
        if connection is None or connection.failed:
            return False
        kept = connection.kept
        if kept or not connection.up:
            if len(kept) + end - start > _KEPT_LIMIT:
                self._drop("queue full")
                return False
            kept += buf[start:end]
            return True
        try:
            sent = connection.sock.send(buf[start:end])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._fail(connection)
            return False
        if sent < end - start:
            kept += buf[start + sent : end]
            self._epoll.modify(connection.sock, _IN | _OUT)
        return True

    def room(self, connection: Endpoint) -> int:
        """Return how many bytes leave within `QUEUE_TIME`, at most `QUEUE_LIMIT` on top of the congestion window."""
        found = self._connections.get(connection)
        if found is None or found.failed:
            return 0
        if not found.up:
            return max(0, QUEUE_LIMIT - len(found.kept))
        raw = found.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        if len(raw) < _TCP_INFO.size:  # Linux before 4.9
            return max(0, QUEUE_LEAST - len(found.kept))
        info: tuple[int, ...] = _TCP_INFO.unpack(raw)
        flags, mss, unacked, rtt, window, unsent, rate = info
        if flags & _APP_LIMITED or not rate:  # what was measured is what was sent, not what the line can do
            rate = max(rate, window * mss * 1_000_000 // max(rtt, 1))
        allowed = min(max(int(rate * QUEUE_TIME), QUEUE_LEAST), QUEUE_LIMIT)
        if not unsent:
            allowed += max(0, window - unacked) * mss
        return max(0, allowed - unsent - len(found.kept))

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive bytes of one connection into ``buf[pos:]``, or an event."""
        while True:
            if not self._ready:
                if self._look():
                    continue
                if self._flagged:
                    self._flagged = False
                    os.eventfd_read(self._flag)
                raise BlockingIOError
            connection = self._ready.popleft()
            if connection.name not in self._connections:
                continue
            if connection.to_announce:
                connection.to_announce = False
                return self._tell(pos, pos, StreamEvent.ACCEPTED, connection)
            size = 0
            if not connection.failed:
                try:
                    size = connection.sock.recv_into(buf[pos:])
                except BlockingIOError:
                    continue
                except OSError:  # reset, timed out, unreachable
                    pass
            if size:
                return self._tell(pos, pos + size, size, connection)
            self.disconnect(connection.name)
            return self._tell(pos, pos, StreamEvent.CLOSED, connection)

    def disconnect(self, connection: Endpoint) -> None:
        """Close a connection; what the kernel has taken still arrives."""
        found = self._connections.pop(connection, None)
        if found is not None:
            del self._by_fd[found.sock.fileno()]
            self._epoll.unregister(found.sock)
            found.sock.close()

    def describe(self, connection: Endpoint) -> str:
        """Name the far end."""
        found = self._connections.get(connection)
        return "" if found is None else found.text

    # ---------------------------------------------------------------- what happened

    def _tell(self, start: int, end: int, seg: int, connection: _Connection) -> tuple[int, int, int, Endpoint]:
        if not self._flagged:
            self._flagged = True
            os.eventfd_write(self._flag, 1)
        return start, end, seg, connection.name

    def _look(self) -> bool:
        """Ask the kernel what happened; False when nothing did."""
        anything = False
        for fd, events in self._epoll.poll(0, _EVENTS):
            if fd == self._flag:
                continue
            anything = True
            connection = self._by_fd.get(fd)
            if connection is None:
                self._accept()
                continue
            if events & _OUT:
                self._flush(connection)
            if events & ~_OUT:
                self._ready.append(connection)
        return anything

    def _flush(self, connection: _Connection) -> None:
        """Send what was kept, at first when the connection stands."""
        if not connection.up:
            if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._fail(connection)
                return
            connection.up = True
        kept = connection.kept
        if kept:
            try:
                sent = connection.sock.send(kept)
            except BlockingIOError:
                return
            except OSError:
                self._fail(connection)
                return
            del kept[:sent]
        if not kept:
            self._epoll.modify(connection.sock, _IN)

    def _fail(self, connection: _Connection) -> None:
        """Let `recv` report a connection as closed."""
        connection.failed = True
        self._ready.append(connection)
        if not self._flagged:
            self._flagged = True
            os.eventfd_write(self._flag, 1)

    # ---------------------------------------------------------------- connections that come in

    def _accept(self) -> None:
        assert self._listener is not None  # noqa: S101  # its descriptor is in the epoll
        now = time.monotonic()
        self._tokens = min(ACCEPTS_AT_ONCE, self._tokens + (now - self._filled) * ACCEPTS_A_SECOND)
        self._filled = now
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self._shed()
                continue  # gone before it was accepted, or no memory for it
            if len(self._connections) >= self._limit:
                self._refuse(sock, "too many connections")
            elif self._tokens < 1:
                self._refuse(sock, "too many a second")
            else:
                self._tokens -= 1
                sock.setblocking(False)
                self._ready.append(self._add(sock, address[0], address[1], accepted=True))

    def _refuse(self, sock: socket.socket, reason: str) -> None:
        self._drop(reason)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.close()

    def _shed(self) -> None:
        """Refuse a connection for which there is no descriptor, by that of the spare one, or epoll would not rest."""
        assert self._listener is not None  # noqa: S101
        os.close(self._spare)
        try:
            with contextlib.suppress(OSError):
                self._refuse(self._listener.accept()[0], "too many connections")
        finally:
            self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _add(self, sock: socket.socket, host: str, port: int, *, accepted: bool) -> _Connection:
        if ":" in host:
            mapped = IPv6Address(host.partition("%")[0]).ipv4_mapped
            host = str(mapped) if mapped else host
        self._serial += 1
        name = (host, port, self._serial)
        text = write_address((host, port))
        connection = _Connection(sock, name, text, accepted=accepted)
        self._connections[name] = self._by_fd[sock.fileno()] = connection
        self._epoll.register(sock, _IN if accepted else _IN | _OUT)
        return connection

    def _drop(self, reason: str) -> None:
        self.drops[reason] = self.drops.get(reason, 0) + 1


def open_stream(host: str, port: int, *, listen: bool, dual_stack: bool) -> TcpPort:
    """Open a port at a numeric address: one that listens there, or one that connects from there.

    Raises OSError as `bind` and `listen` do, and `HostError` when the address is not numeric.
    """
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)[0]
    except socket.gaierror:
        raise HostError(f"cannot listen on {host!r}: give a numeric IP address, 0.0.0.0 or :: for all") from None
    if not listen:
        return TcpPort(None, address, None if host in ("0.0.0.0", "::") else host)  # noqa: S104 (not bound to it)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual_stack)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set_options(sock)  # what it accepts has them too
        sock.bind(address)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return TcpPort(sock, sock.getsockname())


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _USER_TIMEOUT)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _connection_limit() -> int:
    """Return how many connections there may be, so that descriptors are left for all else."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, descriptors - _SPARE_DESCRIPTORS))
