"""Bodies of the control frames: what an opened DATA datagram holds in front of its last byte, the frame type.

::

    PING, PONG   token 8 | zero n      a PONG is as long as its PING
    PROBE        token 8 | zero n      a PING that does not move the session to where it came from
    REPORT       expected 8 | accepted 8 | gaps 4 | held 4
    WELCOME      NAME 1 (the hub's), MTU 1, ADDRESS 0-8 (granted), NETWORK 0-24 (the tunnel's), HUB_ADDRESS 0-8,
                 FLAGS 1, PLACE 0-4, BEHIND 0-24 (networks behind the hub)
    PEERS        PEER 0-16, each: KEY 1, NAME 1, ADDRESS 0-8, MTU 0-1, BEHIND 0-24 (networks behind that node)
    DENY, BYE    CODE 1, TEXT 0-1
    OBSERVE, OBSERVED, PUNCH, ADVERT   see `ltunnel.wire.observe`, `ltunnel.wire.punch`, `ltunnel.wire.advert`

All but PING, PONG, PROBE, REPORT, OBSERVE and OBSERVED are TLV entries (`ltunnel.wire.tlv`), numbered in
`ltunnel.wire.fields`. Names are printable or the frame is refused; other text is escaped as it is read. So every string
of a parsed frame is safe to print.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import ClassVar, Self

from ltunnel.errors import WireError
from ltunnel.wire import fields, tlv
from ltunnel.wire.advert import Advert
from ltunnel.wire.fields import Field
from ltunnel.wire.observe import Observe, Observed
from ltunnel.wire.places import PLACES, HubPlace
from ltunnel.wire.punch import Punch
from ltunnel.wire.text import escape
from ltunnel.wire.tlv import Bounds, Entry, Interface, Network
from ltunnel.wire.types import FrameType

_REPORT = Struct(">QQII")
_LONGEST = (1 << 32) - 1
TOKEN_SIZE = fields.TOKEN_SIZE
PEER_LIMIT = 16

_WELCOME: tlv.Fields = {
    Field.NAME: fields.ONE_NAME,
    Field.MTU: fields.ONE_MTU,
    Field.ADDRESS: fields.ADDRESSES,
    Field.NETWORK: fields.NETWORKS,
    Field.HUB_ADDRESS: fields.ADDRESSES,
    Field.FLAGS: Bounds(1, 1, 1, 1),
    Field.PLACE: PLACES,
    Field.BEHIND: fields.NETWORKS,
}
_PEERS: tlv.Fields = {Field.PEER: Bounds(0, PEER_LIMIT, 0, tlv.MAX_BODY)}
_PEER: tlv.Fields = {
    Field.KEY: fields.ONE_KEY,
    Field.NAME: fields.ONE_NAME,
    Field.ADDRESS: fields.ADDRESSES,
    Field.MTU: fields.ONE_MTU._replace(least=0),
    Field.BEHIND: fields.NETWORKS,
}
_REASON: tlv.Fields = {Field.CODE: Bounds(1, 1, 1, 1), Field.TEXT: Bounds(0, 1, 0, fields.TEXT_LIMIT)}

_ISOLATED = 0x01


class DenyCode(IntEnum):
    """Why a hub does not take a node. A code that is not known reads as OTHER."""

    OTHER = 0
    ADDRESS_TAKEN = 1  # a wanted address belongs to another key
    ADDRESS_OUTSIDE = 2  # a wanted address is not in the tunnel's network
    FULL = 3  # max_clients
    SINGLE_CLIENT = 4  # the hub takes one node only and has it
    STACK = 5  # other plugins
    NAME_TAKEN = 6
    ROUTE_TAKEN = 7  # a prefix belongs to another key or covers the tunnel's network


class ByeCode(IntEnum):
    """Why a session ends. A code that is not known reads as OTHER."""

    OTHER = 0
    STOPPED = 1  # the program ends
    REPLACED = 2  # a newer session of the same key took its place
    REMOVED = 3  # by the operator
    TIMEOUT = 4


_DENY_CODES = {int(code): code for code in DenyCode}
_BYE_CODES = {int(code): code for code in ByeCode}


@dataclass(frozen=True, slots=True)
class _Echo:
    """A token and `padding` zero bytes, which try a path's MTU."""

    token: bytes
    padding: int = 0

    def pack(self) -> bytes:
        """Return the 8 + n bytes."""
        if len(self.token) != TOKEN_SIZE:
            raise ValueError(f"a token has {TOKEN_SIZE} bytes")
        return self.token + bytes(self.padding)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the 8 + n bytes."""
        if len(body) < TOKEN_SIZE:
            raise WireError(f"PING, PONG or PROBE of {len(body)} bytes")
        if body.count(0, TOKEN_SIZE) != len(body) - TOKEN_SIZE:
            raise WireError("padding is not zero")
        return cls(body[:TOKEN_SIZE], len(body) - TOKEN_SIZE)


@dataclass(frozen=True, slots=True)
class Ping(_Echo):
    """Asks for a PONG with the same token and length."""

    TYPE: ClassVar[FrameType] = FrameType.PING


@dataclass(frozen=True, slots=True)
class Pong(_Echo):
    """Answers a PING or PROBE."""

    TYPE: ClassVar[FrameType] = FrameType.PONG


@dataclass(frozen=True, slots=True)
class Probe(_Echo):
    """Asks for a PONG as a PING does, over a path that is not in use and is not to be used for that."""

    TYPE: ClassVar[FrameType] = FrameType.PROBE


@dataclass(frozen=True, slots=True)
class Report:
    """What has arrived of an epoch: counters up to the highest, how many came, how often some were left out."""

    TYPE: ClassVar[FrameType] = FrameType.REPORT
    expected: int
    accepted: int
    gaps: int
    held: int = 0
    """Microseconds since the newest came, at most 2^32 - 1: what the report itself has waited."""

    def pack(self) -> bytes:
        """Return the 24 bytes."""
        return _REPORT.pack(self.expected, self.accepted, self.gaps, min(self.held, _LONGEST))

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read the 24 bytes."""
        if len(body) != _REPORT.size:
            raise WireError(f"REPORT of {len(body)} bytes")
        expected, accepted, gaps, held = _REPORT.unpack(body)
        if accepted > expected or gaps > expected - accepted:
            raise WireError("REPORT of more than was expected")
        return cls(expected, accepted, gaps, held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The hub takes a node."""

    TYPE: ClassVar[FrameType] = FrameType.WELCOME
    name: str
    """The hub's."""
    mtu: int
    """Largest inner packet that the hub takes."""
    addresses: tuple[Interface, ...] = ()
    """The node's own."""
    networks: tuple[Network, ...] = ()
    """The tunnel's prefixes: what the node sends to the hub."""
    hub_addresses: tuple[Interface, ...] = ()
    isolated: bool = False
    """Nodes do not reach each other."""
    places: tuple[HubPlace, ...] = ()
    """Where the hub can be asked from outside, as far as it knows."""
    behind: tuple[Network, ...] = ()
    """Networks behind the hub that it offers."""

    def pack(self) -> bytes:
        """Return the entries. ValueError for what breaks a bound."""
        entries = [fields.name_entry(self.name), fields.mtu_entry(self.mtu)]
        entries += fields.interface_entries(Field.ADDRESS, self.addresses)
        entries += fields.network_entries(self.networks)
        entries += fields.interface_entries(Field.HUB_ADDRESS, self.hub_addresses)
        entries.append((Field.FLAGS, bytes((_ISOLATED if self.isolated else 0,))))
        entries += [(Field.PLACE, place.pack()) for place in self.places]
        entries += fields.network_entries(self.behind, Field.BEHIND)
        return tlv.encode(entries, _WELCOME)

    @classmethod
    def parse(cls, body: bytes) -> Welcome:
        """Read the entries."""
        values = tlv.decode(body, _WELCOME)
        return cls(
            name=fields.read_name(values[Field.NAME]),
            mtu=fields.read_mtu(values[Field.MTU]),
            addresses=fields.read_interfaces(values[Field.ADDRESS]),
            networks=fields.read_networks(values[Field.NETWORK]),
            hub_addresses=fields.read_interfaces(values[Field.HUB_ADDRESS]),
            isolated=bool(values[Field.FLAGS][0][0] & _ISOLATED),
            places=tuple(map(HubPlace.parse, values[Field.PLACE])),
            behind=fields.read_networks(values[Field.BEHIND]),
        )


@dataclass(frozen=True, slots=True)
class PeerEntry:
    """A node of the network; without addresses it is gone."""

    key: bytes
    name: str
    addresses: tuple[Interface, ...] = ()
    mtu: int | None = None
    """Largest inner packet that it takes, if that is known."""
    behind: tuple[Network, ...] = ()
    """Networks behind it that the hub accepted."""


@dataclass(frozen=True, slots=True)
class Peers:
    """From the hub: other nodes, those that are new or have changed. A long list comes as several frames."""

    TYPE: ClassVar[FrameType] = FrameType.PEERS
    peers: tuple[PeerEntry, ...]

    def pack(self) -> bytes:
        """Return the entries. ValueError for what breaks a bound."""
        return tlv.encode([(Field.PEER, _pack_peer(peer)) for peer in self.peers], _PEERS)

    @classmethod
    def parse(cls, body: bytes) -> Peers:
        """Read the entries."""
        return cls(tuple(_parse_peer(value) for value in tlv.decode(body, _PEERS)[Field.PEER]))


def _pack_peer(peer: PeerEntry) -> bytes:
    entries: list[Entry] = [(Field.KEY, peer.key), fields.name_entry(peer.name)]
    entries += fields.interface_entries(Field.ADDRESS, peer.addresses)
    if peer.mtu is not None:
        entries.append(fields.mtu_entry(peer.mtu))
    return tlv.encode([*entries, *fields.network_entries(peer.behind, Field.BEHIND)], _PEER)


def _parse_peer(value: bytes) -> PeerEntry:
    values = tlv.decode(value, _PEER)
    addresses = fields.read_interfaces(values[Field.ADDRESS])
    mtu = fields.read_mtu(values[Field.MTU]) if values[Field.MTU] else None
    behind = fields.read_networks(values[Field.BEHIND])
    return PeerEntry(values[Field.KEY][0], fields.read_name(values[Field.NAME]), addresses, mtu, behind)


@dataclass(frozen=True, slots=True)
class Deny:
    """The hub does not take a node. `text` is for people; over 200 bytes it is cut."""

    TYPE: ClassVar[FrameType] = FrameType.DENY
    code: DenyCode
    text: str = ""

    def pack(self) -> bytes:
        """Return the entries."""
        return _pack_reason(self.code, self.text)

    @classmethod
    def parse(cls, body: bytes) -> Deny:
        """Read the entries."""
        code, text = _parse_reason(body)
        return cls(_DENY_CODES.get(code, DenyCode.OTHER), text)


@dataclass(frozen=True, slots=True)
class Bye:
    """The session ends. `text` is for people; over 200 bytes it is cut."""

    TYPE: ClassVar[FrameType] = FrameType.BYE
    code: ByeCode
    text: str = ""

    def pack(self) -> bytes:
        """Return the entries."""
        return _pack_reason(self.code, self.text)

    @classmethod
    def parse(cls, body: bytes) -> Bye:
        """Read the entries."""
        code, text = _parse_reason(body)
        return cls(_BYE_CODES.get(code, ByeCode.OTHER), text)


def _pack_reason(code: int, text: str) -> bytes:
    entries: list[Entry] = [(Field.CODE, bytes((code,)))]
    return tlv.encode([*entries, fields.text_entry(text)] if text else entries, _REASON)


def _parse_reason(body: bytes) -> tuple[int, str]:
    values = tlv.decode(body, _REASON)
    return values[Field.CODE][0][0], escape("".join(tlv.read_text(value) for value in values[Field.TEXT]))


Frame = Ping | Pong | Probe | Report | Observe | Observed | Punch | Advert | Welcome | Peers | Deny | Bye

_KINDS: tuple[type[Frame], ...] = (
    Ping, Pong, Probe, Report, Observe, Observed, Punch, Advert, Welcome, Peers, Deny, Bye,
)  # fmt: skip
_FRAMES: dict[int, type[Frame]] = {kind.TYPE: kind for kind in _KINDS}


def parse_frame(frame_type: int, body: bytes) -> Frame:
    """Read a control frame. WireError for a type that is none, and for a body that is not of its layout."""
    kind = _FRAMES.get(frame_type)
    if kind is None:
        raise WireError(f"not a control frame: type {frame_type}")
    return kind.parse(body)
