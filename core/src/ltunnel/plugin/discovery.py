"""Discovery: where could two nodes reach each other? ``nat_punch`` implements it.

An agent is sans-IO. The core tells it what happens (`Signal`) and carries out what it wants (`Query`, `Request`,
`Probe`). The core seals, sends and measures, owns keys and ports, and keeps the budgets: whatever an agent asks for, no
probe goes to a host that the hub did not name for that peer, and none is sent beyond `Limits`.

How two nodes meet::

    agent ─ Request ─► hub ─ PREPARE ─► other agent: Prepared ─► hub ─ START ─► both agents: Probe, Probe, ...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, Protocol

from ltunnel.plugin.ports import Address


class Limits:
    """What the core allows an agent at most."""

    CANDIDATES = 8
    """Addresses of one node."""
    PROBES = 10
    """From one port to one address in one round."""
    BLIND_PROBES = 1024
    """To ports of the peer's public address that nobody named, in one round (the birthday method)."""
    PORTS = 256
    """Fresh ports used for one peer in one round; those that no path uses are closed when it is over."""
    PER_MINUTE = 1200
    """Probes for one peer, all rounds of a minute together."""


class Carrier(IntEnum):
    """What carries a direct path; the values are IP protocol numbers."""

    UDP = 17
    TCP = 6  # fake TCP, opened by simultaneous SYN


class CandidateKind(Enum):
    """Where an address comes from (the words of RFC 8445)."""

    HOST = "host"
    SRFLX = "srflx"
    PRFLX = "prflx"
    RELAY = "relay"


class Dependence(IntEnum):
    """How much of the far end a NAT looks at, when it maps and when it filters (RFC 4787)."""

    UNKNOWN = 0
    ENDPOINT_INDEPENDENT = 1
    ADDRESS_DEPENDENT = 2
    ADDRESS_AND_PORT_DEPENDENT = 3


class Answer(IntEnum):
    """Yes, no, or not known."""

    UNKNOWN = 0
    YES = 1
    NO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What kind of NAT a node is behind, as far as it knows (RFC 5780)."""

    mapping: Dependence = Dependence.UNKNOWN
    filtering: Dependence = Dependence.UNKNOWN
    hairpin: Answer = Answer.UNKNOWN
    preserves_port: Answer = Answer.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An address under which a node may be reachable; higher `priority` is tried first."""

    kind: CandidateKind
    address: Address
    priority: int
    carrier: Carrier = Carrier.UDP
    network: bytes = b""
    """8 bytes that stand for the LAN (gateway's link address, prefix), so that equal private addresses behind different
    NATs are never taken for one LAN. Empty for public addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAddress:
    """An address of this machine: where its shared port of a carrier is reachable on a LAN."""

    address: Address
    carrier: Carrier = Carrier.UDP
    network: bytes = b""
    """As in `Candidate`; empty where it is not known."""


# ---------------------------------------------------------------- what an agent is told


class SignalKind(Enum):
    """What an agent is told about, and which fields of `Signal` say more."""

    INTERFACES = "interfaces"  # the hub is there, and these are the own addresses, all of them: `local`, `askable`
    OBSERVED = "observed"  # the answer to a Query: `query`, `address` (what was seen), `other_port`
    MAPPED = "mapped"  # a router maps a port to ours: `address` (outside), `carrier`, `lifetime`; 0 when it ended
    PORTS = "ports"  # fresh ports are open: `peer`, `ports` (their numbers, as asked for by probes and queries)
    SEEK = "seek"  # a path to a peer is wanted, or with `direct` a better one than there is: `peer`
    PREPARE = "prepare"  # the peer asks for a path: `peer`, `round`; answer with Prepared
    START = "start"  # both sides start `delay` from now: `peer`, `round`, `first`, `behaviour`, `candidates`
    REFUSED = "refused"  # the hub does not start a round with the peer now: `peer`, `reason`
    PONG = "pong"  # a probe was answered: `peer`, `address`, `carrier`, `port`
    CLOSED = "closed"  # the peer is gone: `peer`
    MOVED = "moved"  # this machine is in another network: forget what was learnt of NATs


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something that an agent is told."""

    kind: SignalKind
    peer: bytes = b""
    """Static public key, 32 bytes."""
    address: Address | None = None
    carrier: Carrier = Carrier.UDP
    port: int = 0
    """Number of the local port: 0 the shared one, 1 and up fresh ones."""
    ports: tuple[int, ...] = ()
    local: tuple[LocalAddress, ...] = ()
    askable: tuple[tuple[Carrier, int], ...] = ()
    """By which carriers the hub can be asked over the IP version (4 or 6) that does not lead to it now."""
    query: Query | None = None
    other_port: int = 0
    """Number of the hub's other UDP port, 0 if it has none."""
    lifetime: float = 0.0
    """Seconds."""
    round: int = 0
    delay: float = 0.0
    """Seconds."""
    first: bool = False
    behaviour: Behaviour = field(default_factory=Behaviour)
    candidates: tuple[Candidate, ...] = ()
    reason: str = ""
    direct: bool = False
    """Whether a direct path is in use."""


