"""Records on their way in: parts to where they belong, and what is complete opened and delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ltunnel.constants import DATA_HEADER, MAX_ROWS, REJECT_AFTER_PACKETS, TAG
from ltunnel.data.batch import Batch
from ltunnel.data.deliver import Delivery
from ltunnel.data.records import LONGEST, Assembly, Record
from ltunnel.data.relay_frames import Relays
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Stats
from ltunnel.wire.types import FrameType

Accept = Callable[[int, Flow, Epoch, int, int, int, float], None]
"""(transport, flow, epoch, first counter, count, bytes, now): commits authenticated counters."""


class RecordOpener:
    """Joins parts and opens records; see `ltunnel.data.records`."""

    def __init__(self, sessions: Mapping[int, Epoch], delivery: Delivery, stats: Stats, accept: Accept) -> None:
        self._sessions = sessions
        self._delivery = delivery
        self._stats = stats
        self._accept = accept
        self.relays: Relays | None = None
        self.assembly = Assembly()

    def take(self, batch: Batch, begin: int, end: int, word: int, header: int, now: float) -> None:
        """Put rows `begin` .. `end`, neighbouring parts of one record, where they belong; open what is complete."""
        parts, part, size, counter = header >> 56, header >> 48 & 0xFF, header >> 32 & 0xFFFF, header & 0xFFFFFFFF
        first, count = counter - part, end - begin
        epoch = self._sessions.get(word & 0xFFFFFF)
        if epoch is None:
            self._stats.drop(Drop.UNKNOWN_INDEX, count)
            return
        drops = epoch.peer.stats
        if first < 0 or part + count > parts or parts > MAX_ROWS or not 0 < size * parts <= LONGEST:
            drops.drop(Drop.MALFORMED, count)
        elif first + parts > REJECT_AFTER_PACKETS or not epoch.usable(now):
            drops.drop(Drop.EXPIRED, count)
        elif not epoch.window.fresh(first, parts):
            drops.drop(Drop.REPLAYED, count)
        else:
            record = self.assembly.get(word, parts, size, first)
            if not self._collect(record, batch, begin, end, part):
                drops.drop(Drop.MALFORMED, count)
            elif record.complete:
                self._open_record(record, batch, epoch, now)

    def _collect(self, record: Record, batch: Batch, begin: int, end: int, part: int) -> bool:
        """Copy parts from a batch. False when their sizes are not those of the record."""
        full = min(end, batch.full) - begin
        if full and batch.grid is not None and batch.size - DATA_HEADER == record.size:
            record.take(part, batch.grid.bodies[begin : begin + full])
            begin, part = begin + full, part + full
        for row in range(begin, end):
            body, _ = batch.row(row)
            if len(body) > record.size or (len(body) < record.size and part != record.parts - 1):
                return False
            record.put(part, body)
            part += 1
        return True

    def _open_record(self, record: Record, batch: Batch, epoch: Epoch, now: float) -> None:
        """Open a complete record and deliver what it holds."""
        sealed = record.length
        length = sealed - TAG
        plain = self._delivery.arena
        self.assembly.forget(record)
        opened = length > 0 and epoch.opener.open(
            (record.nonce,), (record.arena.view[:sealed],), (plain.view[:length],)
        )
        if not opened:
            epoch.peer.stats.drop(Drop.FORGED, record.parts)
            return
        self._accept(
            batch.transport, batch.flow, epoch, record.first, record.parts, sealed + DATA_HEADER * record.parts, now
        )
        frame = plain.data[length - 1]
        if frame == FrameType.SUPER:
            self._delivery.super_packet(epoch.peer, length, now)
        elif frame == FrameType.BUNDLE:
            self._delivery.bundles(epoch.peer, length, 1, now)
        elif frame == FrameType.RELAY and self.relays is not None and self.relays.takes(epoch.peer):
            self.relays.take_record(epoch, plain, length, now)
        else:
            epoch.peer.stats.drop(Drop.UNKNOWN_TYPE)
