"""A thread asks, renews, tells, and gives back; nothing of the plugin's gets through to the loop."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from ltunnel.plugin import Carrier
from ltunnel.runtime import port_mapping
from ltunnel.runtime.loop import Loop
from ltunnel.runtime.port_mapping import Mapped, PortMapping

OUTSIDE = ("198.51.100.7", 4500)


class Mapper:
    def __init__(self, *answers) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[Carrier, int, float]] = []
        self.closed = threading.Event()
        self.threads: set[threading.Thread] = set()

    def map(self, carrier, port, lifetime):
        self.threads.add(threading.current_thread())
        self.asked.append((carrier, port, lifetime))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed.set()


class Around:
    def __init__(self) -> None:
        self.loop = Loop()
        self.told: list[Mapped] = []
        self.mapping: PortMapping | None = None

    def begin(self, mapper: Mapper) -> None:
        self.mapping = PortMapping(self.loop, mapper, {Carrier.UDP: 4500}, lambda found, _now: self.told.append(found))

    def run(self, until: Callable[[], object]) -> None:
        end = time.monotonic() + 10.0

        def tick(now: float) -> float:
            if until() or now > end:
                self.loop.stop()
            return now + 0.01

        self.loop.run(tick)
        assert until()


@pytest.fixture
def around() -> Iterator[Around]:
    around = Around()
    yield around
    if around.mapping is not None:
        around.mapping.close()
    around.loop.close()


def test_what_is_mapped_is_told_on_the_loop_and_given_back(around):
    mapper = Mapper((OUTSIDE, 3600.0, "PCP"))
    around.begin(mapper)
    around.run(lambda: around.told)
    assert around.told == [Mapped(Carrier.UDP, OUTSIDE, 3600.0, "PCP")]
    assert mapper.asked == [(Carrier.UDP, 4500, port_mapping.LIFETIME)]
    assert threading.current_thread() not in mapper.threads
    around.mapping.close()
    around.mapping = None
    assert mapper.closed.wait(5)


def test_another_network_is_asked_at_once(around):
    mapper = Mapper(None, (OUTSIDE, 3600.0, "UPnP"))
    around.begin(mapper)
    around.run(lambda: around.told)
    assert around.told == [Mapped(Carrier.UDP, None, 0.0, "")]
    around.mapping.again()
    around.run(lambda: len(around.told) == 2)
    assert around.told[1].protocol == "UPnP"


def test_mappings_are_renewed_in_time(around, monkeypatch):
    monkeypatch.setattr(port_mapping, "SHORTEST", 0.02)
    mapper = Mapper((OUTSIDE, 0.04, "NAT-PMP"))
    around.begin(mapper)
    around.run(lambda: len(around.told) >= 3)


def test_a_plugin_that_raises_is_told_of(around):
    around.begin(Mapper(ValueError("no"), ("half",)))
    around.run(lambda: around.told)
    assert around.told == [Mapped(Carrier.UDP, None, 0.0, "", "ValueError: no")]
    around.mapping.again()
    around.run(lambda: len(around.told) == 2)
    assert around.told[1].error.startswith("ValueError: ")


def test_a_mapper_that_hangs_does_not_hold_up_the_end(around, monkeypatch):
    monkeypatch.setattr(port_mapping, "GOODBYE", 0.1)
    mapper, hold = Mapper(None), threading.Event()
    mapper.map = lambda *_: hold.wait(20) and None
    around.begin(mapper)
    began = time.monotonic()
    around.mapping.close()
    around.mapping = None
    assert time.monotonic() - began < 5
    hold.set()
