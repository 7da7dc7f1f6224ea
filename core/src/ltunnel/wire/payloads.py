"""What the three handshake messages carry sealed. Numbers are big-endian, sizes in bytes.

::

    INIT, 56          time 8 (nanoseconds since 1970) | version 1 | zero 7 | stack 16 | zero 24
    RESP, 16          stack 16
    CONFIRM, <= 1152  entries: NAME 1, MTU 1, ADDRESS 0-8 (wanted), NETWORK 0-24 (routed to this node), STACK 0-8

`stack` is a fingerprint of the wire-relevant plugins; the names themselves come in CONFIRM, so that both ends can say
what differs. Zeros are written as such and ignored when read: a later version says in `version` that it uses them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from ltunnel.errors import WireError
from ltunnel.wire import fields, tlv
from ltunnel.wire.fields import Field
from ltunnel.wire.messages import CONFIRM_PAYLOAD_MAX, INIT_PAYLOAD, RESP_PAYLOAD, VERSION
from ltunnel.wire.tlv import Interface, Network

STACK_SIZE = 16

_INIT = Struct(">QB7x16s24x")
_CONFIRM: tlv.Fields = {
    Field.NAME: fields.ONE_NAME,
    Field.MTU: fields.ONE_MTU,
    Field.ADDRESS: fields.ADDRESSES,
    Field.NETWORK: fields.NETWORKS,
    Field.STACK: fields.STACK,
}
assert _INIT.size == INIT_PAYLOAD and tlv.MAX_BODY == CONFIRM_PAYLOAD_MAX  # noqa: S101, PT018 (layouts that must agree)


def stack_fingerprint(stack: Iterable[str]) -> bytes:
    """Return the 16 bytes that stand for a stack (``["cipher=AESGCM"]``), in whatever order it is named."""
    return sha256(b"".join(name.encode() + b"\n" for name in sorted(stack))).digest()[:STACK_SIZE]


@dataclass(frozen=True, slots=True)
class InitPayload:
    """In INIT: when it was sent by the sender's wall clock, and what the sender runs."""

    time_ns: int
    stack: bytes
    """`stack_fingerprint`."""
    version: int = VERSION
    """Highest version of the protocol that the sender speaks."""

    def pack(self) -> bytes:
        """Return the 56 bytes."""
        if len(self.stack) != STACK_SIZE:
            raise ValueError(f"a stack's fingerprint has {STACK_SIZE} bytes")
        return _INIT.pack(self.time_ns, self.version, self.stack)

    @classmethod
    def parse(cls, data: bytes) -> InitPayload:
        """Read the 56 bytes."""
        if len(data) != INIT_PAYLOAD:
            raise WireError(f"INIT payload of {len(data)} bytes")
        time_ns, version, stack = _INIT.unpack(data)
        return cls(time_ns, stack, version)


@dataclass(frozen=True, slots=True)
class RespPayload:
    """In RESP: what the responder runs."""

    stack: bytes

    def pack(self) -> bytes:
        """Return the 16 bytes."""
        if len(self.stack) != STACK_SIZE:
            raise ValueError(f"a stack's fingerprint has {STACK_SIZE} bytes")
        return self.stack

    @classmethod
    def parse(cls, data: bytes) -> RespPayload:
        """Read the 16 bytes."""
        if len(data) != RESP_PAYLOAD:
            raise WireError(f"RESP payload of {len(data)} bytes")
        return cls(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPayload:
    """In CONFIRM: who the initiator is and what it asks for."""

    name: str
    mtu: int
    """Largest inner packet that it takes."""
    addresses: tuple[Interface, ...] = ()
    """Tunnel addresses that it wants."""
    routes: tuple[Network, ...] = ()
    """Prefixes behind it."""
    stack: tuple[str, ...] = ()

    def pack(self) -> bytes:
        """Return the entries. ValueError for what breaks a bound."""
        entries = [fields.name_entry(self.name), fields.mtu_entry(self.mtu)]
        entries += fields.interface_entries(Field.ADDRESS, self.addresses)
        entries += fields.network_entries(self.routes)
        entries += fields.stack_entries(self.stack)
        return tlv.encode(entries, _CONFIRM)

    @classmethod
    def parse(cls, data: bytes) -> ConfirmPayload:
        """Read the entries."""
        values = tlv.decode(data, _CONFIRM)
        return cls(
            name=fields.read_name(values[Field.NAME]),
            mtu=fields.read_mtu(values[Field.MTU]),
            addresses=fields.read_interfaces(values[Field.ADDRESS]),
            routes=fields.read_networks(values[Field.NETWORK]),
            stack=fields.read_stack(values[Field.STACK]),
        )
