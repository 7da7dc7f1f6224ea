"""A port of TCP connections on a simulated host, as a transport sees the runtime's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count

from ltunnel.plugin import Address, Buffer, Endpoint, PortKind, PortSpec, StreamEvent, write_address
from ltunnel.testing.datagrams import TCP, Packet, SimEndpoint, canonical, version_of
from ltunnel.testing.host import Host
from ltunnel.testing.tcp import ACK, HEADER, RST, SYN, SimTcp, State

_RECEIVE_ROOM = 65_536
_FAR_TOO_MUCH = 4  # times `queue`: what `send` refuses


class _Line:
    """A connection and what the transport has been told of it."""

    def __init__(self, port: SimStreamPort, name: Endpoint, far: SimEndpoint, *, accepted: bool) -> None:
        self.port = port
        self.name = name
        self.far = far
        self.near: tuple[str | None, int] = (None, 0)
        self.to_announce = False
        self._accepted = accepted
        self.tcp = SimTcp(port.host.network, self._transmit, self._changed, mss=port.mss, buffer=port.buffer)

    def deliver(self, packet: Packet) -> bool:
        """Take a packet from the host's interfaces."""
        if packet.source == self.far:
            self.tcp.receive(packet.payload)
        return True

    @property
    def has_news(self) -> bool:
        return self.to_announce or bool(self.tcp.readable) or self.tcp.ended

    def _transmit(self, payload: bytes) -> bool:
        return self.port.host.send(self.near, self.far, payload, TCP)

    def _changed(self) -> None:
        if self._accepted and self.tcp.state is State.OPEN:
            self._accepted, self.to_announce = False, True
        self.port.changed(self)


