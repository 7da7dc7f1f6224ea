"""What kind of NAT there is, found out by questions to the hub (RFC 5780).

::

    plain        to the hub's port                   ─► the address that it sees; does any UDP get through?
    filter       the same; its other port answers    ─► does the NAT let in what nobody asked for?
    one          from a fresh port to the hub's port ─┬► is the address the same for another destination? if not,
    other        from there to its other port        ─┘  are the two ports next to each other?
    self         to the own address, as it was seen  ─► does the NAT turn packets around (hairpin)?

Over the IP version that does not lead to the hub now all this is asked too if that is IPv4; if it is IPv6, only `plain`
is, since addresses are not translated there.

`other` has a port of its own: what the shared one sends to the other port would open the filter for it, and what the
other port sends there first can make a Linux router take another port for the answer. With one address at the hub,
"depends on the address" cannot be told from "depends on nothing"; where it matters, the worse is assumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

from ltunnel.plugin import Address, Answer, Behaviour, Carrier, Dependence, Query
from ltunnel_nat_punch.question import Question

GAPS = (0.2, 0.25, 0.45)
"""Seconds after which an unanswered question is asked again; after the last it is given up."""


class Step(Enum):
    """A question."""

    PLAIN = "plain"
    FILTER = "filter"
    ONE = "one"
    OTHER = "other"
    SELF = "self"


class Survey:
    """The questions about one carrier and what came of them. Start it when the hub is there.

    `version` is the IP version to ask over, 0 for the one that leads to the hub.
    """

    def __init__(self, carrier: Carrier, version: int = 0) -> None:
        self.carrier = carrier
        self.version = version
        self.address: Address | None = None
        """As whom the hub saw the shared port last."""
        self.seen = float("-inf")
        """When that was."""
        self.other_port = 0
        self.two: dict[Step, Address] = {}
        """As whom a fresh port was seen by the hub's two ports."""
        self.failures = 0
        """How often in a row nothing came back at all."""
        self._whole = carrier is Carrier.UDP and version != 6
        self._port = 0
        self._asked: dict[Step, Question] = {}
        self._results: dict[Step, bool] = {}

    @property
    def family(self) -> int:
        """IP version of that address: 4 or 6, 0 while there is none."""
        return 0 if self.address is None else 6 if ":" in self.address[0] else 4

    @property
    def running(self) -> bool:
        """Whether there are questions out that others wait for; hairpinning is not among them."""
        return bool(self._asked.keys() - {Step.SELF})

    @property
    def blocked(self) -> bool:
        """Whether nothing came back at all."""
        return self._results.get(Step.PLAIN) is False and self.address is None

    def lose(self) -> None:
        """Take note that a question outside the survey was not answered: what was seen may hold no longer."""
        self.address = None
        self._results[Step.PLAIN] = False

    def start(self, now: float) -> None:
        """Ask everything anew."""
        self._asked.clear()
        self._results.clear()
        self.address = None
        self.two.clear()
        self.seen = float("-inf")
        self.other_port = 0
        self._ask(Step.PLAIN, now)
        if self._whole:
            self._ask(Step.FILTER, now)

    def again(self, now: float) -> None:
        """Ask once more as whom we are seen; what is known holds meanwhile."""
        if Step.PLAIN not in self._asked:
            self._ask(Step.PLAIN, now)

    def answered(self, query: Query, address: Address, other_port: int, now: float) -> None:
        """Take an answer to a question from the shared port."""
        step = _step(query)
        if step in (Step.PLAIN, Step.FILTER):
            self.address, self.seen, self.other_port, self.failures = address, now, other_port, 0
        elif step in (Step.ONE, Step.OTHER):
            self.two[step] = address
        asked = self._asked.get(step)
        if asked is not None:
            asked.answer = address

    def actions(self, now: float) -> Iterator[Query]:
        """Give the questions to be asked now."""
        for step, asked in list(self._asked.items()):
            if asked.due(now):
                yield asked.query
            elif asked.over(now) and self._conclude(step, asked):
                del self._asked[step]
        if not self._whole or self.address is None:
            return
        for step in (Step.ONE, Step.OTHER, Step.SELF) if self.other_port else (Step.SELF,):
            if step not in self._results and step not in self._asked:
                self._ask(step, now)
                asked = self._asked[step]
                asked.due(now)
                yield asked.query

    def next_timeout(self) -> float | None:
        """Return when `actions` has something to do, or None."""
        return min((asked.next for asked in self._asked.values() if asked.answer is None), default=None)

    @property
    def apart(self) -> int:
        """How far the ports are apart that the NAT took for two destinations, 0 if that is not known."""
        return self.two[Step.OTHER][1] - self.two[Step.ONE][1] if len(self.two) == 2 else 0

    def behaviour(self, local_port: int) -> Behaviour:
        """Say what is known; `local_port` is the number of the shared port on this machine, 0 if unknown."""
        mapping = filtering = Dependence.UNKNOWN
        if len(self.two) == 2:
            same = self.two[Step.ONE] == self.two[Step.OTHER]
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
        if step is Step.ONE:
            self._port += 1
        query = Query(
            carrier=self.carrier, port=self._port if step in (Step.ONE, Step.OTHER) else 0,
            from_other=step is Step.FILTER, to_other=step is Step.OTHER, to_self=step is Step.SELF,
            version=self.version,
        )  # fmt: skip
        self._asked[step] = Question(query, now, GAPS)

    def _conclude(self, step: Step, asked: Question) -> bool:
        """Take note of how a question ended; False if that cannot be said before another one has ended."""
        if step is Step.FILTER and asked.answer is None and Step.PLAIN in self._asked:
            return False
        self._results[step] = asked.answer is not None
        self.failures += step is Step.PLAIN and self.blocked
        return True


def _step(query: Query) -> Step:
    if query.to_self:
        return Step.SELF
    if query.from_other:
        return Step.FILTER
    if query.to_other:
        return Step.OTHER
    return Step.ONE if query.port else Step.PLAIN


def _answer(value: bool | None) -> Answer:
    return Answer.UNKNOWN if value is None else Answer.YES if value else Answer.NO
