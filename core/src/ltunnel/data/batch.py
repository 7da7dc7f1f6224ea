"""One receive call's worth of datagrams from one flow, with a view of each header and of each sealed part."""

from __future__ import annotations

from collections.abc import Sequence

from ltunnel.constants import DATA_HEADER
from ltunnel.data.grid import Arena, Nonces, ReceiveGrid
from ltunnel.plugin import Buffer, Flow


class Batch:
    """`full` datagrams of `size` bytes at a fixed stride and perhaps one shorter one, of `rest` bytes, behind them."""

    __slots__ = ("flow", "full", "grid", "nonces", "rest", "sealed", "short", "size", "transport")

    def __init__(
        self, transport: int, flow: Flow, size: int, full: int, rest: int, nonces: Sequence[Buffer],
        sealed: Sequence[Buffer], grid: ReceiveGrid | None, short: Buffer | None,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.flow = flow
        self.size = size
        self.full = full
        self.rest = rest
        self.nonces = nonces
        self.sealed = sealed
        self.grid = grid
        self.short = short

    @classmethod
    def single(cls, transport: int, flow: Flow, source: Arena, start: int, size: int) -> Batch:
        """Make a batch of one datagram."""
        middle = start + DATA_HEADER
        header, sealed = source.view[start:middle], source.view[middle : start + size]
        return cls(transport, flow, size, 1, 0, (header,), (sealed,), None, None)

    @classmethod
    def of(
        cls,
        transport: int,
        flow: Flow,
        source: Arena,
        grid: ReceiveGrid,
        nonces: Nonces,
        size: int,
        full: int,
        rest: int,
    ) -> Batch:
        """Make a batch of many; the headers are copied into `nonces`."""
        nonces.array[:full] = grid.headers[:full]
        short = None
        if rest:
            start = grid.start + full * grid.stride
            middle = start + DATA_HEADER
            nonces.array[full] = source.array[start:middle]
            short = source.view[middle : start + rest]
        return cls(transport, flow, size, full, rest, nonces.views, grid.sealed, grid, short)

    def row(self, index: int) -> tuple[Buffer, int]:
        """Return the sealed part of datagram `index` and the datagram's size."""
        if index < self.full:
            return self.sealed[index], self.size
        assert self.short is not None  # noqa: S101
        return self.short, self.rest
