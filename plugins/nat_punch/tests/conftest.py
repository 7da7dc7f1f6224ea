"""An agent, its hub, and days in its life."""

import pytest

from ltunnel.plugin import (
    Behaviour,
    Candidate,
    CandidateKind,
    Carrier,
    Dependence,
    LocalAddress,
    Prepared,
    Probe,
    Query,
    Request,
    Signal,
    SignalKind,
)
from ltunnel_nat_punch.agent import Agent
from ltunnel_nat_punch.options import PunchOptions

LOCAL = (LocalAddress(address=("192.168.1.10", 4500), network=b"this lan"),)
PUBLIC = LocalAddress(address=("203.0.113.77", 4500))
SEEN = ("203.0.113.5", 40_000)
BY_TCP = ("203.0.113.5", 50_000)
PEER = bytes(range(32))
THERE = Candidate(kind=CandidateKind.SRFLX, address=("192.0.2.7", 4000), priority=9)
FREE = Behaviour(mapping=Dependence.ENDPOINT_INDEPENDENT, filtering=Dependence.ADDRESS_AND_PORT_DEPENDENT)


class Day:
    """An agent, its hub and the time."""

    def __init__(self, *, answers: bool = True, two_ports: bool = True, lenient: bool = False, hard: int = 0,
                 **options) -> None:  # fmt: skip
        self.agent = Agent(PunchOptions(**options))
        self.now = 0.0
        self.answers, self.lenient, self.hard = answers, lenient, hard
        self.other_port = 9001 if two_ports else 0
        self.last = SEEN[1]
        self.done: list[tuple[float, Query | Request | Prepared | Probe]] = []
        self.tell(SignalKind.INTERFACES, local=LOCAL)

    def tell(self, kind: SignalKind, **fields) -> None:
        self.agent.handle_signal(Signal(kind=kind, **fields), self.now)
        self.act()

    def act(self) -> None:
        for action in self.agent.actions(self.now):
            self.done.append((self.now, action))
            if isinstance(action, Query) and self.answers:
                self.answer(action)

    def answer(self, query: Query) -> None:
        if (query.from_other and not self.lenient) or query.to_self or (query.to_other and not self.other_port):
            return
        port = SEEN[1] + query.port
        if self.hard and query.port:
            port = self.last = self.last + self.hard
        self.tell(SignalKind.OBSERVED, query=query, address=(SEEN[0], port), other_port=self.other_port)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.agent.next_timeout()) is not None and due <= end:
            assert due > self.now
            self.now = due
            self.act()
        self.now = end

    def start(self, number: int = 0, **fields) -> None:
        self.tell(
            SignalKind.START, peer=PEER, round=number, first=True,
            **{"candidates": (THERE,), "behaviour": FREE, **fields},
        )  # fmt: skip

    def take(self, kind: type) -> list:
        found = [action for _, action in self.done if isinstance(action, kind)]
        self.done = [entry for entry in self.done if not isinstance(entry[1], kind)]
        return found

    def told(self) -> dict:
        return self.agent.explain(self.now)


class TcpDay(Day):
    """A machine that has fake TCP; UDP may be blocked."""

    def __init__(self, *, udp: bool = True, tcp: bool = True, **options) -> None:
        self.udp, self.tcp, self.by_tcp = udp, tcp, BY_TCP
        super().__init__(**options)
        both = (*LOCAL, PUBLIC, LocalAddress(address=("192.168.1.10", 6000), carrier=Carrier.TCP, network=b"this lan"))
        self.tell(SignalKind.INTERFACES, local=both)
        self.run(2)

    def answer(self, query: Query) -> None:
        if query.carrier is Carrier.UDP and self.udp:
            super().answer(query)
        elif query.carrier is Carrier.TCP and self.tcp:
            self.tell(SignalKind.OBSERVED, query=query, address=self.by_tcp)

    def offered(self) -> list[tuple[Carrier, tuple[str, int]]]:
        return [(candidate.carrier, candidate.address) for candidate in self.agent.candidates(self.now)]

    def probed(self) -> set[Carrier]:
        return {probe.carrier for probe in self.take(Probe)}


@pytest.fixture
def new_day() -> type[Day]:
    return Day


@pytest.fixture
def new_tcp_day() -> type[TcpDay]:
    return TcpDay
