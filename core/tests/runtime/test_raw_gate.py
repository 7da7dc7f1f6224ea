"""The gate for SYNs: so many in a period, then none until the next, however many wait."""

import os
import select
import time
from collections.abc import Iterator

import pytest

from ltunnel.runtime.loop import make_event
from ltunnel.runtime.raw_gate import OPENINGS, PERIOD, Gate


@pytest.fixture
def epoll() -> Iterator[select.epoll]:
    with select.epoll() as epoll:
        yield epoll


@pytest.fixture
def waiting() -> Iterator[int]:
    """A descriptor that is always readable."""
    fd = make_event()
    os.eventfd_write(fd, 1)
    yield fd
    os.close(fd)


@pytest.fixture
def gate(epoll: select.epoll, waiting: int) -> Iterator[Gate]:
    gate = Gate(epoll)
    gate.add(waiting)
    yield gate
    gate.close()


def ready(epoll: select.epoll, patience: float = 0.0) -> set[int]:
    return {fd for fd, _ in epoll.poll(patience)}


def test_nothing_wakes_a_gate_that_is_not_used(epoll: select.epoll, gate: Gate, waiting: int) -> None:
    time.sleep(2 * PERIOD)
    assert ready(epoll) == {waiting}


def test_it_closes_when_the_share_is_used_up_and_opens_in_the_next_period(
    epoll: select.epoll, gate: Gate, waiting: int
) -> None:
    gate.take(OPENINGS - 1)
    assert waiting in ready(epoll)
    gate.take(2)  # the caller may notice one too late
    assert waiting not in ready(epoll)
    assert ready(epoll, 5.0) == {gate.fd}
    gate.begin()
    assert gate.left == OPENINGS
    assert ready(epoll) == {waiting}


def test_a_share_that_is_not_used_up_is_not_saved(epoll: select.epoll, gate: Gate) -> None:
    for _ in range(3):
        gate.take(1)
        while gate.fd not in ready(epoll, 5.0):
            pass
        gate.begin()
        assert gate.left == OPENINGS


def test_the_rate_is_kept(epoll: select.epoll, gate: Gate, waiting: int) -> None:
    began = time.monotonic()
    taken = 0
    while taken < 10 * OPENINGS:
        fds = ready(epoll, 5.0)
        assert fds, "it opens by itself"
        if gate.fd in fds:
            gate.begin()
        if waiting in fds:
            gate.take(1)
            taken += 1
    assert time.monotonic() - began >= 8 * PERIOD
