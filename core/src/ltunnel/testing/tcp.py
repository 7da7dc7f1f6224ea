"""One end of a simulated TCP connection: bytes whole and in order, over packets that get lost, late or repeated.

Not TCP's wire format, but what programs notice of it: a handshake, retransmission by selective acknowledgement and by
timeout, congestion and receive windows, an orderly end and a reset, and giving up on a far end that is gone.

Payload of a packet: flags 1, reserved 1, window 2 (KiB), seq 4, ack 4, data. A segment (SYN, FIN or data) names its own
place by `seq`, an acknowledgement that of the segment which it answers; `ack` is what is missing next. SYN and FIN take
up one number each.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from struct import Struct

from ltunnel.testing.network import Network

SYN, ACK, FIN, RST = 1, 2, 4, 8
HEADER = Struct(">BxHII")
PATIENCE = 15.0
"""Seconds without progress after which a connection is given up."""

_NO_SEGMENT = 0xFFFFFFFF  # seq of an acknowledgement that only tells of a window
_FIRST_TIMEOUT = 1.0
_OVERTAKEN = 3  # a segment is taken for lost once so many sent after it have arrived
_LARGEST_WINDOW = 1 << 20


class State(Enum):
    """Where a connection is."""

    CONNECTING = "connecting"
    HALF_OPEN = "half-open"  # SYN came in and was answered
    OPEN = "open"
    CLOSED = "closed"


class _Segment:
    __slots__ = ("data", "flags", "order", "sent", "seq", "tries")

    def __init__(self, seq: int, flags: int, data: bytes) -> None:
        self.seq = seq
        self.flags = flags
        self.data = data
        self.tries = 0
        self.sent = 0.0
        self.order = 0

    @property
    def end(self) -> int:
        return self.seq + len(self.data) + bool(self.flags & (SYN | FIN))


class SimTcp:
    """One end. `transmit` sends a payload and says whether there was a way out; `changed` is called when there is news.

    `mss` is the data of a segment, `buffer` what is kept until it is read, both in bytes.
    """

    def __init__(
        self, network: Network, transmit: Callable[[bytes], bool], changed: Callable[[], None], *, mss: int, buffer: int
    ) -> None:
        self.state = State.CONNECTING
        self.ended = False
        """Whether nothing more will come than what can be read now."""
        self._network = network
        self._transmit = transmit
        self._changed = changed
        self._mss = mss
        self._buffer = buffer
        # out
        self._unsent = bytearray()
        self._next_out = 0
        self._flight: dict[int, _Segment] = {}
        self._flying = 0
        self._order = 0
        self._arrived_order = 0
        self._window = _LARGEST_WINDOW
        self._congestion = self._least = 10 * mss
        self._threshold = _LARGEST_WINDOW
        self._cut_at = float("-inf")
        self._round_trip: float | None = None
        self._progress = 0.0
        self._alarm: float | None = None
        self._finishing = False
        # in
        self._inbox = bytearray()
        self._next_in = 0
        self._early: dict[int, tuple[int, bytes]] = {}

    @property
    def unsent(self) -> int:
        """Bytes that wait for the windows to open."""
        return len(self._unsent)

    @property
    def readable(self) -> int:
        """Bytes that `read` has."""
        return len(self._inbox)

    # ---------------------------------------------------------------- what a program does

    def connect(self) -> bool:
        """Begin; False when there is no way out."""
        return self._begin(SYN)

    def accept(self) -> None:
        """Answer a SYN."""
        self.state = State.HALF_OPEN
        self._next_in = 1
        self._begin(SYN | ACK)

    def send(self, data: bytes) -> None:
        """Send bytes, as soon as windows allow."""
        if self.state is not State.CLOSED and not self._finishing:
            self._unsent += data
            self._pump()

    def read(self, limit: int) -> bytes:
        """Return what has come in, at most `limit` bytes."""
        was_full = self._space < self._mss
        data = bytes(self._inbox[:limit])
        del self._inbox[:limit]
        if was_full and data and self.state is not State.CLOSED:
            self._acknowledge(_NO_SEGMENT)
        return data

    def finish(self) -> None:
        """Send what waits, then FIN; what still comes in is not wanted."""
        if self.state is State.OPEN:
            self._finishing = True
            self._pump()
        elif self.state is not State.CLOSED:
            self.abort()

    def abort(self) -> None:
        """End at once, with one RST."""
        if self.state is not State.CLOSED:
            self._emit(RST, self._next_out)
            self._end()

    # ---------------------------------------------------------------- what the network does

    def receive(self, payload: bytes) -> None:
        """Take a packet; what makes no sense is ignored."""
        if len(payload) < HEADER.size or self.state is State.CLOSED:
            return
        flags, window, seq, ack = HEADER.unpack_from(payload)
        data = payload[HEADER.size :]
        if flags & RST:
            self._end()
            return
        if flags & ACK:
            self._window = max(window << 10, self._mss)  # a closed one is tried with one segment, as TCP probes it
            if not self._acknowledged(seq if not data and not flags & (SYN | FIN) else _NO_SEGMENT, ack):
                return
        if flags & SYN:
            self._next_in = max(self._next_in, 1)
            if self.state is State.CONNECTING and flags & ACK:
                self.state = State.OPEN
                self._changed()
            if self.state is State.OPEN:
                self._acknowledge(seq)
        elif data or flags & FIN:
            self._take(seq, flags, data)
        self._pump()

    # ---------------------------------------------------------------- in

    @property
    def _space(self) -> int:
        return max(0, self._buffer - len(self._inbox))

    def _take(self, seq: int, flags: int, data: bytes) -> None:
        if self.state is not State.OPEN or self._finishing:
            if flags & FIN:  # both ends have had enough
                self._acknowledge(seq)
            return
        if seq >= self._next_in:
            if len(data) > self._space:
                return
            self._early.setdefault(seq, (flags, data))
        news = False
        while self._next_in in self._early:
            flags, data = self._early.pop(self._next_in)
            self._inbox += data
            self._next_in += len(data) + bool(flags & FIN)
            self.ended = self.ended or bool(flags & FIN)
            news = True
        self._acknowledge(seq)
        if news:
            self._changed()

    def _acknowledge(self, seq: int) -> None:
        self._emit(ACK, seq)

    # ---------------------------------------------------------------- out

    def _begin(self, flags: int) -> bool:
        self._progress = self._network.clock.now
        segment = _Segment(0, flags, b"")
        self._next_out = 1
        return self._launch(segment)

    def _emit(self, flags: int, seq: int, data: bytes = b"") -> bool:
        window = min(0xFFFF, self._space >> 10)
        return self._transmit(HEADER.pack(flags, window, seq, self._next_in) + data)

    def _launch(self, segment: _Segment) -> bool:
        """Send a segment, for the first time or again."""
        if segment.seq not in self._flight:
            if not self._flight:
                self._progress = self._network.clock.now
            self._flight[segment.seq] = segment
            self._flying += len(segment.data)
        self._order += 1
        segment.order, segment.sent = self._order, self._network.clock.now
        self._set_alarm()
        return self._emit(segment.flags, segment.seq, segment.data)

    def _pump(self) -> None:
        if self.state is not State.OPEN:
            return
        while self._unsent and self._flying < min(self._congestion, self._window):
            data = bytes(self._unsent[: self._mss])
            del self._unsent[: self._mss]
            segment = _Segment(self._next_out, ACK, data)
            self._next_out += len(data)
            self._launch(segment)
        if self._finishing and not self._unsent and not any(s.flags & FIN for s in self._flight.values()):
            segment = _Segment(self._next_out, FIN | ACK, b"")
            self._next_out += 1
            self._launch(segment)

    def _acknowledged(self, seq: int, ack: int) -> bool:
        """Take note of what has arrived; False when that was the last, the FIN."""
        now = self._network.clock.now
        answered = self._flight.get(seq)
        done = [segment for segment in self._flight.values() if segment.end <= ack or segment is answered]
        if not done:
            return True
        self._progress = now
        for segment in done:
            del self._flight[segment.seq]
            self._flying -= len(segment.data)
            self._grow(len(segment.data))
            if not segment.tries and segment is answered:
                sample = now - segment.sent
                old = self._round_trip
                self._round_trip = sample if old is None else 0.8 * old + 0.2 * sample
            self._arrived_order = max(self._arrived_order, segment.order)
            if segment.flags & SYN and self.state is State.HALF_OPEN:
                self.state = State.OPEN
                self._changed()
            elif segment.flags & FIN:
                self._end()
                return False
        for segment in list(self._flight.values()):
            if segment.order + _OVERTAKEN <= self._arrived_order:
                self._lose(segment)
        return True

    def _grow(self, size: int) -> None:
        if self._congestion < self._threshold:
            self._congestion += size
        else:
            self._congestion += size * self._mss // self._congestion
        self._congestion = min(self._congestion, _LARGEST_WINDOW)

    def _lose(self, segment: _Segment) -> None:
        """Send again, and slow down at most once in a round trip (RFC 9438: by 0.7)."""
        now = self._network.clock.now
        if now - self._cut_at > (self._round_trip or _FIRST_TIMEOUT):
            self._cut_at = now
            self._congestion = self._threshold = max(self._least, self._congestion * 7 // 10)
        segment.tries += 1
        self._launch(segment)

    # ---------------------------------------------------------------- time

    def _timeout_of(self, segment: _Segment) -> float:
        base = _FIRST_TIMEOUT if self._round_trip is None else min(3.0, max(0.2, 2 * self._round_trip + 0.1))
        return segment.sent + base * 2.0 ** min(segment.tries, 3)

    def _set_alarm(self) -> None:
        """Wake at the earliest timeout; a wake that comes too early looks and sets the next."""
        when = min(self._timeout_of(segment) for segment in self._flight.values())
        if self._alarm is None or when < self._alarm:
            self._alarm = when
            self._network.at(when, lambda: self._ring(when))

    def _ring(self, when: float) -> None:
        if self._alarm != when or self.state is State.CLOSED:
            return
        self._alarm = None
        now = self._network.clock.now
        if self._flight and now - self._progress >= PATIENCE:
            self._end()
            return
        for segment in [segment for segment in self._flight.values() if self._timeout_of(segment) <= now]:
            self._lose(segment)
        if self._flight:
            self._set_alarm()

    def _end(self) -> None:
        self.state = State.CLOSED
        self.ended = True
        self._flight.clear()
        self._unsent.clear()
        self._early.clear()
        self._changed()
