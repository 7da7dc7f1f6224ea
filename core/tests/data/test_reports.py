"""When a machine tells another what has arrived from it, and what it says then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ltunnel.data.reports import AT_ONCE, HASTE, INTERVAL, Reporter
from ltunnel.session import Epoch, Path, Peer
from ltunnel.wire.frames import Report

AWAY = ("192.0.2.1", 9000)


class Sealing:
    """Seals nothing: what is sealed can be read."""

    def seal_message(self, _header: bytes, plain: bytes, _more: bytes) -> bytes:
        return plain


class Far:
    """A session in which counters arrive, and the reports of it."""

    def __init__(self, **settings: Any) -> None:
        peer = Peer(bytes(32))
        peer.path = Path(0, AWAY)
        aead: Any = Sealing()
        self.epoch = Epoch(peer, local_index=1, remote_index=2, sealer=aead, opener=aead, created=0.0, initiator=True)
        self.reporter = Reporter({1: self.epoch}, **settings)

    def arrive(self, now: float, *counters: int) -> None:
        for counter in counters:
            self.epoch.window.commit(counter)
            self.reporter.heard(self.epoch, now)

    def take(self, now: float) -> list[Report]:
        found = self.reporter.take(now)
        assert all((transport, flow) == (0, AWAY) for transport, flow, _ in found)
        return [Report.parse(datagram[12:-1]) for _, _, datagram in found]

    def run(self, end: float) -> list[float]:
        """Let time pass; return when there was a report."""
        times = []
        while (due := self.reporter.next_timeout()) is not None and due <= end:
            times += [due] * bool(self.take(due))
        return times


def test_twice_a_second_while_something_arrives() -> None:
    far = Far()
    assert far.reporter.next_timeout() is None
    far.arrive(50.0, *range(70))
    assert far.reporter.next_timeout() == 50.0 + INTERVAL
    assert far.take(50.1) == []
    far.arrive(50.25, *range(70, 75))
    assert far.take(50.5) == [Report(75, 75, 0, 250_000)]
    assert far.reporter.next_timeout() is None
    far.arrive(52.0, 75)
    assert far.take(53.0) == [], "one more is nothing to tell"


def test_new_losses_are_told_twice() -> None:
    far = Far(least=1)
    far.arrive(50.0, 0, 1)
    assert len(far.take(51.0)) == 1
    far.arrive(52.0, 4, 5)
    assert far.take(53.0) == [Report(6, 4, 1, 1_000_000)] * 2
    far.arrive(54.0, 6)
    assert len(far.take(55.0)) == 1


def test_a_report_cannot_say_that_it_was_held_for_hours() -> None:
    assert Report.parse(Report(1, 1, 0, 1 << 40).pack()) == Report(1, 1, 0, (1 << 32) - 1)


def test_nothing_is_told_at_once_unless_fec_waits_for_it() -> None:
    far = Far(least=16)
    far.arrive(50.0, 0, 2)
    assert far.reporter.next_timeout() == 50.0 + INTERVAL


def test_the_first_losses_are_told_at_once() -> None:
    far = Far(least=16, hastes=True)
    far.arrive(50.0, 0, 2)
    assert far.reporter.next_timeout() == 50.0 + AT_ONCE
    far.arrive(50.004, 4)
    assert far.take(50.004) == []
    assert far.take(50.0 + AT_ONCE) == [Report(5, 3, 2, 4000)] * 2


def lossy(far: Far, start: float, seconds: float, lost: Callable[[int], bool], first: int = 0) -> list[float]:
    """Let a counter arrive each millisecond, but for those that are lost; return when reports were sent."""
    times = []
    for step in range(round(seconds * 1000)):
        now = start + step / 1000
        times += far.run(now)
        if not lost(step):
            far.arrive(now, first + step)
    return times


def test_what_goes_on_being_lost_is_told_less_and_less_often() -> None:
    far = Far(least=16, hastes=True)
    times = lossy(far, 50.0, 4.0, lambda step: step % 10 == 5)
    hasty = [time for time in times if time < 50.6]
    assert hasty[0] == pytest.approx(50.006 + AT_ONCE, abs=0.002)
    assert HASTE <= len(hasty) <= HASTE + 2
    assert len(times) == pytest.approx(len(hasty) + (54.0 - 50.6) / INTERVAL, abs=1)


def test_after_a_while_without_losses_they_are_told_at_once_again() -> None:
    far = Far(least=16, hastes=True)
    lossy(far, 50.0, 2.0, lambda step: step % 10 == 5)
    lossy(far, 52.0, 6.0, lambda _: False, 2000)
    times = lossy(far, 58.0, 0.2, lambda step: step == 100, 8000)
    assert times[-1] == pytest.approx(58.101 + AT_ONCE, abs=0.002)


def test_what_was_only_overtaken_is_told_with_all_else() -> None:
    far = Far(least=16, hastes=True)
    times: list[float] = []
    for step, counter in enumerate([1, 2, 3, 0] * 100):
        now = 50.0 + step / 1000
        times += far.run(now)
        far.arrive(now, counter + step // 4 * 4)
    assert times == []
    (report,) = far.take(50.0 + INTERVAL)
    assert (report.expected, report.accepted) == (400, 400)


def test_a_session_that_has_ended_is_not_told_of() -> None:
    far = Far(least=16, hastes=True)
    far.arrive(50.0, 0, 2)
    far.reporter._sessions = {}
    assert far.take(50.0 + AT_ONCE) == []


def test_sessions_have_turns_of_their_own() -> None:
    far, other = Far(least=16, hastes=True), Far().epoch
    other.local_index = 3
    far.reporter._sessions = {1: far.epoch, 3: other}
    other.window.commit(0, 100)
    other.told = 49.0
    far.reporter.heard(other, 50.0)
    far.arrive(50.1, 0, 2)
    assert [report.expected for report in far.take(50.1 + AT_ONCE)] == [3, 3]
    assert [report.expected for report in far.take(50.0 + INTERVAL)] == [100]
