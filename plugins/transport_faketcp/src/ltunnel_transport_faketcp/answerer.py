"""A hub's part: SYNs answered without state, connections for those who prove that they receive, none for ever."""

from __future__ import annotations

from ltunnel.plugin import Address
from ltunnel_transport_faketcp.flow import Flow
from ltunnel_transport_faketcp.opening import Agreed, numbers, open_cookie, read_options
from ltunnel_transport_faketcp.segment import CONTROL, MASK, SYN, Head, Segment, ends
from ltunnel_transport_faketcp.side import LOOK, Side
from ltunnel_transport_faketcp.states import Cause, State, move

MAX_FLOWS = 4096
AGE = 180.0
"""Seconds of silence after which a connection is forgotten; nodes say something every 20 s."""
PATIENCE = 60.0
PATIENCE_HINTED = 10.0
_SEARCH = 64


class Answerer(Side):
    """Answers SYNs and keeps a bounded table of connections."""

    patience = PATIENCE
    patience_hinted = PATIENCE_HINTED

    def connect(self, remote: Address, now: float) -> Flow:
        """Return a flow on which nothing can be sent: a hub is connected to."""
        return Flow(remote, State.CLOSED, now)

    def meet(self, remote: Address, like: Flow, now: float) -> Flow:  # noqa: ARG002
        """Return a flow on which nothing can be sent, as `connect` does."""
        return self.connect(remote, now)

    def want(self, flow: Flow, now: float) -> None:
        """Do nothing: only the node can open a connection."""

    def syn(self, segment: Segment, options: bytes, to: tuple[str], now: float) -> None:
        """Answer a SYN. Nothing is kept, nor is anything changed in a connection that there is."""
        key, seq, _, flags, *_ = segment
        if flags & (CONTROL | 0x10) == SYN:
            self._line.answer_syn(key, seq, read_options(options), to, now)
        else:
            self._counts.strays += 1

    def admit(self, segment: Segment, to: tuple[str], now: float) -> Flow | None:
        """Begin the connection of a segment that acknowledges our cookie, be it the first that arrives or a later."""
        key, seq, ack, _, window, _, _, clock, echo = segment
        known = numbers(self._port.secret, key)
        agreed = open_cookie(known, ack, echo if clock >= 0 else None, clock)
        if agreed is None:
            self._counts.strays += 1
            return None
        if len(self._flows) >= MAX_FLOWS and not self._make_room(now):
            self._counts.refused += 1
            return None
        return self._begin(segment, agreed, to, window << (agreed.scale or 0), now, seq)

    def confirm(self, flow: Flow, segment: Segment, now: float) -> None:  # noqa: ARG002
        """Do nothing: a hub has only open connections in its table."""
        self._counts.strays += 1

    def implausible(self, flow: Flow, segment: Segment, to: tuple[str], now: float) -> None:
        """Begin anew if a node uses the same port for another connection, which then acknowledges our first number."""
        self._counts.implausible += 1
        if segment[2] == flow.first + 1 & MASK:
            self._expire(flow)
            self.admit(segment, to, now)

    def owns(self, flow: Flow) -> bool:
        """Whether a flow is in the table."""
        return self._flows.get(flow.key) is flow

    def forget(self, flow: Flow) -> None:
        """Remove a flow."""
        del self._flows[flow.key]
        flow.drop_connection()

    def look_around(self, now: float) -> None:
        """Do nothing: a hub answers from where it was asked."""

    def _begin(self, segment: Segment, agreed: Agreed, to: tuple[str], window: int, now: float, seq: int) -> Flow:
        key, ack = segment[0], segment[2]
        far, own, far_port, own_port = ends(key)
        flow = Flow((to[0], far_port), State.OPEN, now)
        flow.key = key
        flow.numbers = known = numbers(self._port.secret, key)
        head = Head(own, far, own_port, far_port, timed=agreed.clock is not None, ident=known.ident, label=known.label)
        flow.establish(head, agreed, first=ack - 1 & MASK, far=seq, window=window, now=now)
        self._flows[key] = flow
        self._counts.connections += 1
        self._timers.plan(flow, now + LOOK)
        return flow

    def _visit_closed(self, flow: Flow, now: float) -> None:
        pass

    def _visit_quiet(self, flow: Flow, now: float) -> float | None:
        if now - flow.heard >= AGE:
            self._expire(flow)
            return None
        return min(flow.heard + AGE, now + LOOK)

    def _give_up(self, flow: Flow, now: float) -> None:  # noqa: ARG002
        self._expire(flow)

    def _expire(self, flow: Flow) -> None:
        flow.state = move(flow.state, Cause.EXPIRED)
        self.forget(flow)

    def _make_room(self, now: float) -> bool:
        """End one connection on which we never sent anything, or that is silent: second chance, oldest first.

        The core answers only what proves to come from a node, so a connection that we have sent on is worth more than
        one that somebody just holds open. False when all that were looked at are in use.
        """
        for _ in range(min(_SEARCH, len(self._flows))):
            key, flow = next(iter(self._flows.items()))
            if flow.sent == flow.first + 1 or now - flow.heard >= LOOK * 10:
                self._expire(flow)
                return True
            del self._flows[key]
            self._flows[key] = flow
        return False
