"""A firewall that tracks TCP connections strictly: what a Linux router does with ``nf_conntrack_tcp_loose=0``.

It drops UDP, and of TCP whatever does not belong to a connection that it saw begin from inside, or does not fit it.
The rules are those of Linux (net/netfilter/nf_conntrack_proto_tcp.c): a table of states by direction and kind of
segment, and the window tracking of G. van Rooij, "Real Stateful TCP Packet Filtering in IP Filter" (2001):

    I    seq <= highest number that the far end has allowed
    II   end >= highest number sent - largest window of the far end
    III  ack <= highest number that the far end has sent
    IV   ack >= highest number that the far end has sent - max(own largest window, 66000)

It is stricter than recent kernels: those let pass, without effect, what is below the bounds of II and IV or not far
above that of I.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import IntEnum

from ltunnel.testing.datagrams import TCP, UDP, Fate, Packet, SimEndpoint
from ltunnel.testing.links import Link
from ltunnel.testing.network import Network, Router
from ltunnel.testing.packets import ACK, CWR, ECE, FIN, PSH, RST, SYN, URG
from ltunnel.testing.segments import Fields, Segment, fields_of

_MASK = 0xFFFFFFFF
_HALF = 1 << 31
_LEAST_ACK_WINDOW = 66_000
_IRRELEVANT_FLAGS = PSH | URG | ECE | CWR
_VALID_FLAGS = {SYN, SYN | ACK, RST, RST | ACK, FIN | ACK, ACK}
_WINDOW_SCALE, _LARGEST_SHIFT = 3, 14


class TrackState(IntEnum):
    """States of a tracked connection, by the kernel's names."""

    NONE = 0
    SYN_SENT = 1
    SYN_RECV = 2
    ESTABLISHED = 3
    FIN_WAIT = 4
    CLOSE_WAIT = 5
    LAST_ACK = 6
    TIME_WAIT = 7
    CLOSE = 8
    SYN_SENT2 = 9


TIMEOUTS = {
    TrackState.NONE: 0.0, TrackState.SYN_SENT: 120.0, TrackState.SYN_RECV: 60.0, TrackState.ESTABLISHED: 432_000.0,
    TrackState.FIN_WAIT: 120.0, TrackState.CLOSE_WAIT: 60.0, TrackState.LAST_ACK: 30.0, TrackState.TIME_WAIT: 120.0,
    TrackState.CLOSE: 10.0, TrackState.SYN_SENT2: 120.0,
}  # fmt: skip
"""Seconds without a packet after which a connection is forgotten."""

_IGNORE, _INVALID = -1, -2
_CODES = {"no": 0, "ss": 1, "sr": 2, "es": 3, "fw": 4, "cw": 5, "la": 6, "tw": 7, "cl": 8, "s2": 9, "ig": _IGNORE,
          "iv": _INVALID}  # fmt: skip


def _rows(text: str) -> dict[str, list[int]]:
    rows = (line.split() for line in text.strip().splitlines())
    return {kind: [_CODES[code] for code in codes] for kind, *codes in rows}


# new state by kind of segment and old state:  no ss sr es fw cw la tw cl s2
_TABLE = (
    _rows("""
        syn     ss ss ig ig ig ig ig ss ss s2
        synack  iv iv sr iv iv iv iv iv iv sr
        fin     iv iv fw fw la la la tw cl iv
        ack     iv iv es es cw cw tw tw cl iv
        rst     iv cl cl cl cl cl cl cl cl cl
        none    iv iv iv iv iv iv iv iv iv iv
    """),
    _rows("""
        syn     iv s2 iv iv iv iv iv ss iv s2
        synack  iv sr ig ig ig ig ig ig ig sr
        fin     iv iv fw fw la la la tw cl iv
        ack     iv ig sr es cw cw tw tw cl ig
        rst     iv cl cl cl cl cl cl cl cl cl
        none    iv iv iv iv iv iv iv iv iv iv
    """),
)


def _after(one: int, other: int) -> bool:
    """Whether a sequence number is later than another (serial number arithmetic, RFC 1982)."""
    return 0 < (one - other) & _MASK < _HALF


def _kind(flags: int) -> str:
    if flags & RST:
        return "rst"
    if flags & SYN:
        return "synack" if flags & ACK else "syn"
    if flags & FIN:
        return "fin"
    return "ack" if flags & ACK else "none"


@dataclass(slots=True)
class Seen:
    """What was seen of one end."""

    end: int = 0
    """Highest sequence number sent, plus one."""
    allowed: int = 0
    """Highest number that the other end allows."""
    window: int = 0
    """Largest window that it offered; 0: nothing was seen of it."""
    scale: int | None = None
    highest_ack: int | None = None

    def begin(self, syn: Fields, end: int) -> None:
        """Start from a SYN."""
        self.end = self.allowed = end
        self.window = max(syn.window, 1)
        option = syn.option(_WINDOW_SCALE)
        self.scale = min(option[0], _LARGEST_SHIFT) if option else None


