"""ECHO: a datagram from a node to its own outside address, to see whether the NAT turns it around (RFC 4787, REQ-9).

::

    ECHO, 32    type 1 = 8 | reserved 3 | token 8 | zero 20

Only who sent it takes it, by its token; nobody answers it.
"""

from __future__ import annotations

from struct import Struct

from ltunnel.wire.fields import TOKEN_SIZE
from ltunnel.wire.types import MessageType

_ECHO = Struct(">B3s8s20s")


def pack_echo(token: bytes) -> bytes:
    """Return the 32 bytes. ValueError unless the token has 8."""
    if len(token) != TOKEN_SIZE:
        raise ValueError(f"a token of {len(token)} bytes")
    return _ECHO.pack(MessageType.ECHO, b"", token, b"")


def parse_echo(data: bytes) -> bytes | None:
    """Return the token; None for bytes that are no ECHO."""
    if len(data) != _ECHO.size or data[0] != MessageType.ECHO:
        return None
    _type, reserved, token, zero = _ECHO.unpack(data)
    return None if any(reserved) or any(zero) else bytes(token)
