"""When to look at which flow. Nothing here is looked for: what is planned lies in order of time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from itertools import count

from ltunnel_transport_faketcp.flow import FOREVER, Flow

ACK_DELAY = 0.04
"""Seconds that an acknowledgement may wait for company, Linux's TCP_DELACK_MIN; twice that in the worst case."""
ACK_DELAY_MUCH = 0.001
"""The same once much has been received: under load there is nearly always data that says it, and saves a segment."""


class Timers:
    """Acknowledgements, of which those of a kind wait equally long, and visits to flows."""

    def __init__(self) -> None:
        self._acks: deque[tuple[float, Flow, int]] = deque()
        self._acks_of_much: deque[tuple[float, Flow, int]] = deque()
        self._visits: list[tuple[float, int, Flow]] = []
        self._queues = self._acks_of_much, self._acks, self._visits
        self._order = count()

    def plan_ack(self, flow: Flow, now: float) -> None:
        """Have what a flow has received acknowledged soon."""
        flow.ack_planned = True
        self._acks.append((now + ACK_DELAY, flow, flow.received))

    def plan_ack_of_much(self, flow: Flow, now: float) -> None:
        """Have it acknowledged very soon."""
        flow.much_planned = True
        self._acks_of_much.append((now + ACK_DELAY_MUCH, flow, flow.received))

    def plan(self, flow: Flow, when: float) -> None:
        """Have a flow looked at, not later than `when`."""
        if when < flow.due:
            flow.due = when
            heapq.heappush(self._visits, (when, next(self._order), flow))

    def next(self) -> float | None:
        """Return when something is due, or None."""
        first: float | None = None
        for queue in self._queues:
            if queue and (first is None or queue[0][0] < first):
                first = queue[0][0]
        return first

    def due_acks(self, now: float) -> Iterator[Flow]:
        """Take the flows that have to acknowledge. Where data has done so, what came after waits as long again."""
        much = self._acks_of_much
        while much and much[0][0] <= now:
            _, flow, received = much.popleft()
            flow.much_planned = False
            if flow.told < received:
                yield flow
            elif flow.told < flow.received and not flow.ack_planned:
                self.plan_ack(flow, now)
        acks = self._acks
        while acks and acks[0][0] <= now:
            _, flow, received = acks.popleft()
            flow.ack_planned = False
            if flow.told < received:
                yield flow
            elif flow.told < flow.received:
                self.plan_ack(flow, now)

    def due_visits(self, now: float) -> Iterator[Flow]:
        """Take the flows that are to be looked at; what is planned meanwhile has to be later than `now`."""
        visits = self._visits
        while visits and visits[0][0] <= now:
            when, _, flow = heapq.heappop(visits)
            if when == flow.due:  # else it was planned anew, for an earlier time
                flow.due = FOREVER
                yield flow
