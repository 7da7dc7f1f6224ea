"""What kind of NAT there is, found out by questions to the hub (RFC 5780), from the shared port.

::

    plain        the hub's port                      ─► the address that it sees; does any UDP get through?
    filter       its other port is to answer         ─► does the NAT let in what nobody asked for?
    other        its other port                      ─► is the address the same for another destination?
    self         the own address, as the hub saw it  ─► does the NAT turn packets around (hairpin)?

`filter` comes before `other`, since a packet to the other port would open the filter for it. With one address at the
hub, "depends on the address" cannot be told from "depends on nothing"; where it matters, the worse is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from ltunnel.plugin import Address, Answer, Behaviour, Carrier, Dependence, Query

GAPS = (0.2, 0.3, 0.5)
"""Seconds after which an unanswered question is asked again; after the last it is given up."""


class Step(Enum):
    """A question."""

    PLAIN = "plain"
    FILTER = "filter"
    OTHER = "other"
    SELF = "self"


@dataclass(slots=True)
class Asked:
    """A question that is being asked."""

    query: Query
    next: float
    tries: int = 0
    answer: Address | None = None

    def due(self, now: float) -> Query | None:
        """Return the question if it is to be asked now."""
        if self.answer is not None or self.tries == len(GAPS) or now < self.next:
            return None
        self.next = now + GAPS[self.tries]
        self.tries += 1
        return self.query

    def over(self, now: float) -> bool:
        """Whether it is answered or given up."""
        return self.answer is not None or (self.tries == len(GAPS) and now >= self.next)


class Survey:
    """The questions about one carrier and what came of them. Start it when the hub is there."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self.address: Address | None = None
        """As whom the hub saw the shared port last."""
        self.seen = float("-inf")
        """When that was."""
        self.other_port = 0
        self.second: Address | None = None
        """The same at the hub's other port."""
        self._asked: dict[Step, Asked] = {}
        self._results: dict[Step, bool] = {}

    @property
    def running(self) -> bool:
        """Whether there are questions out that others wait for; hairpinning is not among them."""
        return bool(self._asked.keys() - {Step.SELF})

    @property
    def blocked(self) -> bool:
        """Whether nothing came back at all."""
        return self._results.get(Step.PLAIN) is False and self.address is None

    def start(self, now: float) -> None:
        """Ask everything anew."""
        self._asked.clear()
        self._results.clear()
        self.address = self.second = None
        self.seen = float("-inf")
        self.other_port = 0
        self._ask(Step.PLAIN, now)
        if self.carrier is Carrier.UDP:
            self._ask(Step.FILTER, now)

    def answered(self, query: Query, address: Address, other_port: int, now: float) -> None:
        """Take an answer to a question from the shared port."""
        step = _step(query)
        if step in (Step.PLAIN, Step.FILTER):
            self.address, self.seen, self.other_port = address, now, other_port
        elif step is Step.OTHER:
            self.second = address
        asked = self._asked.get(step)
        if asked is not None:
            asked.answer = address

    def actions(self, now: float) -> Iterator[Query]:
        """Give the questions to be asked now."""
        for step, asked in list(self._asked.items()):
            query = asked.due(now)
            if query is not None:
                yield query
            elif asked.over(now) and self._conclude(step, asked):
                del self._asked[step]
        if self._asked.keys() - {Step.SELF} or self.carrier is not Carrier.UDP:
            return
        if Step.OTHER not in self._results and self._results.get(Step.PLAIN) and self.other_port:
            self._ask(Step.OTHER, now)
            yield from self.actions(now)
        elif Step.SELF not in self._results and Step.SELF not in self._asked and self._results.get(Step.PLAIN):
            self._ask(Step.SELF, now)
            yield from self.actions(now)

    def next_timeout(self) -> float | None:
        """Return when `actions` has something to do, or None."""
        return min((asked.next for asked in self._asked.values() if asked.answer is None), default=None)

    def behaviour(self, local_port: int) -> Behaviour:
        """Say what is known; `local_port` is the number of the shared port on this machine, 0 if unknown."""
        mapping = filtering = Dependence.UNKNOWN
        if self.address is not None and self.second is not None:
            same = self.address == self.second
            mapping = Dependence.ENDPOINT_INDEPENDENT if same else Dependence.ADDRESS_AND_PORT_DEPENDENT
        if self.other_port and Step.FILTER in self._results:
            lets_in = self._results[Step.FILTER]
            filtering = Dependence.ADDRESS_DEPENDENT if lets_in else Dependence.ADDRESS_AND_PORT_DEPENDENT
        return Behaviour(
            mapping=mapping,
            filtering=filtering,
            hairpin=_answer(self._results.get(Step.SELF)),
            preserves_port=_answer(self.address[1] == local_port if self.address and local_port else None),
        )

    def _ask(self, step: Step, now: float) -> None:
        query = Query(
            carrier=self.carrier, from_other=step is Step.FILTER, to_other=step is Step.OTHER, to_self=step is Step.SELF
        )
        self._asked[step] = Asked(query, now)

    def _conclude(self, step: Step, asked: Asked) -> bool:
        """Take note of how a question ended; False if that cannot be said before another one has ended."""
        if step is Step.FILTER and asked.answer is None and Step.PLAIN in self._asked:
            return False
        self._results[step] = asked.answer is not None
        return True


def _step(query: Query) -> Step:
    if query.to_self:
        return Step.SELF
    if query.from_other:
        return Step.FILTER
    return Step.OTHER if query.to_other else Step.PLAIN


def _answer(value: bool | None) -> Answer:
    return Answer.UNKNOWN if value is None else Answer.YES if value else Answer.NO
