"""Ports: the only way in which a plugin touches the network.

A transport names the ports it needs (`PortSpec`), the runtime opens them and hands them over; in tests a simulated port
takes their place. So a plugin never opens a socket, and the same code runs in a simulation without root.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

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

    UDP = "udp"
    PACKET = "packet"
    TUN = "tun"
    STREAM = "stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSpec:
    """A port that a transport asks for.

    `host` and `port` are what it binds to; port 0 lets the kernel choose. `dual_stack` on an IPv6 wildcard takes IPv4
    too. `extra` holds what only one kind needs (a packet port's filter, a stream's listen flag).
    """

    kind: PortKind
    host: str
    port: int
    dual_stack: bool = False
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
