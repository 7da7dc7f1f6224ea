"""OBSERVE and OBSERVED: a node asks its hub as whom it sees the port that the question came from.

::

    OBSERVE, 32    token 8 | flags 1 | zero 23
    OBSERVED, 32   token 8 | flags 1 | other port 2 | port 2 | address 16 | zero 3

Both are equally long, so that asking is no way to make a hub send more than it gets. Flag 0x01 asks for, or marks, an
answer from the hub's other UDP port. An IPv4 address is written as IPv4-mapped (RFC 4291, section 2.5.5.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from struct import Struct
from typing import ClassVar

from ltunnel.errors import WireError
from ltunnel.plugin import Address
from ltunnel.wire.fields import TOKEN_SIZE
from ltunnel.wire.types import FrameType

_OBSERVE = Struct(">8sB23s")
_OBSERVED = Struct(">8sBHH16s3s")
_FROM_OTHER = 0x01
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Observe:
    """Asks for an OBSERVED with the same token."""

    TYPE: ClassVar[FrameType] = FrameType.OBSERVE
    token: bytes
    from_other: bool = False
    """Whether the answer shall come from the hub's port that was not asked."""

    def pack(self) -> bytes:
        """Return the 32 bytes."""
        _check(self.token)
        return _OBSERVE.pack(self.token, _FROM_OTHER if self.from_other else 0, b"")

    @classmethod
    def parse(cls, body: bytes) -> Observe:
        """Read the 32 bytes."""
        if len(body) != _OBSERVE.size:
            raise WireError(f"OBSERVE of {len(body)} bytes")
        token, flags, zero = _OBSERVE.unpack(body)
        if any(zero):
            raise WireError("padding is not zero")
        return cls(token, bool(flags & _FROM_OTHER))


@dataclass(frozen=True, slots=True)
class Observed:
    """What the hub saw."""

    TYPE: ClassVar[FrameType] = FrameType.OBSERVED
    token: bytes
    from_other: bool
    """Whether it comes from the port that was not asked."""
    other_port: int
    """Number of the hub's other UDP port, 0 if it has none."""
    address: Address
    """Where the OBSERVE came from."""

    def pack(self) -> bytes:
        """Return the 32 bytes. ValueError for an address that is not numeric."""
        _check(self.token)
        host, port = self.address
        packed = ip_address(host).packed
        packed = packed if len(packed) == 16 else _MAPPED + packed
        return _OBSERVED.pack(self.token, _FROM_OTHER if self.from_other else 0, self.other_port, port, packed, b"")

    @classmethod
    def parse(cls, body: bytes) -> Observed:
        """Read the 32 bytes."""
        if len(body) != _OBSERVED.size:
            raise WireError(f"OBSERVED of {len(body)} bytes")
        token, flags, other_port, port, packed, zero = _OBSERVED.unpack(body)
        if any(zero) or not port:
            raise WireError("OBSERVED without a port, or with padding that is not zero")
        address = IPv6Address(packed)
        return cls(token, bool(flags & _FROM_OTHER), other_port, (str(address.ipv4_mapped or address), port))


def _check(token: bytes) -> None:
    if len(token) != TOKEN_SIZE:  # struct would cut or fill it without a word
        raise ValueError(f"a token has {TOKEN_SIZE} bytes")
