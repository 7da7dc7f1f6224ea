"""Candidate paths from a node to its hub: a transport each, and how it stands with it. Plain data.

Which of them is used is decided in `choice`; `trials` asks them inside a session.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from ltunnel.control.flows import describe_endpoint
from ltunnel.plugin import Address, Flow

NEVER = float("-inf")
STABLE = 120.0
"""A candidate that was come back to should hold so long (seconds)."""
FIRST_PENALTY = 120.0
LONGEST_PENALTY = 960.0
FORGIVEN = 600.0
"""One that has held so long has made up for everything."""


class Standing(Enum):
    """What is known of a candidate. The values are the words in status output."""

    UNKNOWN = "unknown"  # not tried since the network or the hub's address changed
    TRYING = "trying"
    WORKING = "working"  # answered when it was asked last
    DEAD = "dead"  # did not answer


class Dial(NamedTuple):
    """An order to the owner: `Transport.connect`, and bring the flow to `Control.dialled`."""

    transport: int
    address: Address
    whose: Hashable = None
    """Who gets the flow; None for a candidate to the hub."""
    like: Flow | None = None
    """A flow to the hub: `MeetingTransport.meet` from its local port is meant then."""


class HangUp(NamedTuple):
    """An order to the owner: `Transport.close`."""

    transport: int
    flow: Flow


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """An order to the owner: open further ports like those of a transport, and name them by `Control.ports_opened`."""

    transport: int
    owner: Hashable
    count: int = 1


class ClosePort(NamedTuple):
    """An order to the owner: close a transport that `OpenPorts` has brought."""

    transport: int


@dataclass(frozen=True, slots=True)
class Hint:
    """An order to the owner: send a datagram that passes only so many routers and does not arrive."""

    transport: int
    address: Address
    datagram: bytes
    hops: int


Call = Dial | HangUp | OpenPorts | ClosePort | Hint


class ProbeSent(NamedTuple):
    """A PROBE that is out."""

    sent: float
    flow: Flow


class Trial:
    """PROBEs over one candidate, inside a session that uses another.

    `goal` answers in a row are wanted. A `search` has no end of its own: it is over when the session is heard again.
    """

    __slots__ = ("asked", "began", "goal", "misses", "ready", "row", "search", "sent")

    def __init__(self, *, goal: int, search: bool, began: float) -> None:
        self.goal = goal
        self.search = search
        self.began = began
        self.sent: dict[bytes, ProbeSent] = {}
        """By token, the newest last."""
        self.asked = False
        """Whether the newest PROBE is unanswered."""
        self.row = 0
        """Answers since the last miss."""
        self.misses = 0
        self.ready = False
        """Whether the goal is reached."""


class Candidate:
    """One transport to the hub. Times are monotonic seconds."""

    __slots__ = (
        "address", "asked", "dialled", "dialling", "flow", "heard", "inits", "name", "penalty", "place", "refusals",
        "returned", "rtt", "shy_until", "standing", "taken", "takes_over", "transport", "trial",
    )  # fmt: skip

    def __init__(self, transport: int, name: str, address: Address) -> None:
        self.transport = transport
        self.name = name
        self.address = address
        self.place = describe_endpoint(transport, address)
        """Where that is, for people; as the transport says once there was a flow, which may go to another port."""

        self.flow: Flow | None = None
        """None while there is none; opened when it is needed, closed when it is not."""
        self.takes_over = False
        """Whether the session, which used the flow that was closed, goes along to the next one."""
        self.dialling = False
        self.dialled = NEVER
        """When the flow was opened."""
        self.refusals = 0
        """How often the transport did not send since then: as a rule, because the flow is still opening."""

        self.standing = Standing.UNKNOWN
        self.asked: float | None = None
        """When the last INIT was sent; None when it is answered, or did not leave."""
        self.inits = 0
        """INITs sent since the last answer."""
        self.heard: float | None = None
        """When it last answered."""
        self.rtt: float | None = None
        self.trial: Trial | None = None

        self.taken = NEVER
        """When the session last moved here."""
        self.returned = False
        """Whether it then came back from a candidate that worked."""
        self.penalty = 0.0
        """For how long it was not trusted after it went dead too soon."""
        self.shy_until = NEVER
        """Until then the session does not come back here."""

    def answered(self, now: float, rtt: float) -> None:
        """Take note of an answer."""
        self.standing = Standing.WORKING
        self.heard = now
        self.rtt = rtt
        self.asked = None
        self.inits = self.refusals = 0

    def blame(self, now: float) -> None:
        """Take note that it went dead while it was in use, and trust it less if that was soon after a comeback."""
        self.standing = Standing.DEAD
        held = now - self.taken
        if self.returned and held < STABLE:
            self.penalty = min(LONGEST_PENALTY, max(FIRST_PENALTY, 2 * self.penalty))
            self.shy_until = now + self.penalty
        elif held >= FORGIVEN:
            self.penalty = 0.0

    def forgive(self) -> None:
        """Forget what was learnt in another network."""
        self.shy_until, self.penalty = NEVER, 0.0


def places(candidates: Sequence[Candidate]) -> str:
    """Say where the hub is looked for: ``192.0.2.1:9000``, and by what if there is a choice."""
    found: dict[str, list[str]] = {}
    for candidate in candidates:
        found.setdefault(candidate.place, []).append(candidate.name)
    if len(candidates) == 1:
        return next(iter(found))
    return "; ".join(f"{place} by {', '.join(names)}" for place, names in found.items())
