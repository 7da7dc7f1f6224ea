"""What is sent when in a round. Pure functions.

=========  =======================================================  =================================================
method     when                                                     probes
=========  =======================================================  =================================================
plain      both keep their port or predict it, or one keeps it and  each candidate a few times, both sides together
           lets in what comes from another port
open       this side takes random ports, the other keeps its own    one from each of 256 fresh ports
guess      the other way round                                      as plain, and 1024 ports of the peer's host
hopeless   one side takes random ports, the other does not keep     each candidate three times, in case that is wrong
           its own
=========  =======================================================  =================================================

With 256 of some 64,500 ports open, 1024 guesses hit one with a probability of 98 %. The ports are opened when the
guesses have been made: a Linux router that accepts packets for itself would not let its side answer otherwise.

Such a router remembers the far side's packet if that comes first, and then gives the near side's another port. So
rounds above 0 use a fresh port, begin with datagrams that open the own NAT and end on their way (hints), and then one
side begins a little later than the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from hashlib import sha256
from typing import NamedTuple

from ltunnel.plugin import (
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    Probe,
)

PLAIN = (0.0, 0.03, 0.1, 0.2, 0.4, 0.7)
"""Seconds after the beginning at which a candidate is probed."""
FEW = (0.0, 0.2, 0.7)
MEETING = (0.0, 1.2, 2.4, 3.2)
"""The same over fake TCP. The first opens the connection, with a SYN a second until the peer's has come, and waits for
it; the others follow over it."""
TCP_LATER = 1.3
"""Seconds that fake TCP waits in a round in which UDP may work: that comes first."""
TCP_ROUND = 2
"""From this round on fake TCP is tried although nothing says that UDP is blocked on a side."""
STEP = 0.004
"""Seconds between two probes that fall due together."""
LAG = 0.25
"""Seconds by which the second side waits for the first, and the first for its hints to take effect."""
HOPS = (2, 3)
"""Routers that hints pass: the own one, or two, as behind a carrier's NAT; in turn."""
GRACE = 0.4
"""Seconds for the last answer, before the next round begins; later ones count, too."""
OPENING = 0.004
"""Seconds between two ports that are opened."""
LOWEST, HIGHEST = 1024, 65_535
"""Where NATs take ports from."""
_STRIDE = 40_507  # has no divisor in common with the number of ports, so that each comes once


class Method(Enum):
    """How a round is gone about."""

    PLAIN = "plain"
    OPEN = "open"
    GUESS = "guess"
    HOPELESS = "hopeless"


class Timed(NamedTuple):
    """A probe and when it is due."""

    at: float
    probe: Probe


class Side(NamedTuple):
    """What counts of one side."""

    keeps: bool
    """Its NAT takes the same port for all destinations, for all that is known."""
    predicts: bool
    """It takes another one for each, but one that was predicted."""
    strict: bool
    """Its NAT lets in only what comes from a host and port that it has sent to, for all that is known."""


def side(behaviour: Behaviour, candidates: Iterable[Candidate]) -> Side:
    """Say what counts, of a NAT and the candidates that are told of it."""
    hard = behaviour.mapping in (Dependence.ADDRESS_DEPENDENT, Dependence.ADDRESS_AND_PORT_DEPENDENT)
    predicts = hard and any(candidate.kind is CandidateKind.PRFLX for candidate in candidates)
    lenient = behaviour.filtering in (Dependence.ENDPOINT_INDEPENDENT, Dependence.ADDRESS_DEPENDENT)
    return Side(not hard, predicts, not lenient)


def choose(own: Side, theirs: Side, *, birthday: bool) -> Method:
    """Choose the method of a round."""
    if (own.keeps and theirs.keeps) or (own.predicts and theirs.predicts):
        return Method.PLAIN
    if own.keeps or theirs.keeps:
        if own.predicts or theirs.predicts or not birthday:
            return Method.PLAIN
        if own.keeps:
            return Method.GUESS if own.strict else Method.PLAIN
        return Method.OPEN if theirs.strict else Method.PLAIN
    return Method.HOPELESS


def plain(peer: bytes, candidates: Sequence[Candidate], *, times: Sequence[float], start: float, lag: float, port: int
          ) -> Iterator[Timed]:  # fmt: skip
    """Probe each candidate at the same times, the best first. `port` is used towards other networks only."""
    for place, candidate in enumerate(candidates):
        lan = bool(candidate.network)
        for time in times:
            at = start + time + STEP * place + (0.0 if lan else lag)
            yield Timed(at, Probe(peer=peer, to=candidate.address, port=0 if lan else port))


def meeting(peer: bytes, candidates: Sequence[Candidate], *, start: float) -> Iterator[Timed]:
    """Open a connection to each candidate over fake TCP, and probe it; the peer does the same at the same moment.

    Neither side begins later by turns: a router that answers an early SYN with a reset would end it.
    """
    for candidate in candidates:
        for time in MEETING:
            yield Timed(start + time, Probe(peer=peer, to=candidate.address, carrier=Carrier.TCP))


def hints(peer: bytes, candidates: Sequence[Candidate], *, start: float, port: int, hops: int) -> Iterator[Timed]:
    """Send something towards each candidate outside that ends on its way: behind our NAT, before the peer's."""
    for place, candidate in enumerate(candidates):
        if not candidate.network:
            yield Timed(start + STEP * place, Probe(peer=peer, to=candidate.address, port=port, hops=hops))


def opening(peer: bytes, candidate: Candidate, *, start: float, ports: Sequence[int]) -> Iterator[Timed]:
    """Send one probe from each of the fresh ports to the one address that the peer keeps."""
    for place, port in enumerate(ports):
        yield Timed(start + OPENING * place, Probe(peer=peer, to=candidate.address, port=port))


def guesses(peer: bytes, candidate: Candidate, *, start: float, count: int, rate: int, port: int, salt: int
            ) -> Iterator[Timed]:  # fmt: skip
    """Send one probe to each of `count` different ports of a peer's host; `salt` makes other ones of it."""
    size = HIGHEST - LOWEST + 1
    first = int.from_bytes(sha256(peer + salt.to_bytes(8, "big")).digest()[:4], "big")
    for place in range(count):
        number = LOWEST + (first + place * _STRIDE) % size
        yield Timed(start + place / rate, Probe(peer=peer, to=(candidate.address[0], number), port=port))


def public(candidates: Iterable[Candidate]) -> Candidate | None:
    """Return the best candidate over UDP that is on no LAN."""
    return next((goal for goal in candidates if not goal.network and goal.carrier is Carrier.UDP), None)
