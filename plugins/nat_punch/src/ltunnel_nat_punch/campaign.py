"""What is done about one peer: rounds that are asked for, prepared, run, and remembered.

::

    IDLE ─ SEEK ─► ASKING ─ own addresses known ─► REQUESTED ─ START ─► PUNCHING ─ PONG, or time ─► IDLE, or the next
       └── PREPARE ─► ASKING ──────────────────► (Prepared) ── START ──┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ltunnel.plugin import Address, Candidate, Carrier, Limits, Probe, Query, write_address
from ltunnel_nat_punch.plan import Method, Timed
from ltunnel_nat_punch.question import Question

REMEMBERED = 8
"""Rounds that are kept for people."""
ANSWERS = 1.5
"""Seconds that the hub gets to answer a request before it is asked again."""
ASKING = (0.25, 0.35, 0.4)
"""Seconds after which an unanswered question about a fresh port is asked again; then it goes without."""
PAUSE = 60.0
LONGEST_PAUSE = 300.0
SOON = 20.0
"""Seconds until a peer is tried again with which a direct path has worked."""


class Phase(Enum):
    """Where a campaign is."""

    IDLE = "idle"
    ASKING = "asking"
    REQUESTED = "requested"
    PUNCHING = "punching"


@dataclass(slots=True)
class Pair:
    """A local port and a far address that were tried."""

    to: Address
    carrier: Carrier
    port: int
    sent: int = 0
    answered: bool = False


@dataclass(slots=True)
class Round:
    """One round, for people."""

    number: int
    started: float
    method: Method
    first: bool
    pairs: dict[tuple[Address, Carrier, int], Pair] = field(default_factory=dict)
    guessed: int = 0
    """Probes to ports that nobody named."""
    opened: int = 0
    """Fresh ports."""
    untranslated: bool = False
    """Whether addresses were probed that no NAT stands in front of: whatever the method, another round is worth it."""
    result: str = "under way"

    def note(self, probe: Probe, *, named: bool) -> None:
        """Take note of a probe that leaves."""
        if not named:
            self.guessed += 1
            return
        if probe.hops:
            return
        key = (probe.to, probe.carrier, 0 if self.opened else probe.port)
        pair = self.pairs.setdefault(key, Pair(probe.to, probe.carrier, key[2]))
        pair.sent += 1

    def describe(self, now: float) -> dict[str, Any]:
        """Return it in JSON types."""
        return {
            "round": self.number,
            "ago": round(now - self.started, 1),
            "method": self.method.value,
            "first": self.first,
            "pairs": [
                {"to": write_address(pair.to), "carrier": pair.carrier.name.lower(), "port": pair.port,
                 "sent": pair.sent, "answered": pair.answered}
                for pair in self.pairs.values()
            ],
            "guesses": self.guessed,
            "opened": self.opened,
            "result": self.result,
        }  # fmt: skip


class Campaign:
    """The dealings with one peer. The agent moves it; it keeps the books."""

    def __init__(self, peer: bytes) -> None:
        self.peer = peer
        self.phase = Phase.IDLE
        self.round = 0
        self.asks = False
        """Whether the round was our wish: then the next one is too."""
        self.deadline = float("inf")
        """When the phase ends for want of an answer."""
        self.repeats = 0
        self.questions: list[Question] = []
        self.port = 0
        """Number of the local port that probes to other networks leave from."""
        self.own: tuple[Candidate, ...] = ()
        """What the peer was told."""
        self.probes: deque[Timed] = deque()
        self.named: frozenset[Address] = frozenset()
        """The addresses that are probed in this round."""
        self.near: frozenset[Address] = frozenset()
        """Those of them that are on the own LAN."""
        self.apart: frozenset[Address] = frozenset()
        """Those that are probed over UDP although another one has answered, if that was over the other IP version."""
        self.history: deque[Round] = deque(maxlen=REMEMBERED)
        self.turns = 0
        """Rounds of this row that have led to nothing."""
        self.wanted = False
        """Whether a path was asked for since the last one was found."""
        self.reason = ""
        """Why the hub refused."""
        self.retry = float("-inf")
        """No round is asked for before."""
        self.failures = 0
        self.worked: int | None = None
        """The round that led to a path last time, in this network."""
        self.direct = False
        """Whether there is a direct path."""
        self.pong = float("-inf")
        self.pong_from: Address | None = None
        self.sent: deque[float] = deque()
        """When probes left, within the last minute."""
        self._ports = 0

    def fresh(self, count: int) -> list[int]:
        """Return numbers of ports that were not used yet."""
        first = self._ports + 1
        self._ports += count
        return list(range(first, first + count))

    @property
    def current(self) -> Round | None:
        """The round under way."""
        return self.history[-1] if self.history and self.phase is Phase.PUNCHING else None

    @property
    def improves(self) -> bool:
        """Whether the round is our wish although there is a path: then a LAN is of interest, and IPv6 beside IPv4."""
        return self.asks and self.direct

    def lacks(self, version: int) -> bool:
        """Whether a path over an IP version would be another one than that which answered last."""
        return not self.direct or self.pong_from is None or version != (6 if ":" in self.pong_from[0] else 4)

    def room(self, now: float) -> int:
        """Return how many probes are left for this minute."""
        while self.sent and self.sent[0] <= now - 60.0:
            self.sent.popleft()
        return Limits.PER_MINUTE - len(self.sent)

    def ask(self, query: Query, now: float) -> None:
        """Have the hub asked before the peer is told anything."""
        self.questions.append(Question(query, now, ASKING))

    def take_due(self, now: float) -> Iterator[Probe]:
        """Give the probes that are due, as many as a minute may have."""
        current = self.current
        room = self.room(now)
        while self.probes and self.probes[0].at <= now:
            probe = self.probes.popleft().probe
            if room:
                room -= 1
                self.sent.append(now)
                if current is not None:
                    current.note(probe, named=probe.to in self.named)
                yield probe

    def overtake(self) -> None:
        """End the books of a round that another one has overtaken."""
        if self.current is not None and self.current.result == "under way":
            self.current.result = "overtaken"

    def begin(self, number: int, *, asks: bool) -> None:
        """Go on to a round; `asks`: by our own wish."""
        self.phase, self.round, self.asks = Phase.ASKING, number, asks
        self.deadline = float("inf")
        self.repeats, self.reason, self.port = 0, "", 0
        self.probes.clear()
        self.questions = []

    def idle(self, result: str) -> None:
        """Close the books of a round, unless it has a result."""
        current = self.current
        if current is not None and current.result == "under way":
            current.result = result
        self.phase = Phase.IDLE
        self.deadline = float("inf")
        self.probes.clear()

    def rest(self, now: float, result: str, *, hopeless: bool = False) -> None:
        """End a row of rounds that led to nothing, and say when another is worth it."""
        self.idle(result)
        self.failures += 1
        pause = min(LONGEST_PAUSE, PAUSE * self.failures)
        self.retry = now + (SOON if self.worked is not None and not hopeless else pause)

    def succeed(self, address: Address, carrier: Carrier, port: int, now: float) -> None:
        """Take note of an answer."""
        self.direct, self.pong, self.pong_from = True, now, address
        self.failures = 0
        self.retry = float("-inf")
        self.wanted = False
        round_ = self.current
        self.probes = deque(timed for timed in self.probes if self._goes_on(timed.probe, address))
        if round_ is None:
            return
        self.worked = round_.number
        round_.result = "direct"
        for key in ((address, carrier, port), (address, carrier, 0)):
            if key in round_.pairs:
                round_.pairs[key].answered = True
                break
        else:
            round_.pairs[address, carrier, port] = Pair(address, carrier, port, 1, answered=True)

    def _goes_on(self, probe: Probe, address: Address) -> bool:
        """Whether a probe still goes out after an answer from an address: to a LAN, or over the other IP version."""
        if address in self.near:
            return False
        other = (":" in probe.to[0]) != (":" in address[0]) and probe.to in self.apart
        return probe.to in self.near or other

    def forget(self) -> None:
        """Begin anew: this machine is somewhere else, and nothing that was learnt holds."""
        self.phase = Phase.IDLE
        self.deadline = float("inf")
        self.probes.clear()
        self.questions.clear()
        self.worked = None
        self.failures = 0
        self.retry = self.pong = float("-inf")
        self.direct, self.pong_from = False, None

    def next_timeout(self) -> float:
        """Return when something is to be done (infinity: never)."""
        times = [self.deadline]
        if self.phase is Phase.ASKING:
            times += [question.next for question in self.questions if question.answer is None]
        if self.probes:
            times.append(self.probes[0].at)
        if self.phase is Phase.IDLE and self.wanted:
            times.append(self.retry)
        return min(times)

    def describe(self, now: float) -> Mapping[str, Any]:
        """Return it in JSON types, but for the advice."""
        return {
            "phase": self.phase.value,
            "rounds": [round_.describe(now) for round_ in self.history],
            "worked": self.worked,
            "last_answer": None if self.pong_from is None else
            {"from": write_address(self.pong_from), "ago": round(now - self.pong, 1)},
            "retry_in": round(self.retry - now, 1) if self.retry > now else None,
            "refused": self.reason or None,
        }  # fmt: skip
