"""One flow and the books of its connection: what was sent, acknowledged, allowed, received.

Sequence numbers are kept as integers that never wrap; what is on the wire is their low 32 bits. There is neither
retransmission nor reassembly: a hole that a loss leaves is never filled, so acknowledgements have to go on over it some
time. They stay in front of the first one, as TCP's would, until half our window is behind it, and then move up to the
highest number that arrived. Without window scaling they always are that number. So the far end's window never closes,
and a firewall that tracks windows (see `ltunnel.testing.conntrack` for its rules) sees no acknowledgement of what it
has not seen itself.
"""

from __future__ import annotations

from ltunnel.plugin import Address, Route
from ltunnel_transport_faketcp.opening import SCALE, Agreed, Numbers, payload_limit
from ltunnel_transport_faketcp.reader import Reader
from ltunnel_transport_faketcp.segment import ACK, MASK, PSH, Head, word
from ltunnel_transport_faketcp.states import State

WINDOW = 65_535
ACK_AT_ONCE = 1 << 21
"""Bytes received that are acknowledged at once, whatever may say it soon; less where our window is small."""
FOREVER = float("inf")

_HALF = 1 << 31
_STALE = 1.0
_MANY = 64
"""Holes that are remembered for segments that come late; a loss makes one for good."""


class Flow:
    """One far end. On a node it outlives its connections; on a hub it is one connection.

    Compared by identity. Times are monotonic seconds.
    """

    __slots__ = (
        "ack", "ack_planned", "acked", "began", "clock", "data_word", "due", "echo", "far", "first", "head", "heard",
        "hinted", "hold", "holes", "key", "limit", "much", "much_planned", "near", "number", "numbers", "offered",
        "patience", "pieces", "probed", "pure_word", "reached", "reader", "received", "remote", "route", "sent",
        "shift", "span", "state", "to", "told", "tries", "used", "waiting",
    )  # fmt: skip

    def __init__(self, remote: Address, state: State, now: float) -> None:
        self.remote = remote
        self.to = (remote[0],)
        self.state = state
        self.key = b""
        self.route: Route | None = None
        """On a node: how packets got to the far end when the connection began."""
        self.numbers = Numbers(0, 0, 0, 0)
        self.number = 0
        """On a node: our port number of the newest connection."""
        self.near = 0
        """On a node: the port number from which the flow is opened, by both ends at once; 0: any, and by us."""
        self.clock = 0
        """Our timestamp at 0 s."""
        self.first = 0
        """Our SYN's sequence number."""
        self.far = 0
        """What follows the sequence number of the far end's SYN, which came with `offered`, where both ends open."""
        self.offered = Agreed()
        self.head: Head | None = None
        self.data_word = self.pure_word = b""
        self.pieces = 0
        """Bytes of payload that a segment may carry."""
        self.sent = self.acked = 0
        """Next sequence number to send; highest that the far end has acknowledged."""
        self.limit = -1
        """Up to where the far end's window allows to send; -1 while there is no connection."""
        self.shift = 0
        """Scale of the far end's windows."""
        self.received = self.told = 0
        """Highest number that arrived, and what it was when the last segment was sent."""
        self.ack = 0
        """What is acknowledged: `received`, or the beginning of the first of the `holes`."""
        self.holes: list[tuple[int, int]] = []
        """What is missing below `received`: (begin, end), in order."""
        self.hold = 0
        """Bytes by which `ack` may stay behind."""
        self.span = WINDOW
        """Our own window in bytes."""
        self.echo = 0
        """The far end's newest timestamp."""
        self.reader: Reader | None = None
        """Puts slots together; made when the first segment comes whose boundaries are not those of slots."""
        self.used = now
        """When the core last sent something."""
        self.heard = self.reached = now
        """When something came; when something came that reached up to `received`."""
        self.waiting: float | None = None
        """When something was sent that calls for an answer, if none came since."""
        self.hinted = False
        """Whether a RST or FIN came on this connection."""
        self.patience = 0.0
        """For how long it may go on without an answer (seconds)."""
        self.began = self.probed = now
        """When this connection's first SYN was sent; when the last probe was."""
        self.tries = 0
        self.due = FOREVER
        """When the timers look at it."""
        self.ack_planned = self.much_planned = False
        self.much = 0
        """Bytes to be acknowledged after which that is done at once."""

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self.state is State.OPEN or self.state is State.DOUBTED

    def establish(self, head: Head, agreed: Agreed, *, first: int, far: int, window: int, now: float) -> None:
        """Begin a connection: we have sent a SYN with number `first`, the far end goes on at `far`."""
        self.head = head
        self.clock = self.numbers.clock
        self.first = first
        self.sent = self.acked = first + 1
        self.received = self.told = self.ack = far
        self.holes = []
        self.limit = self.sent + window
        self.shift, self.span = (0, WINDOW) if agreed.scale is None else (agreed.scale, WINDOW << SCALE)
        self.hold = 0 if agreed.scale is None else self.span // 2
        self.much = min(self.span // 2, ACK_AT_ONCE)
        self.pieces = payload_limit(agreed, head.version)
        self.echo = agreed.clock or 0
        size = 32 if head.timed else 20
        self.data_word, self.pure_word = word(PSH | ACK, WINDOW, size), word(ACK, WINDOW, size)
        self.reader = None
        self.heard = self.reached = now
        self.waiting = None
        self.hinted = False

    def take(self, seq: int, ack: int, size: int, window: int, clock: int, now: float) -> bool:
        """Keep the books of a segment with `size` bytes of payload. False if it cannot be of this connection.

        An acknowledgement may lag behind, but not be of what was never sent. A segment may begin before or behind
        what is expected, within our window.
        """
        received = self.received
        step = seq + size - received & MASK
        if step != size and self.span < step < MASK - self.span:
            return False
        acked = self.acked
        ahead = ack - acked & MASK
        if ahead < _HALF:
            if ahead > self.sent - acked:
                return False
            self.acked = acked = acked + ahead
            limit = acked + (window << self.shift)
            if limit > self.limit:
                self.limit = limit
        if step == size:  # mostly
            self.reached = now
        else:
            step = self._place(step, size, now)
        if step:
            self.received = received = received + step
            if not self.holes:
                self.ack = received
            elif received - self.ack > self.hold:
                self.ack = received
                self.holes = []
        if clock >= 0 and clock - self.echo & MASK < _HALF:
            self.echo = clock
        self.heard = now
        self.waiting = None
        return True

    def _place(self, step: int, size: int, now: float) -> int:
        """Take note of a segment that is not the next, whose end is `step` from `received`, modulo 2^32.

        Returns by how much `received` moves.
        """
        if step <= self.span:
            self.reached = now
            if step > size and len(self.holes) < _MANY:
                self.holes.append((self.received, self.received + step - size))
            return step
        step -= MASK + 1
        if now - self.reached > _STALE:  # what arrived is never reached again: it was a forger's number
            self.reached = now
            self.holes = []
            return step
        if size and self.holes:
            end = self.received + step
            self._fill(end - size, end)
        return 0

    def _fill(self, begin: int, end: int) -> None:
        """Take note of a segment that came late."""
        holes = []
        for low, high in self.holes:
            if low < begin < high or high <= begin:
                holes.append((low, min(high, begin)))
            if low < end < high or end <= low:
                holes.append((max(low, end), high))
        self.holes = holes
        self.ack = holes[0][0] if holes else self.received

    def drop_connection(self) -> None:
        """Forget the connection: nothing more can be sent on it."""
        self.limit = -1
        self.waiting = None
