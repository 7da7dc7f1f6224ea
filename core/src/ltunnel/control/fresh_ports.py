"""Ports of their own for direct paths: opened when an agent names them, closed when nothing uses them any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ltunnel.control.candidates import ClosePort, OpenPorts
from ltunnel.control.context import Context
from ltunnel.plugin import Limits

KEPT = 30.0
"""Seconds without use after which a port is closed, unless a path goes over it."""
EARLIER = 12.0
"""The same when a new round needs room: a round is over by then."""
MOST = 300
"""Ports open at once, for all peers."""
WAITING = 4
"""Orders that wait for one port to open."""


class FreshPort(NamedTuple):
    """Names a port: the peer that it is for, and the agent's number."""

    peer: bytes
    number: int


@dataclass(slots=True)
class _Open:
    used: float
    transport: int | None = None
    waiting: list[Callable[[int], None]] = field(default_factory=list)


class FreshPorts:
    """Fresh ports by peer and number. `needed` says whether a path goes over a transport."""

    __slots__ = ("_ctx", "_needed", "_ports", "base")

    def __init__(self, ctx: Context, needed: Callable[[int], bool], base: int) -> None:
        self._ctx = ctx
        self._needed = needed
        self._ports: dict[FreshPort, _Open] = {}
        self.base = base
        """The transport whose like they are."""

    def __len__(self) -> int:
        return len(self._ports)

    def use(self, port: FreshPort, then: Callable[[int], None], now: float) -> bool:
        """Call `then` with the port's transport, now or when it is open; False if it cannot be had."""
        known = self._ports.get(port)
        if known is None:
            of_peer = sum(other.peer == port.peer for other in self._ports)
            if of_peer >= Limits.PORTS or len(self._ports) >= MOST:
                return False
            known = self._ports[port] = _Open(now)
            self._ctx.calls.append(OpenPorts(self.base, port))
        known.used = now
        if known.transport is not None:
            then(known.transport)
        elif len(known.waiting) < WAITING:
            known.waiting.append(then)
        else:
            return False
        return True

    def opened(self, port: FreshPort, transport: int | None) -> None:
        """Take a port that was asked for; None if it could not be opened."""
        known = self._ports.get(port)
        if known is None:
            if transport is not None:
                self._ctx.calls.append(ClosePort(transport))
            return
        if transport is None:
            del self._ports[port]
            return
        known.transport = transport
        waiting, known.waiting = known.waiting, []
        for then in waiting:
            then(transport)

    def number(self, transport: int, peer: bytes) -> int:
        """Return the agent's number of a transport; 0 for one that is no fresh port of the peer's."""
        return next(
            (port.number for port, known in self._ports.items() if known.transport == transport and port.peer == peer),
            0,
        )

    def sweep(self, now: float, *, keep: float = KEPT, peer: bytes | None = None) -> Iterator[int]:
        """Close what was not used for `keep` seconds and has no path, of one peer or of all; give the transports."""
        for port, known in list(self._ports.items()):
            if peer is not None and port.peer != peer:
                continue
            if now - known.used < keep or known.transport is None or self._needed(known.transport):
                continue
            del self._ports[port]
            self._ctx.calls.append(ClosePort(known.transport))
            yield known.transport

    def make_room(self, port: FreshPort, now: float) -> list[int]:
        """Let a peer's earlier round go if a port of a new one needs room; return the transports that are closed."""
        if port in self._ports or sum(other.peer == port.peer for other in self._ports) < Limits.PORTS:
            return []
        return list(self.sweep(now, keep=EARLIER, peer=port.peer))
