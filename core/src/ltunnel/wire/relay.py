"""RELAY frames: a whole datagram from one node to another, through their hub, which cannot read it.

::

    datagram n | destination 8 | source 8 | ttl 1 | type 1 = 0x05
    datagrams of one size, the last may be shorter | size 2 | destination 8 | source 8 | ttl 1 | type 1     in a record

A node is named by the start of SHA-256 of its static key. The relay writes the sender's true name into `source` and
lowers `ttl`; what the sender wrote into `source` means nothing.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import NamedTuple

from ltunnel.constants import RELAY_TRAILER
from ltunnel.errors import WireError
from ltunnel.wire.types import FrameType

NAME_SIZE = 8
TTL = 8
"""What a sender puts into `ttl`."""

SIZE = Struct(">H")
TRAILER = Struct("8s8sBB")
assert TRAILER.size == RELAY_TRAILER  # noqa: S101 (layouts that must agree)


class RelayTrailer(NamedTuple):
    """What stands behind the datagram; names are 8 bytes."""

    destination: bytes
    source: bytes
    ttl: int

    def pack(self) -> bytes:
        """Return the 18 bytes, frame type included."""
        if len(self.destination) != NAME_SIZE or len(self.source) != NAME_SIZE:
            raise ValueError(f"the name of a node has {NAME_SIZE} bytes")
        return TRAILER.pack(self.destination, self.source, self.ttl, FrameType.RELAY)

    @classmethod
    def parse(cls, frame: bytes) -> RelayTrailer:
        """Read the end of a frame, its type included."""
        if len(frame) <= RELAY_TRAILER:
            raise WireError(f"RELAY of {len(frame)} bytes")
        destination, source, ttl, frame_type = TRAILER.unpack(frame[-RELAY_TRAILER:])
        if frame_type != FrameType.RELAY:
            raise WireError(f"not a RELAY frame: type {frame_type}")
        return cls(destination, source, ttl)


@lru_cache(maxsize=4096)
def node_name(key: bytes) -> bytes:
    """Return the 8 bytes that name the node with a static key."""
    return sha256(key).digest()[:NAME_SIZE]