@dataclass(slots=True)
class Tracked:
    """One connection: what was seen of the end that opened it, and of the other."""

    state: TrackState = TrackState.NONE
    seen: tuple[Seen, Seen] = field(default_factory=lambda: (Seen(), Seen()))
    last: float = 0.0
    answered: bool = False
    """Whether a segment has come from the other end."""
    ignored_syn: Fields | None = None
    """The last SYN that was let pass without effect: its answer may show that this state is out of date."""

    def judge(self, fields: Fields, direction: int) -> str | None:
        """Take a segment; None if it is fine, else why it is invalid. Direction 0 is that of the first SYN."""
        kind = _kind(fields.flags)
        new = _TABLE[direction][kind][self.state]
        if new == _INVALID:
            return f"{kind} in {self.state.name}"
        if new == _IGNORE:
            if not self._out_of_date(fields, kind, direction):
                if kind == "syn":
                    self.ignored_syn = fields
                return None
            new = TrackState.SYN_RECV
        receiver = self.seen[1 - direction]
        if kind == "rst" and receiver.highest_ack is not None and _after(receiver.highest_ack, fields.seq):
            return "rst below what was acknowledged"
        why = self._fits_window(fields, direction)
        if why is None:
            self.state = TrackState(new)
            if kind != "syn":
                self.ignored_syn = None
        return why

    def _out_of_date(self, fields: Fields, kind: str, direction: int) -> bool:
        """Whether a SYN-ACK answers a SYN that was ignored: then both ends agree, and this state is replaced."""
        syn = self.ignored_syn
        if kind != "synack" or syn is None or direction != 1 or fields.ack != (syn.seq + 1) & _MASK:
            return False
        self.seen = (Seen(), Seen())
        self.seen[0].begin(syn, (syn.seq + syn.length) & _MASK)
        return True

    def _fits_window(self, fields: Fields, direction: int) -> str | None:
        sender, receiver = self.seen[direction], self.seen[1 - direction]
        end = (fields.seq + fields.length) & _MASK
        syn = bool(fields.flags & SYN)
        if sender.window == 0 or (syn and _after(end, sender.end) and self.state in (1, 2)):
            sender.begin(fields, end)  # without a SYN it is a RST that answers one
        ack = fields.ack if fields.flags & ACK else receiver.end
        if fields.flags & RST and ack == 0:
            ack = receiver.end
        scaled = sender.scale is not None and receiver.scale is not None and not syn
        window = fields.window << (sender.scale or 0) if scaled else fields.window
        if _after(fields.seq, sender.allowed):
            return "I: seq over the upper bound"
        if receiver.window and not _after(end, sender.end - receiver.window - 1):
            return "II: seq under the lower bound"
        if _after(ack, receiver.end):
            return "III: ack of what was not seen"
        if not _after(ack, receiver.end - max(sender.window, _LEAST_ACK_WINDOW) - 1):
            return "IV: ack under the lower bound"
        sender.window = max(sender.window, window)
        if _after(end, sender.end):
            sender.end = end
        if fields.flags & ACK and (sender.highest_ack is None or _after(ack, sender.highest_ack)):
            sender.highest_ack = ack
        if _after(ack + window, receiver.allowed):
            receiver.allowed = (ack + window) & _MASK
        return None


class StrictFirewall(Router):
    """Lets pass TCP connections that began inside, as long as they are valid; drops UDP. Its uplink is the outside.

    Segments are judged one by one; TCP packets of other classes than `Segment` pass, since nothing is known of their
    layout.
    """

    def __init__(self, network: Network, name: str, *, blocked: frozenset[int] = frozenset({UDP})) -> None:
        super().__init__(network, name)
        self.blocked = blocked
        """IP protocol numbers; may be changed at any time."""
        self.invalid: Counter[str] = Counter()
        """Segments dropped, by reason."""
        self.connections: dict[tuple[SimEndpoint, SimEndpoint], Tracked] = {}
        """By (inside, outside)."""

    def receive(self, packet: Packet, link: Link) -> None:
        """Judge and pass on."""
        if packet.protocol in self.blocked:
            self.drop(packet, Fate.FILTERED)
            return
        why = self.judge(packet, inward=link is self.uplink) if packet.protocol == TCP else None
        if why is None:
            self.forward(packet, link)
        else:
            self.invalid[why] += 1
            self.drop(packet, Fate.FILTERED)

    def flush(self) -> None:
        """Forget all connections, as ``conntrack -F`` does."""
        self.connections.clear()

    def in_state(self, state: TrackState) -> int:
        """Return how many connections are in a state."""
        return sum(1 for tracked in self.connections.values() if tracked.state is state)

    def judge(self, packet: Packet, *, inward: bool) -> str | None:
        """Take a packet; None if it may pass, else why not. `inward`: it comes from outside."""
        if not isinstance(packet, Segment):
            return None
        fields = fields_of(packet)
        if fields is None or fields.flags & ~_IRRELEVANT_FLAGS not in _VALID_FLAGS:
            return "malformed"
        now = self.network.clock.now
        key = (packet.destination, packet.source) if inward else (packet.source, packet.destination)
        tracked = self.connections.get(key)
        if tracked is not None and now - tracked.last >= TIMEOUTS[tracked.state]:
            del self.connections[key]
            tracked = None
        opens = not inward and _kind(fields.flags) == "syn"
        if opens and (tracked is None or tracked.state in (TrackState.TIME_WAIT, TrackState.CLOSE)):
            tracked = self.connections[key] = Tracked()
            tracked.seen[0].begin(fields, (fields.seq + fields.length) & _MASK)
        if tracked is None:
            return "no connection"
        why = tracked.judge(fields, 1 if inward else 0)
        if why is None:
            tracked.last = now
            if fields.flags & RST and not tracked.answered:
                del self.connections[key]
            tracked.answered = tracked.answered or inward
        return why
