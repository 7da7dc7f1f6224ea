"""Discovery: where could two nodes reach each other? Specified here; ``nat_punch`` implements it.

An agent is sans-IO. The core brings it signals (what the hub said, what arrived) and asks it for probes to send; the
core seals, sends and measures them, keeps the budget (at most 8 candidates of 10 probes per peer) and owns the keys.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from ltunnel.plugin.ports import Address


class CandidateKind(Enum):
    """Where an address comes from (the words of RFC 8445)."""

    HOST = "host"
    SRFLX = "srflx"
    PRFLX = "prflx"
    RELAY = "relay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An address under which a node may be reachable; higher `priority` is tried first."""

    kind: CandidateKind
    address: Address
    priority: int
    network: bytes = b""
    """Digest of what identifies the LAN (gateway's link address, prefix), so that equal private addresses behind
    different NATs are never taken for one LAN. Empty for public addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe to send: to which peer, where, at what time (monotonic seconds)."""

    peer: bytes
    """The peer's static public key, 32 bytes."""
    to: Address
    at: float
    fresh_port: bool = False
    """Send from a newly bound port instead of the shared one."""


class SignalKind(Enum):
    """What an agent is told about."""

    INTERFACES = "interfaces"  # own addresses changed; `addresses` lists them
    OBSERVED = "observed"  # the hub saw us at addresses[0]
    CANDIDATES = "candidates"  # the hub passed on a peer's candidates
    PUNCH = "punch"  # the hub starts both sides now
    PONG = "pong"  # a probe to addresses[0] was answered
    CLOSED = "closed"  # the peer is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something that an agent is told."""

    kind: SignalKind
    peer: bytes = b""
    addresses: tuple[Address, ...] = ()
    candidates: tuple[Candidate, ...] = ()


class DiscoveryAgent(Protocol):
    """Signals in, candidates and probes out."""

    def handle_signal(self, signal: Signal, now: float) -> None:
        """Take note of a signal."""
        ...

    def candidates(self, now: float) -> Sequence[Candidate]:
        """Return the own candidates to advertise, best first, at most 8."""
        ...

    def probes(self, now: float) -> Sequence[Probe]:
        """Return the probes that are due; each is returned once."""
        ...

    def next_timeout(self) -> float | None:
        """Return when `probes` has something new (monotonic seconds), or None."""
        ...
