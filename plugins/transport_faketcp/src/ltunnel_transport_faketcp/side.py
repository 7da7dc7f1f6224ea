"""What nodes and hubs have in common: asking flows that are silent or of which somebody says that they are over."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ltunnel.plugin import Address, RawPort
from ltunnel_transport_faketcp.counts import Counts
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.line import Line
from ltunnel_transport_faketcp.segment import Segment
from ltunnel_transport_faketcp.states import Cause, State, move
from ltunnel_transport_faketcp.timers import Timers

ASK_AFTER = 1.0
"""Seconds without an answer after which a flow is asked, and then again."""
ASK_HINTED = 0.5
"""The same after a RST or FIN, which is asked about at once."""
LOOK = 5.0
"""Quiet flows are looked at this often (seconds)."""


class Side(ABC):
    """One end's part in the life of flows. `flows` are the connections, by key."""

    patience: float
    """Seconds without an answer after which a connection is given up."""
    patience_hinted: float
    """The same after a RST or FIN."""

    def __init__(self, port: RawPort, flows: dict[bytes, Flow], line: Line, timers: Timers, counts: Counts) -> None:
        self._port = port
        self._flows = flows
        self._line = line
        self._timers = timers
        self._counts = counts

    @abstractmethod
    def connect(self, remote: Address, now: float) -> Flow:
        """Return the flow to `remote`."""

    @abstractmethod
    def meet(self, remote: Address, like: Flow, now: float) -> Flow:
        """Return the flow to `remote` that both ends open at once."""

    @abstractmethod
    def want(self, flow: Flow, now: float) -> None:
        """Take note that the core sends on a flow that has no connection."""

    @abstractmethod
    def syn(self, segment: Segment, options: bytes, to: tuple[str], now: float) -> None:
        """Take a SYN or SYN-ACK with the `options` of its header, from `to`."""

    @abstractmethod
    def admit(self, segment: Segment, to: tuple[str], now: float) -> Flow | None:
        """Take a segment of no known connection; return the connection that it begins, if it may."""

    @abstractmethod
    def confirm(self, flow: Flow, segment: Segment, now: float) -> Flow | None:
        """Take a segment with an ACK for a flow that is not open yet; return the flow if that opens it."""

    @abstractmethod
    def implausible(self, flow: Flow, segment: Segment, to: tuple[str], now: float) -> None:
        """Take a segment whose numbers cannot be of its connection."""

    @abstractmethod
    def owns(self, flow: Flow) -> bool:
        """Whether a flow is one of ours, and not closed."""

    @abstractmethod
    def forget(self, flow: Flow) -> None:
        """Remove a flow."""

    @abstractmethod
    def look_around(self, now: float) -> None:
        """Take note that routes and own addresses may have changed."""

    @abstractmethod
    def _visit_closed(self, flow: Flow, now: float) -> float | None:
        """Look at a flow without a connection; return when to come again."""

    @abstractmethod
    def _visit_quiet(self, flow: Flow, now: float) -> float | None:
        """Look at a flow that owes us no answer; return when to come again."""

    @abstractmethod
    def _give_up(self, flow: Flow, now: float) -> float | None:
        """End a connection that does not answer; return when to come again."""

    def hint(self, flow: Flow, now: float) -> None:
        """Take a RST or FIN of a connection: anybody on the path can send one, so ask the far end."""
        self._counts.hints += 1
        flow.hinted = True
        if flow.state is State.OPEN:
            flow.patience = self.patience_hinted
            self._ask(flow, now)
            self._timers.plan(flow, now + ASK_HINTED)

    def visit(self, flow: Flow, now: float) -> None:
        """Do what is due for a flow, and plan the next visit."""
        when = self._visit_open(flow, now) if flow.is_up else self._visit_closed(flow, now)
        if when is not None:
            self._timers.plan(flow, when)

    def _visit_open(self, flow: Flow, now: float) -> float | None:
        if flow.waiting is None:
            return self._visit_quiet(flow, now)
        if flow.state is State.OPEN:
            if now < flow.waiting + ASK_AFTER:
                return flow.waiting + ASK_AFTER
            flow.patience = self.patience
        if now >= flow.waiting + flow.patience or self._is_cut_off(flow):
            self._counts.lost += 1
            return self._give_up(flow, now)
        self._ask(flow, now)
        return now + (ASK_HINTED if flow.patience < self.patience else ASK_AFTER)

    def _ask(self, flow: Flow, now: float) -> None:
        if flow.state is State.OPEN:
            flow.state = move(State.OPEN, Cause.DOUBT)
        self._line.probe(flow, now)

    def _is_cut_off(self, flow: Flow) -> bool:  # noqa: ARG002 (a hub answers from where it was asked)
        """Whether a connection can no longer work, whatever the far end does."""
        return False
