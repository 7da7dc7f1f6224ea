"""The five messages of a handshake. Numbers are big-endian, sizes in bytes, reserved bytes zero.

::

    INIT, 144         type 1 = 1 | version 1 | cipher 2 | sender 4 | e 32 | sealed payload 56+16 | MAC1 16 | MAC2 16
    RESP, 140         type 1 = 2 | reserved 3 | sender 4 | receiver 4 | e 32 | sealed s 32+16 | sealed payload 16+16
                      | MAC1 16
    CONFIRM, 92 + n   type 1 = 3 | reserved 3 | sender 4 | receiver 4 | sealed s 32+16 | sealed payload n+16 | MAC1 16
    COOKIE, 56        type 1 = 4 | reserved 3 | receiver 4 | salt 16 | sealed cookie 16+16
    TIME, 56          type 1 = 5 | reserved 3 | receiver 4 | salt 16 | sealed time 16+16

`sender` and `receiver` are session indices below 2^24, since DATA has three bytes for one. `cipher` is the start of a
digest of the cipher's wire name, so that "another cipher" can be told apart from "another key". What stands between the
indices and the MACs is a Noise message as it is (`Init.noise`, `Resp.noise`, `Confirm.noise`).

MAC1 is over everything in front of it, MAC2 over everything in front of it, MAC1 included; MAC2 is zero without a
cookie. No reply is larger than what it replies to: RESP, COOKIE and TIME are smaller than INIT.

`parse` is total: any bytes give a message or `WireError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from ltunnel.errors import WireError
from ltunnel.wire.types import MessageType

VERSION = 1
PROLOGUE = b"ltunnel 1"
"""Noise prologue of both sides: a handshake between two versions does not authenticate."""

INDEX_LIMIT = 1 << 24
MAC_SIZE = 16
INIT_PAYLOAD = 56
RESP_PAYLOAD = 16
CONFIRM_PAYLOAD_MAX = 1152

INIT_SIZE = 144
RESP_SIZE = 140
CONFIRM_SIZE = 92
"""Of a CONFIRM with an empty payload."""
SEALED_REPLY_SIZE = 56
"""Of COOKIE and TIME."""

INIT_MAC1 = 112
"""Offset of MAC1 in INIT: ``mac1(key, data[:INIT_MAC1])``."""
INIT_MAC2 = 128
RESP_MAC1 = 124
CONFIRM_MAC1 = -16
"""MAC1 is the end of a CONFIRM."""

NO_MAC = bytes(MAC_SIZE)

_INIT = Struct(">BB2sI104s16s16s")
_RESP = Struct(">B3sII112s16s")
_CONFIRM = Struct(">B3sII")
_REPLY = Struct(">B3sI16s32s")
_ZERO = bytes(3)


def cipher_mark(wire_name: str) -> bytes:
    """Return the two bytes that stand for a cipher in INIT."""
    return sha256(wire_name.encode()).digest()[:2]


@dataclass(frozen=True, slots=True)
class Init:
    """Opens a handshake. `noise` is 104 bytes: e 32, sealed payload 56 + 16."""

    sender: int
    cipher: bytes
    noise: bytes
    mac1: bytes = NO_MAC
    mac2: bytes = NO_MAC
    version: int = VERSION

    def pack(self) -> bytes:
        """Return the 144 bytes."""
        _check_fields((self.cipher, 2), (self.noise, 104), (self.mac1, MAC_SIZE), (self.mac2, MAC_SIZE))
        sender = _outgoing(self.sender)
        return _INIT.pack(MessageType.INIT, self.version, self.cipher, sender, self.noise, self.mac1, self.mac2)


@dataclass(frozen=True, slots=True)
class Resp:
    """Answers an INIT. `noise` is 112 bytes: e 32, sealed s 32 + 16, sealed payload 16 + 16."""

    sender: int
    receiver: int
    noise: bytes
    mac1: bytes = NO_MAC

    def pack(self) -> bytes:
        """Return the 140 bytes."""
        _check_fields((self.noise, 112), (self.mac1, MAC_SIZE))
        sender, receiver = _outgoing(self.sender), _outgoing(self.receiver)
        return _RESP.pack(MessageType.RESP, _ZERO, sender, receiver, self.noise, self.mac1)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Ends a handshake: the initiator shows who it is. `noise` is sealed s 32 + 16, sealed payload n + 16."""

    sender: int
    receiver: int
    noise: bytes
    mac1: bytes = NO_MAC

    def pack(self) -> bytes:
        """Return the 92 + n bytes."""
        _check_fields((self.mac1, MAC_SIZE))
        if not 64 <= len(self.noise) <= 64 + CONFIRM_PAYLOAD_MAX:
            raise ValueError(f"CONFIRM with a Noise message of {len(self.noise)} bytes")
        sender, receiver = _outgoing(self.sender), _outgoing(self.receiver)
        return _CONFIRM.pack(MessageType.CONFIRM, _ZERO, sender, receiver) + self.noise + self.mac1


