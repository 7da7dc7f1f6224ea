"""The states of a session with one peer, and every transition between them, in one table.

A session is what two peers share across handshakes: it outlives its epochs. Code elsewhere asks `step` and never
compares or assigns states in another way; `diagram` draws the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """Where a session is."""

    IDLE = "idle"  # nothing has happened, or the peer is gone
    INITIATING = "initiating"  # INIT sent, no keys to use
    CONFIRMING = "confirming"  # RESP verified, CONFIRM sent, no keys to use
    ESTABLISHED = "established"  # an epoch is in use
    REKEY_INITIATING = "rekey initiating"  # as INITIATING, but the old epoch is still in use
    REKEY_CONFIRMING = "rekey confirming"  # as CONFIRMING, but the old epoch is still in use
    DENIED = "denied"  # the hub refused us, or is not the one we know; asked again later
    CLOSED = "closed"  # stopped; nothing leads out of here


class Step(Enum):
    """What moves a session."""

    INITIATE = "initiate"  # connect, or make a new epoch: time, packets, or a peer that seems dead
    ANSWERED = "answered"  # a RESP verified
    UNANSWERED = "unanswered"  # the CONFIRM was never answered
    CONFIRMED = "confirmed"  # the peer uses the new epoch and, on a node, has welcomed us
    ACCEPTED = "accepted"  # as the responder: a CONFIRM verified and was accepted
    REFUSED = "refused"  # DENY, or another key than the pinned one
    LOST = "lost"  # BYE, or silence for `timeout`
    STOP = "stop"


_S, _T = State, Step

TRANSITIONS: Mapping[State, Mapping[Step, State]] = {
    _S.IDLE: {
        _T.INITIATE: _S.INITIATING,
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.LOST: _S.IDLE,
    },
    _S.INITIATING: {
        _T.ANSWERED: _S.CONFIRMING,
        _T.CONFIRMED: _S.ESTABLISHED,  # the WELCOME to a CONFIRM that was given up
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.REFUSED: _S.DENIED,
        _T.LOST: _S.IDLE,
    },
    _S.CONFIRMING: {
        _T.CONFIRMED: _S.ESTABLISHED,
        _T.UNANSWERED: _S.INITIATING,
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.REFUSED: _S.DENIED,
        _T.LOST: _S.IDLE,
    },
    _S.ESTABLISHED: {
        _T.INITIATE: _S.REKEY_INITIATING,
        _T.CONFIRMED: _S.ESTABLISHED,
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.REFUSED: _S.DENIED,
        _T.LOST: _S.IDLE,
    },
    _S.REKEY_INITIATING: {
        _T.ANSWERED: _S.REKEY_CONFIRMING,
        _T.CONFIRMED: _S.ESTABLISHED,
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.REFUSED: _S.DENIED,
        _T.LOST: _S.IDLE,
    },
    _S.REKEY_CONFIRMING: {
        _T.CONFIRMED: _S.ESTABLISHED,
        _T.UNANSWERED: _S.REKEY_INITIATING,
        _T.ACCEPTED: _S.ESTABLISHED,
        _T.REFUSED: _S.DENIED,
        _T.LOST: _S.IDLE,
    },
    _S.DENIED: {
        _T.INITIATE: _S.INITIATING,
        _T.LOST: _S.DENIED,
    },
    _S.CLOSED: {},
}
"""From state and step to the next state. What is not here does not happen. STOP leads to CLOSED from everywhere."""

IN_USE = frozenset({State.ESTABLISHED, State.REKEY_INITIATING, State.REKEY_CONFIRMING})
"""States in which data passes."""

AWAITING_RESP = frozenset({State.INITIATING, State.REKEY_INITIATING})
AWAITING_WELCOME = frozenset({State.CONFIRMING, State.REKEY_CONFIRMING})


def step(state: State, what: Step) -> State | None:
    """Return the state that a step leads to, or None when the step means nothing in this state."""
    if what is Step.STOP:
        return State.CLOSED
    return TRANSITIONS[state].get(what)


def diagram() -> str:
    """Return the table as a Mermaid state diagram; `docs/adr` shows it."""
    lines = ["stateDiagram-v2"]
    for state in State:
        lines.append(f'    state "{state.value}" as {state.name}')
    lines.append("    [*] --> IDLE")
    for state, moves in TRANSITIONS.items():
        for what, to in moves.items():
            lines.append(f"    {state.name} --> {to.name}: {what.value}")
    lines.append("    CLOSED --> [*]")
    return "\n".join(lines) + "\n"
