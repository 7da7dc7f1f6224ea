"""In: opened shards to frames. What arrives is delivered at once, in order; what was lost, when it can be made again.

Shards of a batch are opened back to back into an array (one row each), so that what they say of themselves is read for
all of them at once and payloads are joined by one copy. A group that is whole in a batch costs a dict entry; shards of
any other are kept until it is whole, has been repaired, or is given up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct

import numpy as np

from ltunnel.constants import ROW_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.codes import Codes
from ltunnel.data.fec.groups import PATIENCE, Groups, frame_of
from ltunnel.data.fec.layout import (
    DATA_TRAILER,
    FEC_DATA,
    FEC_PARITY,
    LENGTH,
    NUMBERS,
    TRAILER,
    Trailers,
    trailers_of,
    whole_groups,
)
from ltunnel.data.fec.record_parity import RECORD_PARITY
from ltunnel.data.grid import Arena, Bytes2D
from ltunnel.data.openings import open_alike
from ltunnel.data.record_opener import RecordOpener
from ltunnel.data.segments import Trailer, read_trailer
from ltunnel.plugin import Buffer
from ltunnel.session import Drop, Epoch, Peer
from ltunnel.wire.types import FrameType

CAPACITY = 140_000
SHARDS = (FEC_DATA, FEC_PARITY, RECORD_PARITY)

_PLACES = np.arange(256, dtype=np.uint8)
_TRAILER = Struct(">IBBBB")
_HEAD = np.uint64(32)  # where `used` and the number of the group begin in a trailer
_INDEX = 0xFF << 24  # the bits of the index in a trailer
_DATA_KIND = bytes((FEC_DATA,))
_ROW, _BUNDLE = int(FrameType.ROW), int(FrameType.BUNDLE)


class ShardReceiver:
    """Takes what `Inbound` has opened in `arena`."""

    def __init__(self, codes: Codes, delivery: Delivery, sessions: Mapping[int, Epoch]) -> None:
        self.arena = Arena(CAPACITY)
        self.records: RecordOpener | None = None
        """Where the records are that parity may be of."""
        self._codes = codes
        self._delivery = delivery
        self._sessions = sessions
        self._groups: dict[Epoch, Groups] = {}
        self._due: float | None = None

    def next_timeout(self) -> float | None:
        """Return when a group is to be given up, or None."""
        return self._due

    def handle_timeout(self, now: float) -> None:
        """Give up groups that have waited for too long."""
        if self._due is None or now < self._due:
            return
        for epoch, groups in list(self._groups.items()):
            groups.expire(now)
            if self._sessions.get(epoch.local_index) is not epoch:
                del self._groups[epoch]
        times = [groups.next_timeout() for groups in self._groups.values()]
        if self.records is not None:
            self.records.expire(now)
            times.append(self.records.next_timeout())
        self._due = min((time for time in times if time is not None), default=None)

    def open(self, batch: Batch, at: int, end: int, epoch: Epoch, first: Buffer) -> tuple[int, int]:
        """Open the shards that follow row `at`, whose plaintext is `first`, all behind each other in `arena`.

        Returns how many there are of the length of the first, itself included, and the length of a shorter one behind.
        """
        return open_alike(self.arena, SHARDS, batch, at, end, epoch, first)

    def take(self, epoch: Epoch, count: int, length: int, now: float, rest: int = 0) -> None:
        """Take `count` plaintexts of `length` bytes at 0, and one more of `rest` bytes behind them, if that is not 0.

        All end with one of `SHARDS`.
        """
        groups = self._groups_of(epoch, now)
        end = count * length
        if length <= DATA_TRAILER or (rest and rest <= DATA_TRAILER):
            epoch.peer.stats.drop(Drop.MALFORMED, count + (rest > 0))
            return
        rows = self.arena.array[:end].reshape(count, length)
        kinds = rows[:, -1].tobytes()
        at = 0
        while at < count:
            kind = kinds[at]
            stop = count if kinds[at:] == kinds[at : at + 1] * (count - at) else at + 1
            if stop < count:
                while kinds[stop] == kind:
                    stop += 1
            if kind == FEC_DATA:
                self._data(epoch.peer, groups, at, stop, length, rest if stop == count else 0, now)
            elif kind == FEC_PARITY:
                self._parity(epoch.peer, groups, at, stop, length, now)
            else:
                self._of_records(epoch, rows[at:stop], now)
            at = stop
        if rest and (kinds[-1:] != _DATA_KIND or not self._is_data(end + rest)):
            self._odd(epoch, groups, end, rest, now)

    def take_one(self, epoch: Epoch, length: int, now: float) -> None:
        """Take one plaintext of `length` bytes at 0 of the delivery's arena: the short way for what came alone."""
        peer, groups = epoch.peer, self._groups_of(epoch, now)
        shard = self._delivery.arena.view[:length]
        if length <= DATA_TRAILER:
            peer.stats.drop(Drop.MALFORMED)
        elif shard[-1] == FEC_PARITY:
            self._take_parity(peer, groups, shard, now)
        elif shard[-1] == RECORD_PARITY:
            self._of_records(epoch, self._delivery.arena.array[:length].reshape(1, length), now)
        else:
            peer.fec.data_received += 1
            if self._take_data(peer, groups, shard, now):
                self._deliver_one(peer, length - DATA_TRAILER, now)

    def _groups_of(self, epoch: Epoch, now: float) -> Groups:
        groups = self._groups.get(epoch)
        if groups is None:
            groups = self._groups[epoch] = Groups(self._codes, epoch.peer.fec)
        if self._due is None:
            self._due = now + PATIENCE
        return groups

    # ---------------------------------------------------------------- parity

    def _parity(self, peer: Peer, groups: Groups, at: int, stop: int, length: int, now: float) -> None:
        view, fec = self.arena.view, peer.fec
        heads = (
            trailers_of(self.arena.array[at * length : stop * length].reshape(stop - at, length)) >> _HEAD
        ).tolist()
        useful = {head for head in set(heads) if not groups.is_done(head % NUMBERS)}
        if not useful:
            fec.parity_received += len(heads)
            fec.wasted += len(heads)
            return
        for start, head in zip(range(at * length, stop * length, length), heads, strict=True):
            if head in useful:
                self._take_parity(peer, groups, view[start : start + length], now)
            else:
                fec.parity_received += 1
                fec.wasted += 1

    def _of_records(self, epoch: Epoch, rows: Bytes2D, now: float) -> None:
        """Take parity of records, an array of it."""
        if self.records is not None:
            self.records.take_parity(epoch, rows, self._codes, now)

    def _take_parity(self, peer: Peer, groups: Groups, shard: memoryview, now: float) -> None:
        peer.fec.parity_received += 1
        head, index, k, m, _ = _TRAILER.unpack_from(shard, len(shard) - TRAILER)
        if groups.is_done(head % NUMBERS):
            peer.fec.wasted += 1
            return
        row = bytes(shard[:-TRAILER])
        for _, restored in groups.take_parity(head % NUMBERS, head // NUMBERS, index, k, m, row, now):
            self._deliver_recovered(peer, restored, now)

    def _deliver_recovered(self, peer: Peer, row: bytes, now: float) -> None:
        frame = frame_of(row)
        if frame is None:
            peer.fec.refused += 1
            return
        self._delivery.arena.data[: len(frame)] = frame
        self._deliver_one(peer, len(frame), now)

    def _deliver_one(self, peer: Peer, length: int, now: float) -> None:
        """Deliver the frame of `length` bytes at 0 of the delivery's arena."""
        data = self._delivery.arena.data
        kind = data[length - 1]
        if kind == _ROW:
            trailer = read_trailer(data, length) if length > ROW_TRAILER else None
            payload = length - ROW_TRAILER - trailer.header_length if trailer else 0
            if trailer is None or not 0 < payload <= trailer.seg:
                peer.stats.drop(Drop.MALFORMED)
            else:
                self._delivery.rows(peer, trailer, 1, payload, now)
        elif kind == _BUNDLE:
            self._delivery.bundles(peer, length, 1, now)
        else:
            peer.stats.drop(Drop.UNKNOWN_TYPE)

    # ---------------------------------------------------------------- data

    def _odd(self, epoch: Epoch, groups: Groups, start: int, length: int, now: float) -> None:
        """Take a shard that stands alone: move it to the front."""
        view = self.arena.view
        view[:length] = bytes(view[start : start + length])
        kind = view[length - 1]
        if kind == FEC_DATA:
            self._data(epoch.peer, groups, 0, 1, length, 0, now)
        elif kind == FEC_PARITY:
            self._parity(epoch.peer, groups, 0, 1, length, now)
        else:
            self._of_records(epoch, self.arena.array[:length].reshape(1, length), now)

    def _is_data(self, end: int) -> bool:
        return self.arena.data[end - 1] == FEC_DATA

    def _data(self, peer: Peer, groups: Groups, at: int, stop: int, length: int, rest: int, now: float) -> None:
        """Take data shards `at` .. `stop` of one length, and the shorter one behind them."""
        end = stop * length
        if rest and not self._is_data(end + rest):
            rest = 0
        count = stop - at
        peer.fec.data_received += count + (rest > 0)
        rows = self.arena.array[at * length : end].reshape(count, length)
        frame = length - DATA_TRAILER
        lengths = rows[:, frame : frame + LENGTH].tobytes()
        if lengths != frame.to_bytes(LENGTH, "big") * count:
            peer.fec.refused += count + (rest > 0)
            return
        fresh = self._place(groups, rows, at, length, now)
        ending = bool(rest) and self._take_data(peer, groups, self.arena.view[end : end + rest], now)
        if fresh is None and not ending:
            self._deliver(peer, at, stop, length, 0, now)
        elif fresh is None:
            self._deliver(peer, at, stop, length, rest, now)
        else:
            for row in fresh:
                self._deliver(peer, at + row, at + row + 1, length, 0, now)
            if ending:
                self._delivery.arena.view[: rest - DATA_TRAILER] = self.arena.view[end : end + rest - DATA_TRAILER]
                self._deliver_one(peer, rest - DATA_TRAILER, now)

    def _place(self, groups: Groups, rows: Bytes2D, at: int, length: int, now: float) -> list[int] | None:
        """Put data shards into their groups; return which are to be delivered, None for all."""
        trailers = trailers_of(rows)
        done, count = whole_groups(trailers)
        if done and not groups.whole(groups.number(int(trailers[0] >> _HEAD) % NUMBERS), count):
            done = 0
        others = range(done, len(rows)) if done else self._not_whole(groups, trailers)
        if not others:
            return None
        refused = self._keep(groups, trailers, others, at, length, now)
        return [row for row in range(len(rows)) if row not in refused] if refused else None

    def _keep(
        self, groups: Groups, trailers: Trailers, which: Sequence[int], at: int, length: int, now: float
    ) -> set[int]:
        """Put shards into groups that are not whole, those of a group at once; return which are not to be delivered."""
        numbers, together = trailers.tolist(), dict[int, list[int]]()
        for row in which:
            together.setdefault(numbers[row] & ~_INDEX, []).append(row)
        view, refused = self.arena.view, set[int]()
        for key, members in together.items():
            low, used, k, m = key >> 32 & NUMBERS - 1, key >> 56, key >> 16 & 0xFF, key >> 8 & 0xFF
            indices = [numbers[row] >> 24 & 0xFF for row in members]
            group = groups.mark(low, used, indices, k, m, now)
            if group is not None and group.data is None:
                continue
            starts = [(at + row) * length for row in members]
            coded = [bytes(view[start : start + length - TRAILER]) for start in starts]
            if group is not None:
                groups.keep(group, indices, coded)
                continue
            for row, index, one in zip(members, indices, coded, strict=True):
                if not groups.take_data(low, used, index, k, m, one, now):
                    refused.add(row)
        return refused

    @staticmethod
    def _not_whole(groups: Groups, trailers: Trailers) -> Sequence[int]:
        """Take note of groups that are whole, in whatever order; return the shards of all others."""
        heads = (trailers >> _HEAD).tolist()
        others = set()
        for head, count in Counter(heads).items():
            if count != head // NUMBERS or not groups.whole(groups.number(head % NUMBERS)):
                others.add(head)
        return [row for row, head in enumerate(heads) if head in others]

    @staticmethod
    def _take_data(peer: Peer, groups: Groups, shard: memoryview, now: float) -> bool:
        """Put a data shard into its group; say whether it is to be delivered."""
        frame = len(shard) - DATA_TRAILER
        if shard[frame : frame + LENGTH] != frame.to_bytes(LENGTH, "big"):
            peer.fec.refused += 1
            return False
        head, index, k, m, _ = _TRAILER.unpack_from(shard, len(shard) - TRAILER)
        row = bytes(shard[:-TRAILER])
        return groups.take_data(head % NUMBERS, head // NUMBERS, index, k, m, row, now)

    # ---------------------------------------------------------------- delivery

    def _deliver(self, peer: Peer, at: int, stop: int, length: int, rest: int, now: float) -> None:
        """Deliver the frames of shards `at` .. `stop`, those that go together as one, and the shorter one behind."""
        frame = length - DATA_TRAILER
        whole = self.arena.array[: stop * length].reshape(stop, length)
        while at < stop:
            kind = whole[at, frame - 1]
            if kind == _ROW:
                done, with_rest = self._rows(peer, whole, at, frame, rest, now)
                if with_rest:
                    rest = 0
            elif kind == _BUNDLE:
                kinds = whole[at:, frame - 1]
                done = len(kinds) if (kinds == kind).all() else int((kinds != kind).argmax())
                self._delivery.arena.array[: done * frame].reshape(done, frame)[:] = whole[at : at + done, :frame]
                self._delivery.bundles(peer, frame, done, now)
            else:
                peer.stats.drop(Drop.UNKNOWN_TYPE)
                done = 1
            at += done
        if rest:
            start, size = stop * length, rest - DATA_TRAILER
            self._delivery.arena.view[:size] = self.arena.view[start : start + size]
            self._deliver_one(peer, size, now)

    def _rows(self, peer: Peer, whole: Bytes2D, at: int, frame: int, rest: int, now: float) -> tuple[int, bool]:
        """Deliver row `at` with those that follow in its super-packet: (rows, whether the shorter one went along)."""
        length = whole.shape[1]
        trailer = read_trailer(self.arena.data, at * length + frame) if frame > ROW_TRAILER else None
        payload = frame - ROW_TRAILER - trailer.header_length if trailer else 0
        if trailer is None or not 0 < payload <= trailer.seg:
            peer.stats.drop(Drop.MALFORMED)
            return 1, False
        done, view, target = 1, self.arena.view, self._delivery.arena
        header = trailer.header_length
        if payload == trailer.seg:
            want = min(len(whole) - at, trailer.rows - trailer.place)
            done = _alike(whole[at : at + want, frame - ROW_TRAILER : frame], trailer)
        if done == 1:
            target.view[: payload + header] = view[at * length : at * length + payload + header]
        else:
            target.array[: done * payload].reshape(done, payload)[:] = whole[at : at + done, :payload]
            start = (at + done - 1) * length + payload
            target.view[done * payload : done * payload + header] = view[start : start + header]
        total, last = done * payload, 0
        if rest and payload == trailer.seg and at + done == len(whole):
            last = self._goes_on(trailer, done, (at + done) * length, rest)
            if last:
                start = (at + done) * length
                target.view[total : total + last + header] = view[start : start + last + header]
        self._delivery.rows(peer, trailer, done + (last > 0), total + last, now)
        return done, last > 0

    def _goes_on(self, trailer: Trailer, done: int, start: int, rest: int) -> int:
        """Payload of the shorter shard at `start` if it is the next row of the same super-packet, else 0."""
        end = start + rest - DATA_TRAILER
        payload = rest - DATA_TRAILER - ROW_TRAILER - trailer.header_length
        if not 0 < payload < trailer.seg:
            return 0
        return payload if read_trailer(self.arena.data, end) == trailer._replace(place=trailer.place + done) else 0


def _alike(trailers: Bytes2D, first: Trailer) -> int:
    """Count the row trailers from the start that go on with the first."""
    count = len(trailers)
    if trailers.tobytes() == _following(trailers[0].tobytes(), count):
        return count
    same = (trailers[:, :6] == trailers[0, :6]).all(1)
    same &= trailers[:, 6] == _PLACES[first.place : first.place + count]
    same &= trailers[:, 7] == _ROW
    return count if same.all() else int(same.argmin())


@lru_cache(64)
def _following(trailer: bytes, count: int) -> bytes:
    """Return a row trailer and those of the rows behind it."""
    return b"".join(trailer[:6] + bytes((place & 0xFF, _ROW)) for place in range(trailer[6], trailer[6] + count))
