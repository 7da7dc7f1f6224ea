"""An epoch: one pair of keys between two peers, from one handshake to the next.

The nonce of a DATA datagram is its own 12-byte header: type, receiver index, counter. So type, index and counter are
all authenticated without associated data, and a nonce repeats only if a counter does. Counters live here and nowhere
else; an epoch is never stored and never shared.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from ltunnel.constants import (
    DATA_HEADER,
    DATA_OVERHEAD,
    REJECT_AFTER_PACKETS,
    REJECT_AFTER_TIME,
    TAG,
)
from ltunnel.session.replay import ReplayWindow
from ltunnel.wire.types import MessageType

if TYPE_CHECKING:
    from ltunnel.plugin import Aead
    from ltunnel.session.peer import Peer

_HEADER = struct.Struct(">IQ")
_DATA = MessageType.DATA << 24


class Epoch:
    """Keys, counters and replay window of one handshake's outcome.

    `local_index` (24 bits) is what the peer writes into its datagrams to us, `remote_index` what we write into ours.
    """

    __slots__ = (
        "confirmed",
        "counter",
        "created",
        "haste",
        "heard",
        "initiator",
        "local_index",
        "opener",
        "peer",
        "remote_index",
        "reported",
        "reported_lost",
        "sealer",
        "send_word",
        "told",
        "window",
    )  # fmt: skip

    def __init__(
        self, peer: Peer, *, local_index: int, remote_index: int, sealer: Aead, opener: Aead, created: float,
        initiator: bool,
    ) -> None:  # fmt: skip
        self.peer = peer
        self.local_index = local_index
        self.remote_index = remote_index
        self.sealer = sealer
        self.opener = opener
        self.created = created
        self.initiator = initiator
        self.confirmed = False
        """Whether the peer has shown that it holds the keys: its first datagram of this epoch has authenticated."""
        self.send_word = _DATA | remote_index
        """First four bytes of outgoing headers, as a big-endian number."""
        self.counter = 0
        """Next counter to seal with."""
        self.window = ReplayWindow()
        self.reported = 0
        """How many of the accepted counters the peer has been told of."""
        self.reported_lost = 0
        """How many of the missing ones."""
        self.told = float("-inf")
        """When the peer was told of them last (monotonic seconds)."""
        self.haste = 0
        """How many reports of losses it was told of lately without waiting for their turn."""
        self.heard = created
        """When the last was accepted (monotonic seconds)."""

    def usable(self, now: float) -> bool:
        """Whether anything may still be sealed or opened with these keys."""
        return self.counter < REJECT_AFTER_PACKETS and now - self.created < REJECT_AFTER_TIME

    def take(self, count: int) -> int:
        """Reserve `count` counters and return the first. The only place where a counter moves."""
        first = self.counter
        self.counter = first + count
        return first

    def seal_frame(self, frame_type: int, body: bytes) -> bytes:
        """Seal one control frame into a whole DATA datagram."""
        header = _HEADER.pack(self.send_word, self.take(1))
        return header + self.sealer.seal_message(header, body + bytes((frame_type,)), b"")

    def open_frame(self, datagram: bytes) -> tuple[int, bytes] | None:
        """Open one DATA datagram and commit its counter: (frame type, body), or None (forged, replayed, too short).

        The slow twin of the batch path, for tests and tools.
        """
        if len(datagram) <= DATA_OVERHEAD:
            return None
        header = datagram[:DATA_HEADER]
        word, counter = _HEADER.unpack(header)
        if word != _DATA | self.local_index or counter >= REJECT_AFTER_PACKETS or not self.window.fresh(counter):
            return None
        plain = self.opener.open_message(header, datagram[DATA_HEADER:], b"")
        if plain is None or len(plain) != len(datagram) - DATA_HEADER - TAG:
            return None
        self.window.commit(counter)
        self.confirmed = True
        return plain[-1], plain[:-1]
