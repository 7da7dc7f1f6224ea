"""The objects that descriptors make for the data path: `Transport` (and what some have besides), `Aead`, `FecCode`.

All of them work on batches, raise nothing for what came from the network, and keep no reference to a buffer after the
call returns.
"""

from collections.abc import Mapping, MutableSequence, Sequence
from typing import Any, Protocol

from ltunnel.plugin.ports import Address, Buffer, Flow, Port


class Transport(Protocol):
    """Carries datagrams over ports. Sans-IO but for its ports; time is an argument (monotonic seconds)."""

    ports: Sequence[Port]
    """The ports it was given, in the order in which it asked for them."""

    prefix: int
    """Bytes that it writes in front of *each* datagram (a length, a header of its own); 0 where ports keep boundaries.

    The core leaves that much room: batches are slots of ``prefix | datagram``, and `seg`, in `send` and in `receive`,
    is the size of a whole slot."""

    def connect(self, remote: Address, now: float) -> Flow:
        """Return the flow to `remote` at once, and start it if it is new or was closed.

        A flow that is still opening drops what is sent on it, and `send` says so.
        """
        ...

    def send(self, flow: Flow, buf: Buffer, start: int, end: int, seg: int, now: float) -> bool:
        """Send ``buf[start:end]``, slots of `seg` bytes of which the last may be shorter, at most `MAX_ROWS` of them.

        What stands in the prefixes is undefined until the transport writes them; it may also overwrite the `HEADROOM`
        bytes in front of `start`. False when the datagrams could not be sent: the core then tries its handshakes and
        probes again soon, or another transport.
        """
        ...

    def receive(self, port: Port, buf: Buffer, pos: int, now: float) -> tuple[Flow, int, int, int]:
        """Receive from one of its ports into ``buf[pos:]``: (flow, start, end, seg), as `Port.recv` does.

        Raises `BlockingIOError` when nothing waits. What is the transport's own business (a SYN, a bad header) it
        handles and returns an empty range (start == end).
        """
        ...

    def describe(self, flow: Flow) -> str:
        """Name a flow for people and status output: ``192.0.2.7:40122``."""
        ...

    def close(self, flow: Flow, now: float) -> None:
        """Forget a flow. Unknown flows are ignored."""
        ...

    def next_timeout(self) -> float | None:
        """Return when `handle_timeout` wants to be called (monotonic seconds), or None."""
        ...

    def handle_timeout(self, now: float) -> None:
        """Do what is due: retransmissions of its own handshake, acknowledgements, keepalives."""
        ...


class StreamTransport(Transport, Protocol):
    """What a transport may also have whose slots lie in a stream of bytes, as TCP's: it takes large datagrams whole.

    What the core seals at once it then need not cut, nor put together again.
    """

    largest_slot: int
    """Bytes of the largest slot that `send_whole` takes, its `prefix` included, and `receive` hands over; at most those
    of a datagram of 65,507."""

    def send_whole(self, flow: Flow, buf: Buffer, start: int, end: int, piece: int, now: float) -> bool:
        """Send one datagram, the slot ``buf[start:end]``; else as `send`. It arrives as one, or not at all.

        `piece` is the largest slot that the path to the far end carries in one packet, as far as is known. Who cuts
        the stream into packets himself puts no more than that into each.
        """
        ...


class TellingTransport(Transport, Protocol):
    """What a transport may also have, for its operator. The core does without each of these by itself.

    Words are for people, and the transport's own: nothing in them was chosen by the network, but for addresses.
    """

    drops: Mapping[str, int]
    """What came to nothing, by reason, since the start: ``{"malformed": 3}``. Shown in the status; read when somebody
    asks, so it may be made up then."""

    tallies: Mapping[str, int]
    """What else happened, by name, since the start: ``{"connections": 2}``. Read as `drops` is."""

    notices: list[str]
    """What the operator should hear, a line each, oldest first. The core empties the list and logs what was in it, with
    the transport's name in front, the same text once a minute. Keep it short: nobody may read it for a while."""


class PartingTransport(Transport, Protocol):
    """What a transport may also have, to end in good order."""

    def leave(self, now: float) -> None:
        """Tell far ends, and firewalls on the way, that it is over.

        Called once, after the core's own goodbyes: nothing is sent or received afterwards, and the ports are closed.
        """
        ...


class MeetingTransport(Transport, Protocol):
    """What a transport with connections may also have: connections between two nodes, neither of which can be called.

    A NAT or firewall in front of each lets nothing in but answers. So both open the connection at the same time,
    towards the address that the hub has seen the other come from (RFC 9293, section 3.5: simultaneous open).
    """

    def meet(self, remote: Address, like: Flow, now: float) -> Flow:
        """Return the flow to `remote` at once, and start it, from the local port that `like` uses.

        `like` is the flow to the hub. The other node has to do the same within seconds; until then it is repeated, as
        long as the flow is used. Apart from that it is a flow as those of `connect`.
        """
        ...


class Aead(Protocol):
    """One key, both directions of work: seal and open rows. The core never repeats a nonce with one key.

    Views may overlap the way the data path likes it: ``plain[i + 1]`` may start inside ``plain[i]`` when opening, since
    a later row may overwrite the tail of an earlier one. So rows must be worked on strictly in order.
    """

    def seal(self, nonces: Sequence[Buffer], plain: Sequence[Buffer], sealed: Sequence[Buffer]) -> None:
        """Seal ``plain[i]`` (n bytes) with ``nonces[i]`` (12 bytes) into ``sealed[i]`` (n + 16 bytes), for all i.

        `nonces` and `sealed` may be longer than `plain`; the rest is not touched.
        """
        ...

    def open(self, nonces: Sequence[Buffer], sealed: Sequence[Buffer], plain: Sequence[Buffer]) -> int:
        """Open ``sealed[i]`` (n + 16 bytes) with ``nonces[i]`` into ``plain[i]`` (n bytes), in order.

        Stops at the first row that does not authenticate and returns how many were opened before it; the contents of
        the failed row's output are then undefined. `nonces` and `plain` may be longer than `sealed`.
        """
        ...

    def seal_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes:
        """Seal one short message (handshake, cookie) with associated data; returns ciphertext and tag (n + 16)."""
        ...

    def open_message(self, nonce: bytes, data: bytes, associated: bytes) -> bytes | None:
        """Open one short message; None when it does not authenticate."""
        ...


class FecCode(Protocol):
    """A systematic erasure code for groups of `k` data rows and `m` parity rows of equal length.

    A group may be closed with fewer than `k` data rows. It is then *shortened*: it counts as one whose other data rows,
    those behind, are all zero.

    Arrays are numpy arrays of uint8. Rows may lie apart in a larger array; the bytes of one row are contiguous.
    """

    k: int
    m: int

    def encode(self, rows: Any, parity: Any) -> None:
        """Compute parity: `rows` is an (n, L) array, `parity` a (m, L) array that is filled; 1 <= n <= k and 1 <= L.

        ``n < k`` encodes a shortened group and gives the same parity as `rows` with ``k - n`` rows of zeros behind
        them; a code should not spend time on those. `rows` is not changed and does not overlap with `parity`.
        """
        ...

    def recover(self, rows: Any, present: MutableSequence[bool]) -> bool:
        """Restore missing data rows in place, as many as the rows present determine; say whether that is all of them.

        `rows` is a (k + m, L) array, data first; ``present[i]`` says whether row i is there, and is set for each row
        that is restored. Of a shortened group the data rows that were never used are zero and present. What stands in
        a missing row is undefined; a data row that stays missing is not changed. Of missing parity rows nothing is
        promised.
        """
        ...
