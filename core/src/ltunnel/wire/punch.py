"""PUNCH: how a hub has two nodes begin to probe each other at the same time.

::

    REQUEST   node ─► hub   a path to KEY is wanted; my candidates
    PREPARE   hub ─► node   KEY wants a path; in rounds above 0, get a fresh port
    READY     node ─► hub   my candidates
    START     hub ─► both   KEY's candidates; begin after DELAY, the one with FLAGS 0x01 first
    REFUSED   hub ─► node   not now, since TEXT; from a node it answers PREPARE

    PUNCH        CODE 1 (stage), KEY 1 (the other node), ROUND 1, DELAY 0-1, FLAGS 0-1, BEHAVIOUR 1, CANDIDATE 0-8,
                 TEXT 0-1
    BEHAVIOUR    mapping 1 | filtering 1 | hairpin 1 | preserves port 1
    CANDIDATE    kind 1 | carrier 1 | port 2 | priority 4 | network 8 | address 4 or 16

TLV entries (`ltunnel.wire.tlv`), numbered in `ltunnel.wire.fields`. The numbers in BEHAVIOUR are those of `Dependence`
and `Answer`, that of a carrier is its IP protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from struct import Struct
from typing import ClassVar

from ltunnel.errors import WireError
from ltunnel.plugin import Answer, Behaviour, Candidate, CandidateKind, Carrier, Dependence, Limits
from ltunnel.wire import fields, tlv
from ltunnel.wire.fields import Field
from ltunnel.wire.text import escape
from ltunnel.wire.tlv import Bounds, Entry
from ltunnel.wire.types import FrameType

NETWORK_SIZE = 8

_CANDIDATE = Struct(">BBHI8s")
_BEHAVIOUR = Struct("4B")
_MILLISECONDS = 1000
_FIRST = 0x01

_PUNCH: tlv.Fields = {
    Field.CODE: Bounds(1, 1, 1, 1),
    Field.KEY: fields.ONE_KEY,
    Field.ROUND: Bounds(1, 1, 1, 1),
    Field.DELAY: Bounds(0, 1, 2, 2),
    Field.FLAGS: Bounds(0, 1, 1, 1),
    Field.BEHAVIOUR: Bounds(1, 1, _BEHAVIOUR.size, _BEHAVIOUR.size),
    Field.CANDIDATE: Bounds(0, Limits.CANDIDATES, _CANDIDATE.size + 4, _CANDIDATE.size + 16),
    Field.TEXT: Bounds(0, 1, 0, fields.TEXT_LIMIT),
}


class PunchStage(IntEnum):
    """What a PUNCH says."""

    REQUEST = 1
    PREPARE = 2
    READY = 3
    START = 4
    REFUSED = 5


class KindCode(IntEnum):
    """Numbers of `CandidateKind`."""

    HOST = 1
    SRFLX = 2
    PRFLX = 3
    RELAY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Punch:
    """A step towards a direct path between two nodes."""

    TYPE: ClassVar[FrameType] = FrameType.PUNCH
    stage: PunchStage
    key: bytes
    """Static key of the other node, 32 bytes."""
    round: int = 0
    """0 to 255."""
    delay: float = 0.0
    """Seconds until both begin, at most 65.535."""
    first: bool = False
    """Whether the receiver of this frame sends first."""
    behaviour: Behaviour = field(default_factory=Behaviour)
    """Of the NAT in front of whoever the candidates belong to."""
    candidates: tuple[Candidate, ...] = ()
    reason: str = ""
    """Why it is refused, for people; over 200 bytes it is cut."""

    def pack(self) -> bytes:
        """Return the entries. ValueError for what breaks a bound."""
        entries: list[Entry] = [(Field.CODE, bytes((self.stage,))), (Field.KEY, self.key)]
        entries.append((Field.ROUND, bytes((self.round,))))
        milliseconds = round(self.delay * _MILLISECONDS)
        if not 0 <= milliseconds <= 0xFFFF:
            raise ValueError(f"a delay of {self.delay} s")
        if milliseconds:
            entries.append((Field.DELAY, milliseconds.to_bytes(2, "big")))
        if self.first:
            entries.append((Field.FLAGS, bytes((_FIRST,))))
        entries.append((Field.BEHAVIOUR, _pack_behaviour(self.behaviour)))
        entries += [(Field.CANDIDATE, _pack_candidate(candidate)) for candidate in self.candidates]
        if self.reason:
            entries.append(fields.text_entry(self.reason))
        return tlv.encode(entries, _PUNCH)

    @classmethod
    def parse(cls, body: bytes) -> Punch:
        """Read the entries."""
        values = tlv.decode(body, _PUNCH)
        code = values[Field.CODE][0][0]
        try:
            stage = PunchStage(code)
        except ValueError:
            raise WireError(f"PUNCH with stage {code}") from None
        return cls(
            stage=stage,
            key=values[Field.KEY][0],
            round=values[Field.ROUND][0][0],
            delay=_first_number(values[Field.DELAY]) / _MILLISECONDS,
            first=bool(_first_number(values[Field.FLAGS]) & _FIRST),
            behaviour=_parse_behaviour(values[Field.BEHAVIOUR][0]),
            candidates=tuple(_parse_candidate(value) for value in values[Field.CANDIDATE]),
            reason=escape("".join(tlv.read_text(value) for value in values[Field.TEXT])),
        )


def _first_number(values: Sequence[bytes]) -> int:
    return int.from_bytes(values[0], "big") if values else 0


def _pack_behaviour(behaviour: Behaviour) -> bytes:
    return _BEHAVIOUR.pack(behaviour.mapping, behaviour.filtering, behaviour.hairpin, behaviour.preserves_port)


def _parse_behaviour(value: bytes) -> Behaviour:
    mapping, filtering, hairpin, preserves_port = _BEHAVIOUR.unpack(value)
    try:
        return Behaviour(
            mapping=Dependence(mapping),
            filtering=Dependence(filtering),
            hairpin=Answer(hairpin),
            preserves_port=Answer(preserves_port),
        )
    except ValueError:
        raise WireError("BEHAVIOUR with a number that is none of ours") from None


def _pack_candidate(candidate: Candidate) -> bytes:
    host, port = candidate.address
    if len(candidate.network) not in (0, NETWORK_SIZE):
        raise ValueError(f"a digest of a network has {NETWORK_SIZE} bytes")
    kind = KindCode[candidate.kind.name]
    head = _CANDIDATE.pack(kind, candidate.carrier, port, candidate.priority, candidate.network)
    return head + ip_address(host).packed


def _parse_candidate(value: bytes) -> Candidate:
    kind, carrier, port, priority, network = _CANDIDATE.unpack_from(value)
    packed = value[_CANDIDATE.size :]
    if len(packed) not in (4, 16) or not port:
        raise WireError("CANDIDATE without a port, or with an address of another length")
    address = IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise WireError("CANDIDATE with an IPv4 address written as IPv6")
    try:
        return Candidate(
            kind=CandidateKind[KindCode(kind).name],
            address=(str(address), port),
            priority=priority,
            carrier=Carrier(carrier),
            network=network if any(network) else b"",
        )
    except ValueError:
        raise WireError("CANDIDATE with a number that is none of ours") from None
