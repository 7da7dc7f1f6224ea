"""One UDP port for several transports: each datagram goes to the transport that says it is its own.

    port ──► SharedPort ──► Branch, a transport's port ──► transport
                  └──► keeps one batch that is another's, until that one is served

Only a hub has such ports, and only where two transports ask for one number; any other port is handed over as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ltunnel.plugin import Buffer, Endpoint, Port, PortKind, PortSpec

TURNS = 64
"""How often the branches take turns before other ports are served."""

Accepts = Callable[[Buffer], bool]
"""Whether a datagram is a transport's."""
Handler = Callable[[float], bool]
"""`Node.handle_port` for one port: takes the time, says whether more may wait."""


def same_number(spec: PortSpec, other: PortSpec) -> bool:
    """Whether two ports have one number of one protocol, TCP (RAW, STREAM) or UDP, at one address."""
    both_udp = (spec.kind is PortKind.UDP) == (other.kind is PortKind.UDP)
    return bool(spec.port) and both_udp and (spec.host, spec.port) == (other.host, other.port)


def can_share(spec: PortSpec, others: Sequence[PortSpec]) -> bool:
    """Whether a port can be had beside others of its number: if datagrams of UDP can be told apart."""
    return spec.kind is PortKind.UDP and all(spec.accepts is not other.accepts for other in others)


class Branch:
    """A transport's part of a shared port; see `ltunnel.plugin.Port`."""

    def __init__(self, shared: SharedPort, accepts: Accepts | None) -> None:
        self.shared = shared
        self.accepts = accepts
        """None for the one that gets what no other accepts."""
        self.local: Endpoint = shared.port.local
        self.send = shared.port.send
        self.handle: Handler = _nobody
        """What is called when something waits for this branch; whoever serves the port sets it."""

    def recv(self, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive a batch that is this branch's."""
        return self.shared.recv(self, buf, pos)

    def close(self) -> None:
        """Close the branch, and the port with the last one."""
        self.shared.remove(self)


class _Batch(NamedTuple):
    data: bytes
    seg: int
    source: Endpoint


class SharedPort:
    """A UDP port that several transports receive from.

    What one call of `Port.recv` brings comes from one source, so its first datagram speaks for all of it; whoever mixes
    kinds loses what the transport does not know. What is another branch's is kept, one batch, and nothing more is read
    until that branch has taken it: so what waits, waits in the kernel, where it is bounded.
    """

    def __init__(self, port: Port, close: Callable[[], None]) -> None:
        self.port = port
        self._close = close
        self._branches: list[Branch] = []
        self._kept: _Batch | None = None
        self._turn: Branch | None = None
        """Whose is what is kept, or else who received last."""

    def add(self, branch: Branch) -> None:
        """Add a transport's part. The one that accepts anything is asked last."""
        self._branches.append(branch)
        self._branches.sort(key=lambda each: each.accepts is None)
        self._turn = self._branches[-1]

    def remove(self, branch: Branch) -> None:
        """Remove a branch; the port is closed with the last one."""
        if branch not in self._branches:
            return
        self._branches.remove(branch)
        self._kept = None
        if self._branches:
            self._turn = self._branches[-1]
        else:
            self._close()

    def recv(self, branch: Branch, buf: Buffer, pos: int) -> tuple[int, int, int, Endpoint]:
        """Receive a batch for a branch. Raises `BlockingIOError` when nothing waits, or another is next."""
        kept = self._kept
        if kept is not None:
            if self._turn is not branch:
                raise BlockingIOError
            self._kept = None
            end = pos + len(kept.data)
            buf[pos:end] = kept.data
            return pos, end, kept.seg, kept.source
        start, end, seg, source = self.port.recv(buf, pos)
        self._turn = owner = self._owner(buf[start : min(end, start + seg)])
        if owner is branch:
            return start, end, seg, source
        self._kept = _Batch(bytes(buf[start:end]), seg, source)
        raise BlockingIOError

    def serve(self, now: float) -> bool:
        """Let each branch receive that has something. True when more may wait."""
        for _ in range(TURNS):
            branch = self._turn
            assert branch is not None  # noqa: S101  # nobody serves a port without branches
            more = branch.handle(now)
            if self._kept is None:
                return more
        return True

    def _owner(self, datagram: Buffer) -> Branch:
        for branch in self._branches:
            if branch.accepts is None or branch.accepts(datagram):
                return branch
        return self._branches[-1]  # nobody's: as good as any, it counts what it does not know


def _nobody(_now: float) -> bool:
    return False
