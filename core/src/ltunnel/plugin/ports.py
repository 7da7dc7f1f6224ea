"""Ports: the only way in which a plugin touches the network.

A transport names the ports it needs (`PortSpec`), the runtime opens them and hands them over; in tests a simulated port
takes their place. So a plugin never opens a socket, and the same code runs in a simulation without root.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple, Protocol, runtime_checkable

Buffer = memoryview
"""A view of a preallocated bytearray, format ``B``, one-dimensional."""

Address = tuple[str, int]
"""Numeric IP address and port number, as in a config: ``("192.0.2.1", 9000)``, ``("2001:db8::1", 9000)``."""

Endpoint = tuple[Any, ...]
"""Where a port sends to or received from; hashable, comparable, opaque to the core. UDP ports use what `socket` uses:
``(host, port)`` for IPv4, ``(host, port, flowinfo, scope_id)`` for IPv6."""

Flow = Any
"""What a transport calls one far end; hashable and comparable. For UDP it is the endpoint itself."""


class PortKind(Enum):
    """What a port is made of."""

    UDP = "udp"  # a UDP socket: `Port`
    RAW = "raw"  # whole IP packets of one protocol, to some port numbers: `RawPort`
    STREAM = "stream"  # TCP connections, made or accepted: `StreamPort`


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A port that a transport asks for.

    `host` and `port` are what it binds to; port 0 lets the kernel choose. `dual_stack` on an IPv6 wildcard takes IPv4
    too. `extra` holds what only one kind needs: for RAW ``protocol`` (6), ``backend`` ("auto", "packet" or "tun") and
    ``numbers`` (how many local port numbers, 1 unless given; only with port 0), for STREAM ``listen`` (bool).

    Two transports of a hub may ask for the same UDP number. They then share it, if `accepts` tells their datagrams
    apart: it gets a datagram as it came and says whether that is the transport's. It is asked for the first of each
    batch, so it must be quick, and the transport must drop what it does not know. None takes what no other accepts.
    """

    kind: PortKind
    host: str
    port: int
    dual_stack: bool = False
    accepts: Callable[[Buffer], bool] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


class Port(Protocol):
    """A socket or device that the runtime opened. Never blocks."""

    local: Endpoint
    """The address that it is bound to."""

    def send(self, buf: Buffer, start: int, end: int, seg: int, to: Endpoint) -> bool:
        """Send ``buf[start:end]`` as datagrams of `seg` bytes (the last may be shorter, at most 64) to one endpoint.

        Returns False when the kernel's queue is full or the far end is unreachable; the datagrams are then lost and
        the port has counted them. Raises nothing for what the network does.
        """
        ...

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive into ``buf[pos:]``: (start, end, seg, from), equal datagrams of `seg` bytes, the last may be shorter.

        Raises `BlockingIOError` when nothing waits. `buf` has at least 65,536 bytes after `pos`.
        """
        ...


class Route(NamedTuple):
    """How packets of a RAW port get to a host."""

    source: bytes
    """Packed address that the port wants as their source."""
    mtu: int
    seen_as: bytes
    """Packed address with which they leave this machine: where its own kernel translates, another than `source`."""


@runtime_checkable
class HopLimit(Protocol):
    """What UDP ports can do besides; the core uses it, and no transport needs to."""

    def limit_hops(self, hops: int) -> None:
        """Let what is sent from now on pass so many routers at most; 0: as many as usual."""
        ...


class RawPort(Port, Protocol):
    """IP packets of one protocol, to and from a few local port numbers, with a virtio-net header in front of each.

    A packet is ``virtio-net header 10 | IP header | transport header | payload`` and may be a super-packet of up to
    65,535 bytes (IP header included), which the kernel cuts into segments of ``gso_size``. The port keeps its numbers
    from other programs, but nothing listens on them: the kernel's resets are for `HostRuleKind.DROP_RESETS` to stop.

    `send`: ``buf[start:end]`` is one packet, `start` that of the virtio-net header; `to` is (host,). The packet is as
    an IP layer hands it down: IP header complete, the transport checksum partial (flag NEEDS_CSUM, the field holds the
    folded sum of the pseudo-header). ``csum_start`` and ``hdr_len`` count from the IP header; a port whose device
    counts from a link header adds that. `seg` is the payload of a segment; a packet with more payload has gso_type
    TCPV4 or TCPV6 and ``gso_size`` = `seg`, another has gso_type NONE. The port may write over the virtio-net header
    and the 32 bytes in front of it, nothing else. False when the packet did not leave.

    `recv`: (start, end, seg, (host,)), `start` that of the virtio-net header, in `buf` from `pos` on: one packet, or
    what GRO made of several. `seg` is ``gso_size``, 0 for a packet that stands for itself; nothing else of the
    virtio-net header means anything to the transport. Only packets for this host, in the protocol and to one of the
    numbers, are delivered, no IP fragments. Link-layer padding may follow: the packet ends where its IP header says.
    Nothing else is checked: addresses, options, flags, even checksums that the kernel did not verify are as they came.
    Once something has arrived the runtime calls again until `recv` has raised `BlockingIOError`, so a transport may
    work off one packet before it asks for the next.
    """

    numbers: Sequence[int]
    """The local port numbers, all open at once; the first is that of `local`."""
    secret: bytes
    """32 random bytes, others at each opening: for keyed hashes, so that a transport needs no source of randomness."""
    changes: int
    """Another number when what `route` returns may have changed. A change wakes the port as a packet does; `recv` then
    mostly has nothing."""

    def route(self, host: str) -> Route | None:
        """Return how packets get to `host` as things are now, None without a route."""
        ...


class StreamEvent(IntEnum):
    """What an empty range from `StreamPort.recv` says of its connection, in the place of `seg`."""

    CLOSED = 0  # it has ended, or could not be made; its name is forgotten
    ACCEPTED = 1  # it was made by the far end


class StreamPort(Port, Protocol):
    """TCP connections. Bytes in, bytes out; framing, backpressure and encryption are the transport's.

    A connection has an opaque hashable name, an Endpoint, that no other connection of the port ever has.

    `send` takes the whole range or nothing, and keeps what the kernel does not take at once: False when the connection
    is unknown or closed, or when far more waits than `room` has allowed. `seg` means nothing.

    `recv` returns (start, end, seg, connection): bytes of one connection. An empty range is a `StreamEvent`: `seg` says
    which. Connections take turns. Once something has arrived the runtime calls again until `recv` has raised
    `BlockingIOError`, so a transport may work off one range before it asks for the next.
    """

    def connect(self, remote: Address) -> Endpoint:
        """Begin a connection and return its name at once; bytes sent before it stands are kept until it does."""
        ...

    def room(self, connection: Endpoint) -> int:
        """Return how many bytes may be sent now so that they do not queue for long; 0 for an unknown connection."""
        ...

    def disconnect(self, connection: Endpoint) -> None:
        """Close a connection, of which nothing more is heard; unknown ones are ignored."""
        ...

    def describe(self, connection: Endpoint) -> str:
        """Name the far end: ``192.0.2.7:40122``. An empty text for an unknown connection."""
        ...
