"""The states of a flow, and all transitions between them. `move` is the only way from one to another."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """What a flow is doing."""

    IDLE = "idle"  # a node's flow that nobody uses: no connection, nothing is sent
    OPENING = "opening"  # SYN sent, again and again, every few seconds from another port
    MEETING = "meeting"  # SYN sent and SYN received: both ends open at once, neither has seen itself acknowledged
    OPEN = "open"
    DOUBTED = "doubted"  # a RST or FIN came, or no answer: open, and being asked
    CLOSED = "closed"  # for good


class Cause(Enum):
    """Why a flow changes its state."""

    WANTED = "wanted"  # the core connects, or sends
    MET = "met"  # a SYN of the far end, which opens at the same time
    ANSWERED = "answered"  # a SYN-ACK that acknowledges the SYN; between two that meet, any segment that does
    HEARD = "heard"  # a segment of this connection
    DOUBT = "doubt"  # a RST or FIN from the wire, or no answer for a while
    LOST = "lost"  # a node's patience is over, or its address is another: another source port, another SYN
    REST = "rest"  # on a node: the core has not used it for long
    EXPIRED = "expired"  # on a hub: silent for long, or no room for it
    CLOSE = "close"  # the core closes it


TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.IDLE, Cause.WANTED): State.OPENING,
    (State.IDLE, Cause.CLOSE): State.CLOSED,
    (State.OPENING, Cause.MET): State.MEETING,
    (State.OPENING, Cause.ANSWERED): State.OPEN,
    (State.OPENING, Cause.LOST): State.OPENING,
    (State.OPENING, Cause.REST): State.IDLE,
    (State.OPENING, Cause.CLOSE): State.CLOSED,
    (State.MEETING, Cause.ANSWERED): State.OPEN,
    (State.MEETING, Cause.LOST): State.OPENING,
    (State.MEETING, Cause.REST): State.IDLE,
    (State.MEETING, Cause.CLOSE): State.CLOSED,
    (State.OPEN, Cause.DOUBT): State.DOUBTED,
    (State.OPEN, Cause.LOST): State.OPENING,
    (State.OPEN, Cause.REST): State.IDLE,
    (State.OPEN, Cause.EXPIRED): State.CLOSED,
    (State.OPEN, Cause.CLOSE): State.CLOSED,
    (State.DOUBTED, Cause.HEARD): State.OPEN,
    (State.DOUBTED, Cause.LOST): State.OPENING,
    (State.DOUBTED, Cause.REST): State.IDLE,
    (State.DOUBTED, Cause.EXPIRED): State.CLOSED,
    (State.DOUBTED, Cause.CLOSE): State.CLOSED,
}
"""A node's flow begins in IDLE; a hub's in OPEN, since before that it has none."""


def move(state: State, cause: Cause) -> State:
    """Return the next state. KeyError for what cannot happen in this one."""
    return TRANSITIONS[state, cause]


def diagram() -> str:
    """Draw the transitions as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> idle : node", "    [*] --> open : hub"]
    lines += [f"    {old.value} --> {new.value} : {cause.value}" for (old, cause), new in TRANSITIONS.items()]
    return "\n".join([*lines, "    closed --> [*]"])