class SimStreamPort:
    """`ltunnel.plugin.StreamPort` over a simulated host.

    `queue` is how many bytes may wait unsent, from which `room` counts down. `chunk` says how many bytes each `recv`
    returns at most, so that a transport meets its records and lengths cut at any place; None: all there is. `mss` and
    `buffer` are those of `SimTcp`.
    """

    def __init__(
        self, host: Host, spec: PortSpec, *, queue: int = 1 << 18, chunk: Callable[[], int] | None = None,
        mss: int = 1200, buffer: int = 1 << 20,
    ) -> None:  # fmt: skip
        if spec.kind is not PortKind.STREAM:
            raise ValueError(f"not a stream port: {spec.kind.value}")
        self.host = host
        self.queue = queue
        self.chunk = chunk
        self.mss = mss
        self.buffer = buffer
        self.sent = 0
        """Bytes that were taken to be sent."""
        self.refused = 0
        """Calls of `send` that were not."""
        self.longest_queue = 0
        """The most bytes that ever waited unsent on one connection."""
        self._serial = count(1)
        self._lines: dict[Endpoint, _Line] = {}
        self._half_open: set[_Line] = set()
        self._lingering: set[_Line] = set()
        self._ready: deque[_Line] = deque()
        address = canonical(spec.host)
        is_wildcard = address in ("0.0.0.0", "::")  # noqa: S104 (of a simulated host)
        self._source = None if is_wildcard else address
        self._listens = bool(spec.extra.get("listen"))
        number = 0
        if self._listens:
            everything = is_wildcard and version_of(address) == 6 and spec.dual_stack
            number = host.bind(self, None if everything else address, spec.port, TCP)
        self.local: Endpoint = (address, number, 0, 0) if version_of(address) == 6 else (address, number)

    # ---------------------------------------------------------------- as a StreamPort

    def connect(self, remote: Address) -> Endpoint:
        """Begin a connection and return its name."""
        far = (canonical(remote[0]), remote[1])
        line = self._make_line(far, accepted=False)
        self._lines[line.name] = line
        line.near = (self._source, self.host.bind(line, self._source, 0, TCP))
        if not line.tcp.connect():
            line.tcp.abort()
        return line.name

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:  # noqa: ARG002
        """Send ``buf[start:end]`` on a connection, all or nothing."""
        line = self._lines.get(to)
        if line is None or line.tcp.state is State.CLOSED or line.tcp.unsent > _FAR_TOO_MUCH * self.queue:
            self.refused += 1
            return False
        line.tcp.send(bytes(buf[start:end]))
        self.sent += end - start
        self.longest_queue = max(self.longest_queue, line.tcp.unsent)
        return True

    def room(self, connection: Endpoint) -> int:
        """Return how many bytes may be sent now."""
        line = self._lines.get(connection)
        return 0 if line is None or line.tcp.state is State.CLOSED else max(0, self.queue - line.tcp.unsent)

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive bytes of one connection into ``buf[pos:]``, or an event."""
        if len(buf) - pos < _RECEIVE_ROOM:
            raise ValueError(f"only {len(buf) - pos} bytes of room at {pos}, a port may need {_RECEIVE_ROOM}")
        if not self._ready:
            raise BlockingIOError
        line = self._ready.popleft()
        if line.to_announce:
            line.to_announce = False
            self.changed(line)
            return pos, pos, StreamEvent.ACCEPTED, line.name
        if line.tcp.readable:
            data = line.tcp.read(min(len(buf) - pos, self.chunk() if self.chunk else _RECEIVE_ROOM))
            buf[pos : pos + len(data)] = data
            self.changed(line)
            return pos, pos + len(data), len(data), line.name
        del self._lines[line.name]
        line.tcp.abort()
        self.host.unbind(line)
        return pos, pos, StreamEvent.CLOSED, line.name

    def disconnect(self, connection: Endpoint) -> None:
        """Close a connection; what was sent before still arrives."""
        line = self._lines.pop(connection, None)
        if line is not None:
            if line in self._ready:
                self._ready.remove(line)
            self._lingering.add(line)
            line.tcp.finish()
            self.changed(line)

    def describe(self, connection: Endpoint) -> str:
        """Name the far end."""
        if connection not in self._lines:
            return ""
        host, number = connection[:2]
        return write_address((host, number))

    # ---------------------------------------------------------------- as a part of a host

    @property
    def pending(self) -> int:
        """Connections of which there is something to tell."""
        return len(self._ready)

    @property
    def connections(self) -> list[Endpoint]:
        """The names of all connections, also of those that are still being made."""
        return list(self._lines)

    def deliver(self, packet: Packet) -> bool:
        """Take a packet for the port that is listened on."""
        key = (packet.source, (packet.destination[0], packet.destination[1]))
        for line in (*self._lines.values(), *self._half_open, *self._lingering):
            if (line.far, line.near) == key:
                return line.deliver(packet)
        if len(packet.payload) < HEADER.size:
            return True
        flags, _, _, ack = HEADER.unpack_from(packet.payload)
        if flags == SYN:
            line = self._make_line(packet.source, accepted=True)
            self._half_open.add(line)
            line.near = packet.destination
            line.tcp.accept()
        elif not flags & RST:
            self.host.send(packet.destination, packet.source, HEADER.pack(RST | ACK, 0, ack, 0), TCP)
        return True

    def changed(self, line: _Line) -> None:
        """Take note of what became of a connection."""
        if line.tcp.state is State.CLOSED:
            self._half_open.discard(line)
            if line in self._lingering:
                self._lingering.discard(line)
                self.host.unbind(line)
        elif line.to_announce and line in self._half_open:
            self._half_open.discard(line)
            self._lines[line.name] = line
        if line.name in self._lines and line.has_news and line not in self._ready:
            self._ready.append(line)
            self.host.network.ready[self] = None

    def close(self) -> None:
        """Give the port back, as the kernel does for a program that has ended: connections are reset."""
        for line in (*self._lines.values(), *self._half_open, *self._lingering):
            line.tcp.abort()
            self.host.unbind(line)
        self._lines.clear()
        self._ready.clear()
        self.host.unbind(self)
        self.host.network.ready.pop(self, None)

    def _make_line(self, far: SimEndpoint, *, accepted: bool) -> _Line:
        return _Line(self, (*far, next(self._serial)), far, accepted=accepted)
