"""ADVERT: what a node tells another one, to which it has a direct path, of the nodes that it reaches.

::

    ADVERT       CODE 1 (version 1), FLAGS 1, HOLD 1, ROUTE 0-48, WANT 0-8
    HOLD         4 bytes, milliseconds for which the routes hold, unless they are told again
    ROUTE        name 8 | sequence number 2 | metric 4 | hops 1        metric ff ff ff ff: reached no more
    WANT         name 8 | sequence number 2 | hops 1                   asks for a route with that number or a newer one

TLV entries (`ltunnel.wire.tlv`), numbered in `ltunnel.wire.fields`. A node is named as in RELAY. With FLAGS 0x01 the
sender asks for all routes. A ROUTE replaces what an earlier one from the same sender said of that node; of others it
says nothing. Sequence numbers are those of RFC 8966, section 3.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, NamedTuple

from ltunnel.errors import WireError
from ltunnel.wire import tlv
from ltunnel.wire.fields import Field
from ltunnel.wire.relay import NAME_SIZE
from ltunnel.wire.tlv import Bounds, Entry
from ltunnel.wire.types import FrameType

VERSION = 1
INFINITY = 0xFFFF_FFFF
"""Metric of a node that is reached no more."""
ROUTE_LIMIT = 48
WANT_LIMIT = 8
HOPS_LIMIT = 16
"""Links that a path may have at most, whatever `max_hops` says."""

_ROUTE = Struct(f">{NAME_SIZE}sHIB")
_WANT = Struct(f">{NAME_SIZE}sHB")
_HOLD = Struct(">I")
_ALL = 0x01

_ADVERT: tlv.Fields = {
    Field.CODE: Bounds(1, 1, 1, 1),
    Field.FLAGS: Bounds(1, 1, 1, 1),
    Field.HOLD: Bounds(1, 1, _HOLD.size, _HOLD.size),
    Field.ROUTE: Bounds(0, ROUTE_LIMIT, _ROUTE.size, _ROUTE.size),
    Field.WANT: Bounds(0, WANT_LIMIT, _WANT.size, _WANT.size),
}


class Route(NamedTuple):
    """The sender reaches a node."""

    name: bytes
    """8 bytes."""
    seqno: int
    metric: int
    """Microseconds; 0 for the sender itself, `INFINITY` for a node that it reaches no more."""
    hops: int
    """Links on the way, 0 for the sender itself."""


class Want(NamedTuple):
    """The sender needs a route to a node with a sequence number that is not older than this."""

    name: bytes
    seqno: int
    hops: int
    """How often the request may be passed on, and one more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advert:
    """Routes, or requests for them. A long list comes as several frames."""

    TYPE: ClassVar[FrameType] = FrameType.ADVERT
    hold: float
    """Seconds for which the routes hold."""
    routes: tuple[Route, ...] = ()
    wants: tuple[Want, ...] = ()
    all: bool = False
    """Whether the sender asks for all routes."""

    def pack(self) -> bytes:
        """Return the entries. ValueError for what breaks a bound."""
        names = [route.name for route in self.routes] + [want.name for want in self.wants]
        if any(len(name) != NAME_SIZE for name in names):
            raise ValueError(f"the name of a node has {NAME_SIZE} bytes")
        hold = min(round(self.hold * 1000), 0xFFFF_FFFF)
        entries: list[Entry] = [
            (Field.CODE, bytes((VERSION,))), (Field.FLAGS, bytes((_ALL if self.all else 0,))),
            (Field.HOLD, _HOLD.pack(hold)),
        ]  # fmt: skip
        entries += [(Field.ROUTE, _ROUTE.pack(*route)) for route in self.routes]
        entries += [(Field.WANT, _WANT.pack(*want)) for want in self.wants]
        return tlv.encode(entries, _ADVERT)

    @classmethod
    def parse(cls, body: bytes) -> Advert:
        """Read the entries."""
        values = tlv.decode(body, _ADVERT)
        if values[Field.CODE][0][0] != VERSION:
            raise WireError(f"ADVERT of version {values[Field.CODE][0][0]}")
        return cls(
            hold=_HOLD.unpack(values[Field.HOLD][0])[0] / 1000,
            routes=tuple(_read_route(value) for value in values[Field.ROUTE]),
            wants=tuple(_read_want(value) for value in values[Field.WANT]),
            all=bool(values[Field.FLAGS][0][0] & _ALL),
        )


def _read_route(value: bytes) -> Route:
    route = Route(*_ROUTE.unpack(value))
    if route.hops > HOPS_LIMIT or (route.metric == 0) != (route.hops == 0):
        raise WireError(f"ROUTE with {route.hops} hops and a metric of {route.metric}")
    return route


def _read_want(value: bytes) -> Want:
    want = Want(*_WANT.unpack(value))
    if not 1 <= want.hops <= HOPS_LIMIT:
        raise WireError(f"WANT with {want.hops} hops")
    return want
