"""Datagrams in TCP segments over a raw port, without TCP behind them: no retransmission, no order kept, no queue.

    send     slots ─► prefixes ─► headers in the headroom ─► one super-packet that the kernel cuts
    receive  packet ─► connection ─► in order? ─► books ─► slots, where they lie ─► the core
                                                    └─► acknowledgement, at once or soon

What a flow does, and when, is in `states`, `caller` (node) and `answerer` (hub).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from ltunnel.plugin import Address, Buffer, Port, RawPort, write_address
from ltunnel_transport_faketcp.answerer import Answerer
from ltunnel_transport_faketcp.caller import Caller
from ltunnel_transport_faketcp.counts import Counts
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.line import Line
from ltunnel_transport_faketcp.memory import Memory
from ltunnel_transport_faketcp.overtaking import LARGEST, rejoin
from ltunnel_transport_faketcp.reader import Reader
from ltunnel_transport_faketcp.segment import (
    ACK,
    CONTROL,
    MASK,
    PSH,
    SYN,
    TIMESTAMPS,
    USUAL_FLAGS,
    USUAL_IP,
    USUAL_SIZE,
    VNET_SIZE,
    Segment,
    look,
    read,
)
from ltunnel_transport_faketcp.side import ASK_AFTER, Side
from ltunnel_transport_faketcp.slots import PREFIX, runs, slot_size, write_prefixes
from ltunnel_transport_faketcp.states import Cause, State, move
from ltunnel_transport_faketcp.timers import Timers

ACK_EVERY = 30_000
"""Bytes received after which an acknowledgement leaves within a millisecond."""
LARGEST_SLOT = 65_400
"""Bytes that one packet takes, whatever the IP version, and a little less."""
STALL_PROBE = 0.1
"""Seconds between probes while the far end's window is full."""

_PORT_HEADROOM = 32
_HEADERS = 256  # more than stands in front of what a packet carries
_OPEN, _DOUBTED = State.OPEN, State.DOUBTED
_NOTHING = None, 0, 0, 0, 0, 0