# ---------------------------------------------------------------- what an agent wants


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question to the hub: as whom do you see this port of mine? Unanswered ones are the agent's to repeat."""

    carrier: Carrier = Carrier.UDP
    port: int = 0
    """Number of the local port: 0 the shared one, else a fresh one of `peer`, opened if need be."""
    peer: bytes = b""
    to_other: bool = False
    """Ask the hub's other port."""
    from_other: bool = False
    """The answer should come from the port that was not asked, to see whether it gets through."""
    to_self: bool = False
    """Ask nobody: send a datagram to the own address that the hub saw last, and see whether it comes back (hairpin).
    OBSERVED says so, with that address."""
    version: int = 0
    """IP version to ask over: 0 for the one that leads to the hub now, else one that is `askable`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Ask the hub to start a round with a peer; START comes if it does."""

    peer: bytes
    round: int
    """0 with the shared port, 1 and up in reversed order with a fresh one."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The answer to PREPARE."""

    peer: bytes
    round: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A probe to send now."""

    peer: bytes
    to: Address
    carrier: Carrier = Carrier.UDP
    port: int = 0
    """Number of the local port to send from: 0 the shared one, else a fresh one of this peer, opened if need be."""
    hops: int = 0
    """0 for a probe. Else it is not one, but a datagram that passes so many routers and no more: it opens the own NAT
    for answers from there, and does not arrive."""


Action = Query | Request | Prepared | Probe


class DiscoveryAgent(Protocol):
    """Signals in, actions out."""

    def handle_signal(self, signal: Signal, now: float) -> None:
        """Take note of a signal."""
        ...

    def actions(self, now: float) -> Sequence[Action]:
        """Return what is to be done now; each action is returned once. Called after signals, and when time is up."""
        ...

    def next_timeout(self) -> float | None:
        """Return when `actions` has something new without a signal (monotonic seconds), or None."""
        ...

    def behaviour(self) -> Behaviour:
        """Return what is known of the NAT in front of this machine."""
        ...

    def candidates(self, now: float) -> Sequence[Candidate]:
        """Return the own candidates with the shared port, best first, at most `Limits.CANDIDATES`."""
        ...

    def explain(self, now: float) -> Mapping[str, Any]:
        """Describe for people and programs (JSON types) what was found out and done.

        ``{"nat": text, "advice": [text], "mapped": [...], "peers": {key in hex: {"rounds": [...], "advice": [text]}}}``
        """
        ...


class PortMapper(Protocol):
    """Asks routers to map a port (UPnP IGD, NAT-PMP, PCP). Blocks; the runtime calls it from a thread of its own."""

    def map(self, carrier: Carrier, port: int, lifetime: float) -> tuple[Address, float, str] | None:
        """Map a local port, or renew: (outside address, seconds that it holds, protocol), None if no router does."""
        ...

    def close(self) -> None:
        """Undo what was mapped."""
        ...
