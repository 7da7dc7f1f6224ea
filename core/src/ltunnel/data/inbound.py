"""In: sealed datagrams of all peers to packets for the TUN device, or for `Outbound` where a hub forwards.

    transport.receive ─► batch ─► segments of one session with consecutive counters
                     ─► replay window ─► open ─┬─ rows: joined into one super-packet ─┬─► inner source ─► deliver
                                               ├─ bundles: their packets ─────────────┤
                                               ├─ records: joined, opened whole ──────┘
                                               ├─ datagrams of other nodes ─► relay
                                               └─ control frames ─► control

Datagrams that arrive singly (no GRO on the path) are read at a fixed stride into the same buffer until the port is
empty, and take the same way. Whatever does not check out is counted and dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from ltunnel.constants import DATA_HEADER, DATA_OVERHEAD, MAX_ROWS, REJECT_AFTER_PACKETS, ROW_TRAILER
from ltunnel.data.batch import Batch
from ltunnel.data.deliver import Delivery
from ltunnel.data.fec.receiver import SHARDS, ShardReceiver
from ltunnel.data.fec.sender import ShardSender
from ltunnel.data.grid import Arena, GridCache, Nonces, ReceiveGrid
from ltunnel.data.listener import Listener
from ltunnel.data.record_opener import RecordOpener
from ltunnel.data.records import NEXT_PART
from ltunnel.data.relay_frames import Relays
from ltunnel.data.reports import Reporter
from ltunnel.data.segments import Trailer, read_trailer
from ltunnel.errors import WireError
from ltunnel.plugin import Flow, Port, Transport
from ltunnel.session import Drop, Epoch, Stats
from ltunnel.wire.frames import Report
from ltunnel.wire.types import STAYING, FrameType, MessageType

BATCHES = 16
"""Receive calls at a time, so that ports and TUN take turns."""
STACKED = 66_000
"""Single datagrams are stacked up to this many bytes."""
LARGE = 16_384
"""Bytes of a datagram that is worth a batch of its own."""

_HEADER = Struct(">IQ")
_LOWEST_CONTROL_FRAME = FrameType.PING
_BUNDLE = int(FrameType.BUNDLE)
_RELAY = int(FrameType.RELAY)


class Inbound:
    """Opens what arrives. One object serves all transports and peers; on a node another one what comes by the relay.

    `rx` is where datagrams are when they come neither from a port nor singly; `records` are shared by both objects.
    """

    def __init__(
        self,
        transports: Sequence[Transport],
        control: Listener,
        delivery: Delivery,
        reporter: Reporter,
        stats: Stats,
        shards: ShardReceiver | None = None,
        sender: ShardSender | None = None,
        relays: Relays | None = None,
        records: RecordOpener | None = None,
    ) -> None:
        self._shards, self._sender, self._relays = shards, sender, relays
        self._transports = transports
        self._control = control
        self._sessions = control.sessions
        self._delivery = delivery
        self._reporter = reporter
        self._stats = stats
        self.rx = Arena(STACKED + 66_000)
        self._plain = delivery.arena
        self._nonces, self._expected = Nonces(), Nonces()
        self.records = records or RecordOpener(control.sessions, delivery, stats, self._accept)
        if relays is not None:
            self.records.relays = relays
        if shards is not None:
            shards.records = self.records
        self._grids = GridCache(lambda start, stride, size: ReceiveGrid(self.rx, start, stride, size), limit=32)

    def drain(self, index: int, port: Port, now: float) -> bool:
        """Receive from a port of transport `index` until it is empty or it is another's turn (then True)."""
        receive, view = self._transports[index].receive, self.rx.view
        more = True
        for _ in range(BATCHES):
            try:
                flow, start, end, size = receive(port, view, 0, now)
            except BlockingIOError:
                more = False
                break
            if end - start > size or size > LARGE:
                self._coalesced(index, flow, start, end, size, now)
            elif end > start and not self._stack(index, port, flow, start, end, now):
                more = False
                break
        self._delivery.flush(now)
        return more

    def relayed(
        self, index: int, flow: Flow, start: int, size: int, stride: int, full: int, rest: int, now: float
    ) -> None:
        """Take `full` datagrams of `size` bytes, `stride` apart from `start` of `rx` on, and one of `rest` bytes."""
        self._batch(index, flow, start, size, stride, full, rest, now)

    # ---------------------------------------------------------------- batches and segments

    def _coalesced(self, index: int, flow: Flow, start: int, end: int, stride: int, now: float) -> None:
        """Take what one call brought: slots of `stride` bytes, each with the transport's prefix and a datagram."""
        prefix = self._transports[index].prefix
        full, rest = divmod(end - start, stride)
        self._batch(index, flow, start + prefix, stride - prefix, stride, full, max(0, rest - prefix), now)

    def _stack(self, index: int, port: Port, flow: Flow, start: int, end: int, now: float) -> bool:
        """Read on behind a single datagram while equal ones follow from the same flow. False when the port is empty."""
        receive, view = self._transports[index].receive, self.rx.view
        prefix = self._transports[index].prefix
        size, stride, pos, full, rest = end - start, 0, end, 1, 0
        following = None
        empty = False
        while full < MAX_ROWS and pos < STACKED:
            try:
                other, at, stop, seg = receive(port, view, pos, now)
            except BlockingIOError:
                empty = True
                break
            length = stop - at
            if not stride:
                stride = at - start
            if other == flow and at == start + full * stride:
                if length == size == seg:
                    full += 1
                    pos = stop
                    continue
                if 0 < length < size and seg == length:
                    rest = length
                    break
            if length:
                following = (other, at, stop, seg)
            break
        rest = max(0, rest - prefix)
        self._batch(index, flow, start + prefix, size - prefix, stride or size, full, rest, now)
        if following is not None:
            self._coalesced(index, *following, now)
        return not empty

    def _batch(
        self, index: int, flow: Flow, start: int, size: int, stride: int, full: int, rest: int, now: float
    ) -> None:
        """Split a batch into segments: one session, consecutive counters. Mostly there is one."""
        if (rest and rest <= DATA_OVERHEAD) or size <= DATA_OVERHEAD:
            self._odd_sizes(index, flow, start, size, stride, full, rest, now)
            return
        count = full + (rest > 0)
        if count > MAX_ROWS:  # kernels since 6.9 can send, and so pass on a machine of their own, twice as many
            for i in range(0, full, MAX_ROWS):
                self._batch(index, flow, start + i * stride, size, stride, min(MAX_ROWS, full - i), 0, now)
            if rest:
                self._single(index, flow, start + full * stride, rest, now)
            return
        if count == 1:
            word, counter = _HEADER.unpack_from(self.rx.data, start)
            if word >> 24 == MessageType.DATA and self._one(index, flow, start, size, word, counter, now):
                return
            self._segment(Batch.single(index, flow, self.rx, start, size), 0, 1, word, counter, now)
            return
        nonces, expected = self._nonces, self._expected
        grid = self._grids.get(start, stride, size)
        batch = Batch.of(index, flow, self.rx, grid, nonces, size, full, rest)
        word, counter = _HEADER.unpack_from(nonces.view)
        if word >> 24 == MessageType.RECORD:
            step = NEXT_PART
            expected.fill_parts(count, word, counter >> 32, counter & 0xFFFFFFFF)
        else:
            step = 1
            expected.fill(count, word, counter & 0xFFFFFFFF)
        if expected.prefix(count) == nonces.prefix(count):
            self._segment(batch, 0, count, word, counter, now)
            return
        headers = [_HEADER.unpack_from(nonces.view, i * DATA_HEADER) for i in range(count)]
        begin = 0
        for i in range(1, count + 1):
            if i == count or headers[i] != (headers[i - 1][0], headers[i - 1][1] + step):
                word, counter = headers[begin]
                self._segment(batch, begin, i, word, counter, now)
                begin = i
                step = NEXT_PART if i < count and headers[i][0] >> 24 == MessageType.RECORD else 1

    def _one(self, index: int, flow: Flow, start: int, size: int, word: int, counter: int, now: float) -> bool:
        """Take the shortest way with what came alone, as a ping does. False: it needs the long way."""
        epoch = self._sessions.get(word & 0xFFFFFF)
        if epoch is None or counter >= REJECT_AFTER_PACKETS or not epoch.usable(now) or not epoch.window.fresh(counter):
            return False
        view, middle, length = self.rx.view, start + DATA_HEADER, size - DATA_OVERHEAD
        plain = self._plain
        opened = epoch.opener.open((view[start:middle],), (view[middle : start + size],), (plain.view[:length],))
        kind = plain.data[length - 1] if opened else None
        if kind == _BUNDLE:
            self._accept(index, flow, epoch, counter, 1, size, now)
            self._delivery.bundles(epoch.peer, length, 1, now)
        elif kind in SHARDS and self._shards is not None:
            self._accept(index, flow, epoch, counter, 1, size, now)
            self._shards.take_one(epoch, length, now)
        elif kind == _RELAY and self._relays is not None and self._relays.takes(epoch.peer):
            self._accept(index, flow, epoch, counter, 1, size, now)
            self._relays.take_one(epoch, plain.view[:length], now)
        else:
            return False
        return True

    def _odd_sizes(
        self, index: int, flow: Flow, start: int, size: int, stride: int, full: int, rest: int, now: float
    ) -> None:
        """Take a batch apart that holds datagrams too short for DATA."""
        if size > DATA_OVERHEAD:
            for i in range(full):
                self._single(index, flow, start + i * stride, size, now)
        else:  # there may be 20,000 in a stream's packet
            self._stats.drop(Drop.MALFORMED, full)
        if rest:
            self._single(index, flow, start + full * stride, rest, now)

    def _single(self, index: int, flow: Flow, start: int, size: int, now: float) -> None:
        if size > DATA_OVERHEAD:
            self._batch(index, flow, start, size, size, 1, 0, now)
        else:
            self._stats.drop(Drop.MALFORMED)

    def _segment(self, batch: Batch, begin: int, end: int, word: int, counter: int, now: float) -> None:
        """Open rows `begin` .. `end` of a batch, whose headers are (word, counter), (word, counter + 1), ..."""
        if word >> 24 == MessageType.RECORD:
            self.records.take(batch, begin, end, word, counter, now)
            return
        if word >> 24 != MessageType.DATA:
            for i in range(begin, end):
                sealed, _ = batch.row(i)
                self._control.receive(batch.transport, batch.flow, bytes(batch.nonces[i]) + bytes(sealed), now)
            return
        count = end - begin
        epoch = self._sessions.get(word & 0xFFFFFF)
        if epoch is None:
            self._stats.drop(Drop.UNKNOWN_INDEX, count)
            return
        if counter + count > REJECT_AFTER_PACKETS or not epoch.usable(now):
            epoch.peer.stats.drop(Drop.EXPIRED, count)
            return
        if not epoch.window.fresh(counter, count):
            if count == 1:
                epoch.peer.stats.drop(Drop.REPLAYED)
            else:
                for i in range(count):
                    self._segment(batch, begin + i, begin + i + 1, word, counter + i, now)
            return
        ahead = True  # whether it pays to open further rows before the first one's frame is known to go on
        at = begin
        while at < end:
            done, ahead = self._open(batch, at, end if ahead else at + 1, epoch, counter + at - begin, now)
            at += done

    # ---------------------------------------------------------------- rows of one session

    def _open(self, batch: Batch, at: int, end: int, epoch: Epoch, counter: int, now: float) -> tuple[int, bool]:
        """Open row `at` and those that go with it, and pass them on: (rows dealt with, whether they were alike)."""
        sealed, size = batch.row(at)
        length = size - DATA_OVERHEAD
        plain = self._plain
        if not epoch.opener.open(batch.nonces[at : at + 1], (sealed,), (plain.view[:length],)):
            epoch.peer.stats.drop(Drop.FORGED)
            return 1, True
        frame = plain.data[length - 1]
        if frame == FrameType.ROW:
            return self._open_rows(batch, at, end, epoch, counter, length, now), True
        if frame == FrameType.BUNDLE:
            done = self._open_bundles(batch, at, end, epoch, counter, length, now)
            return done, at + done >= min(end, batch.full)
        if frame in SHARDS and self._shards is not None:
            return self._open_alike(self._shards, batch, at, end, epoch, counter, length, now), True
        if frame == FrameType.RELAY and self._relays is not None and self._relays.takes(epoch.peer):
            return self._open_alike(self._relays, batch, at, end, epoch, counter, length, now), True
        moves = frame not in STAYING
        self._accept(batch.transport, batch.flow, epoch, counter, 1, size, now, moves=moves)
        if frame == FrameType.REPORT:
            self._take_report(epoch, bytes(plain.view[: length - 1]), now)
        elif frame >= _LOWEST_CONTROL_FRAME:
            body = bytes(plain.view[: length - 1])
            self._control.receive_frame(epoch, frame, body, batch.transport, batch.flow, size, now)
        elif frame != FrameType.PADDING:
            epoch.peer.stats.drop(Drop.UNKNOWN_TYPE)
        return 1, True

    def _open_rows(self, batch: Batch, at: int, end: int, epoch: Epoch, counter: int, length: int, now: float) -> int:
        """Row `at` is open at 0; open the rest of its super-packet behind it, back to back, and deliver it."""
        plain = self._plain
        trailer = read_trailer(plain.data, length) if length > ROW_TRAILER else None
        payload = length - ROW_TRAILER - trailer.header_length if trailer else 0
        if trailer is None or not 0 < payload <= trailer.seg:
            self._accept(batch.transport, batch.flow, epoch, counter, 1, length + DATA_OVERHEAD, now)
            epoch.peer.stats.drop(Drop.MALFORMED)
            return 1
        done = 1
        if payload == trailer.seg and at < batch.full:
            done, payload = self._join(batch, at, end, epoch, trailer, length)
        self._accept(batch.transport, batch.flow, epoch, counter, done, done * batch.size, now)
        self._delivery.rows(epoch.peer, trailer, done, payload, now)
        return done

    def _join(self, batch: Batch, at: int, end: int, epoch: Epoch, trailer: Trailer, length: int) -> tuple[int, int]:
        """Open the rows that follow row `at` in its super-packet: (rows, bytes of payload), the header behind it."""
        seg, plain, open_rows = trailer.seg, self._plain, epoch.opener.open
        want = min(end - at, trailer.rows - trailer.place)
        full = min(want, batch.full - at)
        done, forged = 1, False
        if full > 1:
            assert batch.grid is not None  # noqa: S101  # more than one row
            outputs = batch.grid.outputs(plain, seg, length)
            done += open_rows(batch.nonces[at + 1 : at + full], batch.sealed[at + 1 : at + full], outputs[1:full])
            forged = done < full
        payload = done * seg
        if want > full and not forged:
            rest = batch.rest - DATA_OVERHEAD
            extra = rest - ROW_TRAILER - trailer.header_length
            assert batch.short is not None  # noqa: S101  # it is what `want` counts beyond `full`
            if 0 < extra < seg:
                target = (plain.view[payload : payload + rest],)
                if open_rows(batch.nonces[at + full : at + full + 1], (batch.short,), target):
                    return done + 1, payload + extra
                forged = True
        if forged:  # what failed has overwritten the header of the row before; it is met again, alone, and counted
            last = at + done - 1
            target = (plain.view[payload - seg : payload - seg + length],)
            open_rows(batch.nonces[last : last + 1], (batch.sealed[last],), target)
        return done, payload

    def _open_bundles(
        self, batch: Batch, at: int, end: int, epoch: Epoch, counter: int, length: int, now: float
    ) -> int:
        """Row `at` is open at 0; open the bundles of equal size that follow it, and deliver their packets."""
        full = min(end, batch.full) - at
        done = 1
        data = self._plain.data
        if full > 1:
            assert batch.grid is not None  # noqa: S101  # more than one row
            outputs = batch.grid.outputs(self._plain, length, length)
            full = min(full, len(outputs))
            opened = 1 + epoch.opener.open(
                batch.nonces[at + 1 : at + full], batch.sealed[at + 1 : at + full], outputs[1:full]
            )
            while done < opened and data[(done + 1) * length - 1] == FrameType.BUNDLE:
                done += 1
        self._accept(batch.transport, batch.flow, epoch, counter, done, done * (length + DATA_OVERHEAD), now)
        self._delivery.bundles(epoch.peer, length, done, now)
        return done

    def _open_alike(
        self, taker: ShardReceiver | Relays, batch: Batch, at: int, end: int, epoch: Epoch, counter: int, length: int,
        now: float,
    ) -> int:  # fmt: skip
        """Row `at` is open at 0; open the shards, or relayed datagrams, that follow it, and pass them on."""
        done, rest = taker.open(batch, at, end, epoch, self._plain.view[:length])
        self._accept(batch.transport, batch.flow, epoch, counter, done, done * (length + DATA_OVERHEAD), now)
        if rest:
            self._accept(batch.transport, batch.flow, epoch, counter + done, 1, rest + DATA_OVERHEAD, now)
        taker.take(epoch, done, length, now, rest)
        return done + (rest > 0)

    def _take_report(self, epoch: Epoch, body: bytes, now: float) -> None:
        try:
            report = Report.parse(body)
        except WireError:
            epoch.peer.stats.drop(Drop.MALFORMED)
        else:
            epoch.peer.quality.report(epoch.local_index, report.expected, report.accepted, now)
            if self._sender is not None:
                self._sender.report(epoch.peer, epoch, report, now)

    def _accept(
        self, transport: int, flow: Flow, epoch: Epoch, counter: int, count: int, size: int, now: float, *,
        moves: bool = True,
    ) -> None:  # fmt: skip
        """Commit authenticated counters, keep the books of peer and path. `moves`: the path may follow to there."""
        window, peer = epoch.window, epoch.peer
        newest = moves and counter + count - 1 > window.top
        window.commit(counter, count)
        peer.last_rx = now
        self._reporter.heard(epoch, now)
        peer.unanswered_since = None
        path = peer.path
        if path is None or epoch is not peer.epoch or path.flow != flow or path.transport != transport:
            self._control.notice(epoch, transport, flow, size, newest, now)
        else:
            if path.budget is not None:
                path.budget += 3 * size
            if not epoch.confirmed:
                self._control.notice(epoch, transport, flow, size, newest, now)
