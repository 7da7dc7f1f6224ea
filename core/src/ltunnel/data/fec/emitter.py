"""Shards' plaintexts to sealed datagrams: data at once, parity with all other that has come up by the end of a turn.

Sending costs by the call more than by the datagram, and parity of one group is few of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, HEADROOM, MAX_DATAGRAM, MAX_ROWS, REJECT_AFTER_PACKETS
from ltunnel.data.fec.grids import Slots
from ltunnel.data.grid import Arena, Bytes2D, GridCache, Nonces
from ltunnel.plugin import Buffer, Transport
from ltunnel.session import Epoch, Peer

_HEADER = Struct(">IQ")
_MANY = 8  # rows for which it pays to have all views ready

Send = Callable[[Peer, int, int, float], None]
"""(peer, end, size, now): send ``HEADROOM:end`` of the out arena, slots of `size` bytes."""


class Emitter:
    """Seals and sends, with the out arena, nonces and transports of the data path."""

    __slots__ = ("_nonces", "_out", "_parity", "_send", "_slots", "_transports")

    def __init__(self, out: Arena, nonces: Nonces, transports: Sequence[Transport], send: Send) -> None:
        self._out = out
        self._nonces = nonces
        self._transports = transports
        self._send = send
        self._slots = GridCache(lambda *geometry: Slots(out, *geometry), limit=16)
        self._parity: dict[Epoch, list[Buffer]] = {}

    def prefix(self, peer: Peer) -> int:
        """Return how many bytes the peer's transport wants in front of each datagram."""
        assert peer.path is not None  # noqa: S101  # there is an epoch to seal with
        return self._transports[peer.path.transport].prefix

    def hold(self, rows: Bytes2D, epoch: Epoch) -> None:
        """Keep plaintexts of parity shards until `flush`."""
        whole, length = rows.data.cast("B"), rows.shape[1]
        plain = [whole[at : at + length] for at in range(0, len(whole), length)]
        epoch.peer.fec.parity_sent += len(plain)
        self._parity.setdefault(epoch, []).extend(plain)

    def flush(self, now: float) -> None:
        """Send what is held."""
        while self._parity:
            epoch, plain = self._parity.popitem()
            if epoch.peer.path is not None and epoch.usable(now):
                self._runs(plain, epoch, now)

    def _runs(self, plain: list[Buffer], epoch: Epoch, now: float) -> None:
        lengths = [*map(len, plain)]
        at = 0
        while at < len(plain):
            length, stop = lengths[at], at + lengths[at:].count(lengths[at])
            if lengths[at:stop] != [length] * (stop - at):
                stop = next(i for i in range(at, len(plain)) if lengths[i] != length)
            self.emit(plain[at:stop], epoch, now)
            at = stop

    def emit(self, plain: Sequence[Buffer], epoch: Epoch, now: float) -> None:
        """Seal and send plaintexts of equal length, of which the last may be shorter."""
        length, peer = len(plain[0]), epoch.peer
        prefix = self.prefix(peer)
        limit = max(1, min(MAX_ROWS, MAX_DATAGRAM // (prefix + length + DATA_OVERHEAD)))
        for at in range(0, len(plain), limit):
            part = plain[at : at + limit]
            count = len(part)
            if epoch.counter + count > REJECT_AFTER_PACKETS:
                return
            seal = self._seal_many if count >= _MANY else self._seal_few
            self._send(peer, seal(part, length, prefix, epoch), prefix + length + DATA_OVERHEAD, now)

    def _seal_many(self, plain: Sequence[Buffer], length: int, prefix: int, epoch: Epoch) -> int:
        count = len(plain)
        slots, nonces = self._slots.get(length, prefix), self._nonces
        nonces.fill(count, epoch.send_word, epoch.take(count))
        slots.headers[:count] = nonces.array[:count]
        short = length - len(plain[-1])
        sealed = slots.sealed
        if short:
            sealed = sealed[: count - 1]
            at = HEADROOM + (count - 1) * slots.slot + prefix + DATA_HEADER
            sealed.append(self._out.view[at : at + slots.slot - prefix - DATA_HEADER - short])
        epoch.sealer.seal(nonces.views, plain, sealed)
        return HEADROOM + count * slots.slot - short

    def _seal_few(self, plain: Sequence[Buffer], _length: int, prefix: int, epoch: Epoch) -> int:
        out = self._out.view
        counter = epoch.take(len(plain))
        nonces, sealed, pos = [], [], HEADROOM
        for number, row in enumerate(plain, counter):
            at = pos + prefix
            pos = at + len(row) + DATA_OVERHEAD
            _HEADER.pack_into(out, at, epoch.send_word, number)
            nonces.append(out[at : at + DATA_HEADER])
            sealed.append(out[at + DATA_HEADER : pos])
        epoch.sealer.seal(nonces, plain, sealed)
        return pos