@dataclass(frozen=True, slots=True)
class Cookie:
    """Answers an INIT under load: come again with this cookie."""

    receiver: int
    salt: bytes
    sealed: bytes

    def pack(self) -> bytes:
        """Return the 56 bytes."""
        _check_fields((self.salt, 16), (self.sealed, 32))
        return _REPLY.pack(MessageType.COOKIE, _ZERO, _outgoing(self.receiver), self.salt, self.sealed)


@dataclass(frozen=True, slots=True)
class Time:
    """Answers an INIT whose time is too far off: this is what the hub's clock says."""

    receiver: int
    salt: bytes
    sealed: bytes

    def pack(self) -> bytes:
        """Return the 56 bytes."""
        _check_fields((self.salt, 16), (self.sealed, 32))
        return _REPLY.pack(MessageType.TIME, _ZERO, _outgoing(self.receiver), self.salt, self.sealed)


def _check_fields(*fields: tuple[bytes, int]) -> None:
    for value, size in fields:
        if len(value) != size:  # struct would cut or fill it without a word
            raise ValueError(f"a field of {size} bytes has {len(value)}")


def _outgoing(index: int) -> int:
    if not 0 <= index < INDEX_LIMIT:
        raise ValueError(f"session index {index} does not fit 24 bits")
    return index


Message = Init | Resp | Confirm | Cookie | Time


def parse(data: bytes) -> Message:
    """Read a handshake message. WireError for everything that is not one, DATA included."""
    if not data:
        raise WireError("empty datagram")
    match data[0]:
        case MessageType.INIT:
            return _parse_init(data)
        case MessageType.RESP:
            return _parse_resp(data)
        case MessageType.CONFIRM:
            return _parse_confirm(data)
        case MessageType.COOKIE:
            return Cookie(*_parse_reply(data))
        case MessageType.TIME:
            return Time(*_parse_reply(data))
        case other:
            raise WireError(f"not a handshake message: type {other}")


def _parse_init(data: bytes) -> Init:
    if len(data) < 2:
        raise WireError("INIT without a version")
    if data[1] != VERSION:  # before the size, which another version may change
        raise WireError(f"INIT of version {data[1]}")
    _check_size("INIT", data, INIT_SIZE)
    _, version, cipher, sender, noise, mac1, mac2 = _INIT.unpack(data)
    return Init(_index(sender), cipher, noise, mac1, mac2, version)


def _parse_resp(data: bytes) -> Resp:
    _check_size("RESP", data, RESP_SIZE)
    _, reserved, sender, receiver, noise, mac1 = _RESP.unpack(data)
    _check_reserved(reserved)
    return Resp(_index(sender), _index(receiver), noise, mac1)


def _parse_confirm(data: bytes) -> Confirm:
    if not CONFIRM_SIZE <= len(data) <= CONFIRM_SIZE + CONFIRM_PAYLOAD_MAX:
        raise WireError(f"CONFIRM of {len(data)} bytes")
    _, reserved, sender, receiver = _CONFIRM.unpack_from(data)
    _check_reserved(reserved)
    return Confirm(_index(sender), _index(receiver), data[_CONFIRM.size : CONFIRM_MAC1], data[CONFIRM_MAC1:])


def _parse_reply(data: bytes) -> tuple[int, bytes, bytes]:
    _check_size("COOKIE or TIME", data, SEALED_REPLY_SIZE)
    _, reserved, receiver, salt, sealed = _REPLY.unpack(data)
    _check_reserved(reserved)
    return _index(receiver), salt, sealed


def _check_size(name: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise WireError(f"{name} of {len(data)} bytes instead of {size}")


def _check_reserved(reserved: bytes) -> None:
    if reserved != _ZERO:
        raise WireError("reserved bytes are not zero")


def _index(number: int) -> int:
    if number >= INDEX_LIMIT:
        raise WireError(f"session index {number} has more than 24 bits")
    return number
