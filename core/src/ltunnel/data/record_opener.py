"""Records on their way in: parts to where they belong, and what is complete opened and delivered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ltunnel.constants import DATA_HEADER, MAX_ROWS, REJECT_AFTER_PACKETS, TAG
from ltunnel.data.batch import Batch
from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.groups import PATIENCE
from ltunnel.data.fec.record_parity import HEAD, TRAILER, RecordParity, Shape
from ltunnel.data.grid import Bytes2D
from ltunnel.data.records import LONGEST, Assembly, Record, counters
from ltunnel.data.relay_frames import Relays
from ltunnel.plugin import Flow
from ltunnel.session import Drop, Epoch, Stats
from ltunnel.wire.types import FrameType, MessageType

REMEMBERED = 64
"""Records of which it is known that they came whole."""

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
        self._opened: dict[tuple[int, int], int] = {}  # (index, first counter) of the last records -> parts

    def take(self, batch: Batch, begin: int, end: int, word: int, header: int, now: float) -> None:
        """Put rows `begin` .. `end`, neighbouring parts of one record, where they belong; open what is complete."""
        parts, part, size, counter = header >> 56, header >> 48 & 0xFF, header >> 32 & 0xFFFF, header & 0xFFFFFFFF
        first, count = counter - part, end - begin
        epoch = self._sessions.get(word & 0xFFFFFF)
        if epoch is None:
            self._stats.drop(Drop.UNKNOWN_INDEX, count)
            return
        drops, taken = epoch.peer.stats, counters(parts, size)
        if first < 0 or part + count > parts or parts > MAX_ROWS or not 0 < size * parts <= LONGEST:
            drops.drop(Drop.MALFORMED, count)
        elif first + taken > REJECT_AFTER_PACKETS or not epoch.usable(now):
            drops.drop(Drop.EXPIRED, count)
        elif not epoch.window.fresh(first, taken):
            drops.drop(Drop.REPLAYED, count)
        elif parts == 1:
            self._take_whole(batch, begin, epoch, size, first, taken, now)
        else:
            record = self.assembly.get(word, parts, size, first, now)
            if not self._collect(record, batch, begin, end, part):
                drops.drop(Drop.MALFORMED, count)
            elif record.complete:
                length = self._open(record, epoch)
                if length:
                    size = record.length + DATA_HEADER * parts
                    self._accept(batch.transport, batch.flow, epoch, first, parts, size, now)
                    self._deliver(epoch, length, now)
                    self._note(record)
            elif record.parity is not None:
                self._repair(record, epoch, now)

    def _take_whole(self, batch: Batch, row: int, epoch: Epoch, size: int, first: int, taken: int, now: float) -> None:
        """Open and deliver a record of one part, which takes `taken` counters from `first` on."""
        body, _ = batch.row(row)
        sealed, plain = len(body), self._delivery.arena
        length = sealed - TAG
        if sealed > size:
            epoch.peer.stats.drop(Drop.MALFORMED)
        elif length <= 0 or not epoch.opener.open((batch.nonces[row],), (body,), (plain.view[:length],)):
            epoch.peer.stats.drop(Drop.FORGED)
        else:
            self._accept(batch.transport, batch.flow, epoch, first, taken, sealed + DATA_HEADER, now)
            self._deliver(epoch, length, now)

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

    def _open(self, record: Record, epoch: Epoch) -> int:
        """Open a complete record at the start of the delivery's arena; return its length, 0 if it is not authentic."""
        sealed = record.length
        length = sealed - TAG
        self.assembly.forget(record)
        if length > 0 and epoch.opener.open(
            (record.nonce,), (record.arena.view[:sealed],), (self._delivery.arena.view[:length],)
        ):
            return length
        epoch.peer.stats.drop(Drop.FORGED, record.parts)
        return 0

    def _deliver(self, epoch: Epoch, length: int, now: float) -> None:
        """Deliver what an opened record of `length` bytes holds."""
        plain = self._delivery.arena
        frame = plain.data[length - 1]
        if frame == FrameType.SUPER:
            self._delivery.super_packet(epoch.peer, length, now)
        elif frame == FrameType.BUNDLE:
            self._delivery.bundles(epoch.peer, length, 1, now)
        elif frame == FrameType.RELAY and self.relays is not None and self.relays.takes(epoch.peer):
            self.relays.take_record(epoch, plain, length, now)
        else:
            epoch.peer.stats.drop(Drop.UNKNOWN_TYPE)

    # ---------------------------------------------------------------- parity

    def next_timeout(self) -> float | None:
        """Return when a coded record is to be given up, or None."""
        return min((record.born + PATIENCE for record in self.assembly.coded()), default=None)

    def expire(self, now: float) -> None:
        """Give up coded records that have waited for too long."""
        for record in self.assembly.coded():
            if record.born + PATIENCE <= now:
                self.assembly.forget(record)

    def take_parity(self, epoch: Epoch, rows: Bytes2D, codes: Codes, now: float) -> None:
        """Take parity frames, an array of them. On a path that loses nothing their records are open already."""
        fec, size = epoch.peer.fec, rows.shape[1] - TRAILER.size
        fec.parity_received += len(rows)
        if size <= 0:
            epoch.peer.stats.drop(Drop.MALFORMED, len(rows))
            return
        joined = rows[:, size : size + HEAD.size].tobytes()
        heads = [joined[at : at + HEAD.size] for at in range(0, len(joined), HEAD.size)]
        for head in dict.fromkeys(heads):
            first, parts = HEAD.unpack(head)
            if parts and not epoch.window.fresh(first, parts):
                fec.wasted += heads.count(head)
                fec.data_received += self._opened.pop((epoch.local_index, first), 0)
                continue
            for row, other in zip(rows, heads, strict=True):
                if other == head:
                    self._keep(epoch, row.tobytes(), codes, now)

    def _keep(self, epoch: Epoch, frame: bytes, codes: Codes, now: float) -> None:
        """Keep a slice of parity with its record, if that is not open; repair the record if that will do."""
        fec, size = epoch.peer.fec, len(frame) - TRAILER.size
        first, parts, last, groups, group, index, k, m, _ = TRAILER.unpack_from(frame, size)
        shape, code = Shape(parts, size, last, groups, k, m), codes.get(k, m)
        if code is None or not shape.has(group, index) or first + parts > REJECT_AFTER_PACKETS:
            fec.refused += 1
            return
        if not epoch.window.fresh(first, parts):  # the slice before has repaired it
            fec.wasted += 1
            return
        record = self.assembly.get(MessageType.RECORD << 24 | epoch.local_index, parts, size, first, now)
        if record.parity is None:
            record.parity = RecordParity(shape, code, fec)
        if record.parity.shape != shape or not record.parity.keep(group, index, frame[:size]):
            fec.refused += 1
            return
        self._repair(record, epoch, now)

    def _repair(self, record: Record, epoch: Epoch, now: float) -> None:
        """Make again what a coded record lacks, if there is enough, and deliver it."""
        restored = record.restore()
        if not restored:
            return
        length = self._open(record, epoch)
        if not length:
            return
        self._commit(record, epoch, restored)
        fec, delay, parity = epoch.peer.fec, now - record.born, record.parity
        assert parity is not None  # noqa: S101  # it has just been used
        fec.data_received += record.parts - len(restored)
        fec.recovered += len(restored)
        fec.wasted += parity.count - len(restored)
        fec.delay += delay * len(restored)
        fec.longest_delay = max(fec.longest_delay, delay)
        self._deliver(epoch, length, now)

    @staticmethod
    def _commit(record: Record, epoch: Epoch, restored: Sequence[int]) -> None:
        """Mark the counters of parts that came. Not the others, so that reports tell of the loss; all are used up."""
        window, start = epoch.window, 0
        for lost in (*restored, record.parts):
            if lost > start:
                window.commit(record.first + start, lost - start)
            start = lost + 1
        window.gaps += sum(part - 1 not in restored for part in restored) - 1  # the window has taken them for one
        if len(restored) == record.parts:
            window.commit(record.first)  # one is marked at least, or it could be made, and delivered, again

    def _note(self, record: Record) -> None:
        """Remember that all parts of a record came: if parity follows, they are counted as shards."""
        if len(self._opened) >= REMEMBERED:
            del self._opened[next(iter(self._opened))]
        self._opened[record.word & 0xFFFFFF, record.first] = record.parts