class FakeTcpTransport:
    """Real TCP segments. With `listen` it is a hub's, else a node's."""

    def __init__(self, port: RawPort, *, listen: bool) -> None:
        self.ports: Sequence[Port] = (port,)
        self.prefix = PREFIX
        self.largest_slot = LARGEST_SLOT
        self.counts = Counts()
        self._port = port
        self._changes = port.changes
        self._port_send = port.send
        self._port_recv = self._next = port.recv
        self._flows: dict[bytes, Flow] = {}
        self._ready: deque[tuple[Flow, bytes | bytearray, int]] = deque()  # batches that had to be put together
        self._kept: tuple[bytes, int, tuple[str]] | None = None  # a packet that was read on the way to another
        self._line = Line(port)
        self._timers = Timers()
        self._memory = Memory()
        self._side: Side = (Answerer if listen else Caller)(port, self._flows, self._line, self._timers, self.counts)

    @property
    def drops(self) -> dict[str, int]:
        """What was dropped, by reason."""
        return self.counts.drops()

    @property
    def tallies(self) -> dict[str, int]:
        """What became of connections."""
        return self.counts.tallies()

    def connect(self, remote: Address, now: float) -> Flow:
        """Return the flow to `remote`, which begins to open if it is new."""
        return self._side.connect(remote, now)

    def meet(self, remote: Address, like: Flow, now: float) -> Flow:
        """Return the flow to another node, which opens it at the same time; see `ltunnel.plugin.MeetingTransport`."""
        return self._side.meet(remote, like, now)

    def send(self, flow: Flow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch; see `ltunnel.plugin.Transport`. What the far end's window has no room for is dropped."""
        size = end - start
        after = flow.sent + size
        flow.used = now
        if after > flow.limit:
            return self._send_less(flow, buf, start, seg, now)
        head = flow.head
        assert head is not None  # noqa: S101  # there is a limit, so there is a connection
        if size > head.largest:
            return self._send_halves(flow, buf, start, end, seg, now)
        first = size - PREFIX
        if size > seg:
            first = seg - PREFIX
            write_prefixes(buf, start + seg, end, seg)
        if seg > flow.pieces:
            seg = flow.pieces
        clock = flow.clock + int(now * 1000)
        at = head.write(buf, start, size, seg, flow.sent, flow.ack, flow.data_word, clock, flow.echo, first)
        if not self._port_send(buf, at, end, seg, flow.to):
            return False
        flow.sent = after
        flow.told = flow.received
        if flow.waiting is None:
            flow.waiting = now
            if flow.due > now + ASK_AFTER:
                self._timers.plan(flow, now + ASK_AFTER)
        return True

    def send_whole(self, flow: Flow, buf: Buffer, start: int, end: int, piece: int, now: float) -> bool:
        """Send one large datagram in segments of `piece` bytes at most; see `ltunnel.plugin.StreamTransport`."""
        pieces = flow.pieces
        flow.pieces = piece = min(piece, pieces)
        if piece > 1 and (end - start) % piece == 1:  # a byte alone is taken for a keepalive
            flow.pieces -= 1
        try:
            return self.send(flow, buf, start, end, end - start, now)
        finally:
            flow.pieces = pieces

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Flow | None, int, int, int]:  # noqa: ARG002
        """Receive a batch; see `ltunnel.plugin.Transport`. Empty ranges may have no flow."""
        if self._ready:
            return self._put(buf, pos)
        try:
            start, end, piece, source = self._next(buf, pos)
        except BlockingIOError:
            if self._port.changes != self._changes:
                self._changes = self._port.changes
                self._side.look_around(now)
            raise
        word, key, seq, ack, flags, window, option, clock, first = look(buf, start)
        data = start + USUAL_SIZE
        size = end - data
        flow = self._flows.get(key)
        if (  # mostly it is data, and the next in order
            flow is None
            or flags | PSH != USUAL_FLAGS
            or seq != flow.received & MASK
            or size <= PREFIX
            or word & 0xFF00FFFF != USUAL_IP + size
            or option != TIMESTAMPS
            or flow.state is not _OPEN
            or not flow.take(seq, ack, size, window, clock, now)
        ):
            flow, seq, flags, data, end, piece = self._examine(buf, start, end, piece, source, now)
            size = end - data
            if flow is None or size <= 1:
                return flow, pos, pos, 0
            first = -1
        waiting = flow.received - flow.told
        if waiting >= ACK_EVERY or not flow.ack_planned:
            self._owe(flow, waiting, now)
        seg = size if size == first + PREFIX else slot_size(buf, data, end, piece)
        reader, pushed = flow.reader, bool(flags & PSH)
        if seg and (reader is None or reader.skip(seq, size, seg, pushed=pushed)):
            return flow, data, end, seg
        if reader is None:  # all before was whole, so behind that begins a slot
            reader = flow.reader = Reader(
                next((low for low, high in flow.holes if high & MASK == seq), seq), self._memory
            )
        slots = reader.read(seq, buf[data:end], pushed=pushed)
        self._ready.extend((flow, batch, seg) for batch, seg in runs(slots))
        return self._put(buf, pos) if self._ready else (flow, pos, pos, 0)

    def describe(self, flow: Flow) -> str:
        """Name a flow by its far end: ``192.0.2.7:40122``."""
        return write_address(flow.remote)

    def close(self, flow: Flow, now: float) -> None:
        """Close a flow, and its connection with a RST."""
        if flow.state is not State.CLOSED and self._side.owns(flow):
            if flow.is_up:
                self._line.reset(flow, now)
            self._side.forget(flow)
            flow.state = move(flow.state, Cause.CLOSE)

    def leave(self, now: float) -> None:
        """End all connections with a RST, so that firewalls forget them; nothing can be sent afterwards."""
        for flow in list(self._flows.values()):
            self.close(flow, now)

    def next_timeout(self) -> float | None:
        """Return when something is due (monotonic seconds), or None."""
        return self._timers.next()

    def handle_timeout(self, now: float) -> None:
        """Send the acknowledgements that are due, ask flows that are silent, give up those that stay so."""
        for flow in self._timers.due_acks(now):
            if flow.is_up:
                self._line.acknowledge(flow, now)
        for flow in self._timers.due_visits(now):
            self._side.visit(flow, now)

    def _owe(self, flow: Flow, waiting: int, now: float) -> None:
        """See that what a flow has received is acknowledged, of which the far end has not been told `waiting` bytes."""
        if waiting >= flow.much:
            self._line.acknowledge(flow, now)
        elif waiting >= ACK_EVERY:
            if not flow.much_planned:
                self._timers.plan_ack_of_much(flow, now)
        elif waiting > 0 and not flow.ack_planned:
            self._timers.plan_ack(flow, now)

    def _examine(
        self, buf: Buffer, start: int, end: int, piece: int, source: tuple[str], now: float
    ) -> tuple[Flow | None, int, int, int, int, int]:
        """Take any packet, ``buf[start:end]``, into the books.

        Returns (flow, seq, flags, begin and end of the payload, size of the segments that were joined). What has no
        payload for the core may have no flow.
        """
        segment = read(buf, start + VNET_SIZE, end)
        if segment is None:
            self.counts.malformed += 1
            return _NOTHING
        key, seq, ack, flags, window, data, stop, clock, _ = segment
        flow = self._flows.get(key)
        if flow is None or flags & CONTROL or not flags & ACK or flow.limit < 0:
            tcp = start + VNET_SIZE + (20 if len(key) == 12 else 40)
            flow = self._unusual(flow, segment, buf, tcp, source, now)
            if flow is None:
                return _NOTHING
        elif seq != flow.received & MASK and flags & PSH and not piece and stop - data > PREFIX:
            segment, piece = self._overtaken(flow, segment, buf, end)
            _, seq, ack, flags, window, data, stop, clock, _ = segment
        size = stop - data
        if not flow.take(seq, ack, size, window, clock, now):
            self._side.implausible(flow, segment, source, now)
            return _NOTHING
        if flow.state is _DOUBTED:
            flow.state = move(_DOUBTED, Cause.HEARD)
        if size == 1:  # a keepalive's byte
            self._line.acknowledge(flow, now)
        return flow, seq, flags, data, stop, piece

    def _overtaken(self, flow: Flow, last: Segment, buf: Buffer, at: int) -> tuple[Segment, int]:
        """Look whether what is missing in front of a segment comes right behind it, to ``buf[at:]``.

        Returns it all, or the segment as it is, and the size of the segments that were joined.
        """
        if len(buf) - at < _HEADERS + LARGEST:
            return last, 0
        try:
            start, stop, piece, source = self._port_recv(buf, at)
        except BlockingIOError:
            return last, 0
        others = read(buf, start + VNET_SIZE, stop)
        if others is not None and others[1] == flow.received & MASK and (whole := rejoin(buf, last, others)):
            return whole, piece
        self._kept = bytes(buf[start:stop]), piece, source
        self._next = self._take_kept
        return last, 0

    def _take_kept(self, buf: Buffer, pos: int) -> tuple[int, int, int, tuple[str]]:
        """Receive the packet that was read on the way to another."""
        assert self._kept is not None  # noqa: S101  # the caller has looked
        packet, piece, source = self._kept
        self._kept = None
        self._next = self._port_recv
        end = pos + len(packet)
        buf[pos:end] = packet
        return pos, end, piece, source

    def _put(self, buf: Buffer, pos: int) -> tuple[Flow, int, int, int]:
        """Hand over a batch that was put together."""
        flow, batch, seg = self._ready.popleft()
        end = pos + len(batch)
        buf[pos:end] = batch
        return flow, pos, end, seg

    def _send_less(self, flow: Flow, buf: Buffer, start: int, seg: int, now: float) -> bool:
        """Send what the far end's window has room for, and drop the rest. Without a connection, drop all."""
        if not flow.is_up:
            self.counts.not_open += 1
            self._side.want(flow, now)
            return False
        self.counts.window_full += 1
        room = (flow.limit - flow.sent) // seg * seg
        if room > 0:
            self.send(flow, buf, start, start + room, seg, now)
        elif now - flow.probed >= STALL_PROBE:
            self._line.probe(flow, now)
            self._timers.plan(flow, now + ASK_AFTER)
        return False

    def _send_halves(self, flow: Flow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send a batch that is too large for one packet as two, and leave it as it was. One datagram alone is lost."""
        assert flow.head is not None  # noqa: S101  # the caller has looked
        middle = start + flow.head.largest // seg * seg
        if middle == start:
            return False
        if not self.send(flow, buf, start, middle, seg, now):
            return False
        room = middle - flow.head.room - _PORT_HEADROOM
        kept = bytes(buf[room:middle])
        sent = self.send(flow, buf, middle, end, seg, now)
        buf[room:middle] = kept
        return sent

    def _unusual(
        self, flow: Flow | None, segment: Segment, buf: Buffer, tcp: int, to: tuple[str], now: float
    ) -> Flow | None:
        """Take what is not a plain segment of a known connection; return the connection that a plain one begins."""
        flags, data = segment[3], segment[5]
        if flags & SYN:
            self._side.syn(segment, bytes(buf[tcp + 20 : data]), to, now)
        elif flow is not None and flags & CONTROL:
            self._side.hint(flow, now)
        elif not flags & CONTROL and flags & ACK:
            return self._side.admit(segment, to, now) if flow is None else self._side.confirm(flow, segment, now)
        else:
            self.counts.strays += 1
        return None
