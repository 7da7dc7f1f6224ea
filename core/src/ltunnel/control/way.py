"""One path to a peer, its states, and every transition between them, in one table.

::

              PONG                2 probes unanswered
    PROBING ────────► VALID ─────────────────────────► SUSPECT
       │               ▲ ▲ └──── PONG ◄──────────────────┘ │
       │ unanswered    │ │ PONG                            │ 4 unanswered, or 6.5 s without PONG
       ▼               │ └───────────────── DEAD ◄─────────┘
    forgotten          └─ RESTORED ─────────┘ ▲
                                              └ LOST ── from everywhere

Only VALID and SUSPECT paths carry data: so each has answered a probe from the very place that data would go to.
The path through the hub is one like the others, but for this: it is there as long as the hub's session is (LOST,
RESTORED), and silence makes it SUSPECT at most. `diagram` draws the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from ltunnel.control.measure import Measure
from ltunnel.control.path_mtu import PathMtu
from ltunnel.plugin import Flow, PathClass
from ltunnel.session import Path, Peer


class WayState(Enum):
    """Where a path is. The values are the words in status output."""

    PROBING = "probing"  # asked to prove itself; nothing has come back yet
    VALID = "valid"  # answers
    SUSPECT = "suspect"  # the last probes are unanswered; used on until something better answers
    DEAD = "dead"  # did not answer for too long; asked again ever more rarely


class WayStep(Enum):
    """What moves a path."""

    PONG = "pong"  # a probe was answered from where it had gone
    OVERDUE = "overdue"  # two probes in a row are unanswered
    SILENT = "silent"  # four are, or it is 6.5 s since the last PONG
    LOST = "lost"  # what carries it is gone: the hub's session, or the port
    RESTORED = "restored"  # and is back


_S, _T = WayState, WayStep

TRANSITIONS: Mapping[WayState, Mapping[WayStep, WayState]] = {
    _S.PROBING: {
        _T.PONG: _S.VALID,
        _T.SILENT: _S.DEAD,
        _T.LOST: _S.DEAD,
        _T.RESTORED: _S.VALID,
    },
    _S.VALID: {
        _T.PONG: _S.VALID,
        _T.OVERDUE: _S.SUSPECT,
        _T.SILENT: _S.DEAD,
        _T.LOST: _S.DEAD,
    },
    _S.SUSPECT: {
        _T.PONG: _S.VALID,
        _T.SILENT: _S.DEAD,
        _T.LOST: _S.DEAD,
    },
    _S.DEAD: {
        _T.PONG: _S.VALID,
        _T.RESTORED: _S.VALID,
    },
}
"""From state and step to the next state. What is not here does not happen."""

CARRIES = frozenset({WayState.VALID, WayState.SUSPECT})
"""States in which data may be sent."""


class Sent(NamedTuple):
    """A probe that is out."""

    when: float
    size: int
    """The inner packet that it stands for, 0 for one without padding."""


class Way:
    """One path to a peer: a flow of a transport, and what is known of it. Times are monotonic seconds."""

    __slots__ = (
        "big", "hops", "last_pong", "measure", "misses", "mtu", "number", "path", "path_class", "peer", "proved",
        "rounds", "sent", "small", "state", "via",
    )  # fmt: skip

    def __init__(self, number: int, peer: Peer, path: Path, path_class: PathClass, mtu: PathMtu) -> None:
        self.number = number
        self.peer = peer
        self.path = path
        """What `Peer.path` becomes when it is chosen."""
        self.path_class = path_class
        self.via: Peer | None = None
        """The node that passes datagrams on, if it is one."""
        self.hops = 1
        """Links on the way, as far as is known."""
        self.state = WayState.PROBING
        self.measure = Measure()
        self.mtu = mtu
        self.proved = False
        """Whether it has ever answered."""
        self.last_pong = float("-inf")

        # The round of probes that is out.
        self.sent: dict[bytes, Sent] = {}
        """Probes by token, the newest last; late answers count, too."""
        self.small: bytes | None = None
        """Token of the one without padding, None when it is answered."""
        self.big: bytes | None = None
        """Token of the padded one, None when it is answered or was not sent."""
        self.misses = 0
        """Rounds in a row without any answer."""
        self.rounds = 0
        """Rounds since it came into its state."""

    @property
    def flow(self) -> tuple[int, Flow]:
        """Where it is: (transport, flow)."""
        return self.path.transport, self.path.flow

    @property
    def direct(self) -> bool:
        """Whether nobody forwards."""
        return self.path_class in (PathClass.LAN, PathClass.PUBLIC)

    @property
    def usable(self) -> bool:
        """Whether data may be sent over it: it answers, and it is known what fits."""
        return self.state in CARRIES and self.mtu.size > 0

    def move(self, what: WayStep) -> bool:
        """Take a step if it means anything in this state; True if the state is another one then."""
        to = TRANSITIONS[self.state].get(what, self.state)
        if to is self.state:
            return False
        self.state, self.rounds = to, 0
        return True

    def describe(self, now: float) -> dict[str, Any]:
        """Say what was measured, for status."""
        measure = self.measure
        return {
            "class": self.path_class.name.lower(),
            "state": self.state.value,
            "rtt_ms": None if measure.rtt is None else round(measure.rtt * 1000, 3),
            "jitter_ms": round(measure.jitter * 1000, 3),
            "loss": round(measure.loss, 4),
            "mtu": self.mtu.size or None,
            "hops": self.hops,
            "last_pong": round(now - self.last_pong, 3) if self.proved else None,
        }


def via_name(way: Way) -> str | None:
    """Return the name of the node that passes datagrams on, None if none does."""
    return None if way.via is None else way.via.name


def diagram() -> str:
    """Return the table as a Mermaid state diagram; `docs/adr` shows it."""
    lines = ["stateDiagram-v2", "    [*] --> PROBING"]
    for state, moves in TRANSITIONS.items():
        lines += [f"    {state.name} --> {to.name}: {what.value}" for what, to in moves.items() if to is not state]
    lines.append("    DEAD --> [*]")
    return "\n".join(lines) + "\n"
