"""What this side remembers about its dealings with one peer: state, handshakes under way, epochs, PINGs that are out.

Plain data. The state moves by the table in `states`; everything else is written by the part of the control side whose
business it is.
"""

from __future__ import annotations

from typing import NamedTuple

from ltunnel.control.handshake import Initiator
from ltunnel.control.states import IN_USE, State, Step, step
from ltunnel.plugin import Flow
from ltunnel.session import Epoch, Peer

ATTEMPT_LIMIT = 4
"""INITs over one transport whose RESP is still taken: with slow paths the answer to an earlier one may come first."""
EPOCH_LIMIT = 4
"""In use, replaced, and two handshakes that have not proved themselves."""
PING_LIMIT = 16
COOKIE_LIMIT = 8
PROVED_LIMIT = 8


class Attempt(NamedTuple):
    """An INIT that was sent."""

    session: Session
    initiator: Initiator
    transport: int
    flow: Flow
    sent: float


class Pending(NamedTuple):
    """A CONFIRM that was sent: the same bytes go out until the answer comes."""

    epoch: Epoch
    data: bytes
    transport: int
    flow: Flow
    sent: float


class PingSent(NamedTuple):
    """A PING that was sent, and where to: only a PONG from there counts."""

    sent: float
    transport: int
    flow: Flow


class Session:
    """Dealings with one peer. On a node the hub's key, and with it `peer`, is unknown until a RESP has verified."""

    __slots__ = (
        "attempts", "byes", "clock_error", "confirm_macs", "connected", "cookies", "dead", "epochs", "expiry",
        "greeted", "hurried", "last_ping", "moved", "peer", "pending", "pings", "probes", "proved", "reported", "state",
        "tries", "unanswered", "unproven", "used_at", "validations",
    )  # fmt: skip

    def __init__(self, peer: Peer | None = None) -> None:
        self.peer = peer
        self.state = State.IDLE

        # Handshakes that we start.
        self.attempts: dict[int, Attempt] = {}
        """By our index, the newest last."""
        self.pending: Pending | None = None
        self.tries = 0
        """INITs, or CONFIRMs, sent since the last progress."""
        self.unanswered = 0
        """INITs since the peer last answered anything, for the diagnosis."""
        self.cookies: dict[tuple[int, Flow], tuple[bytes, float]] = {}
        """What a loaded hub gave for a flow (transport, flow), and when."""
        self.clock_error = 0.0
        """Seconds that the peer's clock is ahead of ours, as it told us, for INITs to it."""
        self.hurried = float("-inf")
        """When an INIT was last sent out of turn."""
        self.reported: float | None = None
        """When the owner was last told that nobody answers."""

        # Epochs.
        self.epochs: list[Epoch] = []
        """All that may be received on, the newest last."""
        self.expiry: dict[int, float] = {}
        """When an epoch (by our index) is forgotten; without an entry, when its keys are too old."""
        self.unproven: dict[int, float] = {}
        """Epochs that we started and on which nothing has come yet: when their handshake began."""
        self.used_at = 0.0
        """When the epoch in use was taken into use."""
        self.confirm_macs: dict[int, bytes] = {}
        """MAC1 of the CONFIRM that made an epoch, to know a duplicate."""
        self.greeted = float("-inf")
        """When a CONFIRM was last answered, with WELCOME or PING."""

        # Life.
        self.connected: float | None = None
        """Since when the peer is there."""
        self.pings: dict[bytes, PingSent] = {}
        self.last_ping = float("-inf")
        self.probes = 0
        """PINGs sent since nothing was heard; 0 while all is well."""
        self.dead = False
        """Whether the probes went unanswered."""
        self.validations = 0
        self.moved = float("-inf")
        """When the owner was last told that the peer has moved."""
        self.proved: dict[tuple[int, Flow], float] = {}
        """When a PONG last came from a flow (transport, flow) that was not in use; the newest last."""
        self.byes = 0
        """BYEs that came soon after each other."""

    @property
    def in_use(self) -> bool:
        """Whether data passes."""
        return self.state in IN_USE

    def move(self, what: Step) -> bool:
        """Take a step if it means anything in this state; False if not."""
        to = step(self.state, what)
        if to is None:
            return False
        self.state = to
        return True
