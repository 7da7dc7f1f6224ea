"""Questions to the hub that are out, and the connections that were opened to ask them."""

from __future__ import annotations

from typing import NamedTuple

from ltunnel.control.candidates import HangUp
from ltunnel.control.context import Context
from ltunnel.control.hub_places import version_of
from ltunnel.plugin import Address, Carrier, Flow, Query

QUERY_TIME = 10.0
QUERY_LIMIT = 256
OPENING_TIME = 3.0
"""Seconds after which a connection is closed over which nothing was answered."""


class Question(NamedTuple):
    """A question that is out."""

    query: Query
    transport: int
    address: Address
    sent: float


class Questions:
    """By token, the oldest first; and over which flow the hub was asked last, of transports with connections."""

    __slots__ = ("_ctx", "_flows", "_out")

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._out: dict[bytes, Question] = {}
        self._flows: dict[tuple[int, int], Flow] = {}  # by transport and IP version

    def add(self, token: bytes, question: Question) -> None:
        """Take note of a question that leaves."""
        while len(self._out) >= QUERY_LIMIT:
            del self._out[next(iter(self._out))]
        self._out[token] = question

    def get(self, token: bytes) -> Question | None:
        """Return a question, None if it is none of ours, or too old."""
        return self._out.get(token)

    def answered(self, token: bytes) -> None:
        """Take a question back, and those that were the same: they wait for nothing any more."""
        question = self._out.pop(token)
        if question.query.carrier is Carrier.TCP:
            same = question.query, question.transport
            self._out = {other: out for other, out in self._out.items() if (out.query, out.transport) != same}

    def asked_over(self, question: Question, flow: Flow) -> None:
        """Take note of the flow that a question goes by."""
        self._flows[question.transport, version_of(question.address)] = flow

    def flow(self, transport: int, to: Address) -> Flow | None:
        """Return the flow to the hub of the same IP version as an address."""
        return self._flows.get((transport, version_of(to)))

    def sweep(self, main: int, now: float) -> float | None:
        """Forget what is old; return when to look again, or None.

        A connection that was opened over another IP version than the `main` one, in vain, is closed: it would go on
        trying.
        """
        self._out = {token: out for token, out in self._out.items() if now - out.sent < QUERY_TIME}
        due: list[float] = []
        for out in self._out.values():
            place = out.transport, version_of(out.address)
            if out.query.carrier is not Carrier.TCP or place[1] == main or place not in self._flows:
                continue
            if now - out.sent >= OPENING_TIME:
                self._ctx.calls.append(HangUp(out.transport, self._flows.pop(place)))
            else:
                due.append(out.sent + OPENING_TIME)
        return min(due, default=None)
