import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ltunnel.runtime.loop import make_event, signals


@pytest.fixture
def event() -> Iterator[int]:
    fd = make_event()
    yield fd
    os.close(fd)


def never(_now: float) -> None:
    return None


def test_a_readable_descriptor_reaches_its_handler_with_the_time(loop, event):
    seen = []

    def handle(now: float) -> None:
        seen.append((os.eventfd_read(event), now))
        loop.stop()

    loop.watch(event, handle)
    os.eventfd_write(event, 7)
    loop.run(never)
    ((value, now),) = seen
    assert value == 7
    assert now > 0


def test_timers_are_called_when_they_asked_to_be(loop):
    times = []

    def tick(now: float) -> float | None:
        times.append(now)
        if len(times) == 3:
            loop.stop()
        return now + 0.02

    loop.run(tick)
    assert times[1] - times[0] >= 0.02
    assert times[2] - times[1] >= 0.02
    assert times[2] - times[0] < 5


def test_a_handler_can_bring_a_timer_forward(loop, event):
    """What a handler changes is seen within a tick, although the wait was computed before it."""
    deadline: list[float | None] = [None]
    late = []

    def handle(now: float) -> None:
        os.eventfd_read(event)
        deadline[0] = now + 0.01

    def tick(now: float) -> float | None:
        if deadline[0] is not None and now >= deadline[0]:
            late.append(now - deadline[0])
            loop.stop()
        return deadline[0]

    loop.watch(event, handle)
    os.eventfd_write(event, 1)
    loop.run(tick)
    assert 0 <= late[0] < 5


def test_two_busy_descriptors_take_turns_and_timers_still_run(loop):
    order: list[str] = []
    events = {name: make_event() for name in "ab"}
    ticks = []

    def tick(now: float) -> float | None:
        ticks.append(now)
        if len(ticks) == 20:
            loop.stop()
        return now

    for name, fd in events.items():
        os.eventfd_write(fd, 1)  # never read: readable for ever
        loop.watch(fd, lambda _now, name=name: order.append(name))
    loop.run(tick)
    assert len(ticks) == 20
    assert len(order) > 20  # timers are looked at less often than there is work
    assert abs(order.count("a") - order.count("b")) <= 1
    for fd in events.values():
        os.close(fd)


def test_while_there_is_work_something_else_is_called_between_ticks(loop, event):
    """The tick itself only before a wait, since only then it matters when it wants to be called."""
    called: list[str] = []

    def between(_now: float) -> None:
        called.append("between")
        if called.count("between") == 3:
            os.eventfd_read(event)

    def tick(now: float) -> float:
        called.append("tick")
        if "between" in called:
            loop.stop()
        return now + 10.0

    loop.watch(event, never)
    loop.run(lambda now: os.eventfd_write(event, 1) or loop.stop())
    loop.run(tick, between)
    assert called in (["between"] * 3 + ["tick"], ["tick"] + ["between"] * 3 + ["tick"])


def test_a_handler_may_unwatch_another_that_is_ready_in_the_same_wake(loop):
    first, second = make_event(), make_event()
    called = []

    def handle(fd: int, other: int) -> None:
        called.append(fd)
        loop.unwatch(other)
        loop.stop()

    loop.watch(first, lambda _now: handle(first, second))
    loop.watch(second, lambda _now: handle(second, first))
    os.eventfd_write(first, 1)
    os.eventfd_write(second, 1)
    loop.run(never)
    assert len(called) == 1
    os.close(first)
    os.close(second)


def test_a_thread_wakes_the_loop(loop, event):
    loop.watch(event, lambda _now: loop.stop())
    timer = threading.Timer(0.02, os.eventfd_write, (event, 1))
    timer.start()
    loop.run(never)
    timer.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_arrive_as_events_also_those_sent_before_the_loop_ran(loop, number):
    seen = []

    def on_signal(got: int) -> None:
        seen.append(got)
        loop.stop()

    before = signal.getsignal(number)
    with signals(loop, on_signal):
        os.kill(os.getpid(), number)
        loop.run(never)
    assert seen == [number]
    assert signal.getsignal(number) == before


def test_a_handler_that_has_more_to_do_is_called_again_without_waiting(loop, event):
    """Although its descriptor shows nothing: what waits is elsewhere."""
    left = 5
    times = []

    def handle(now: float) -> bool:
        nonlocal left
        if left == 5:
            os.eventfd_read(event)
        left -= 1
        times.append(now)
        return left > 0

    def tick(now: float) -> float | None:
        if times and not left:
            loop.stop()
        return None if not times else now + 10

    loop.watch(event, handle)
    os.eventfd_write(event, 1)
    loop.run(tick)
    assert len(times) == 5
    assert times[-1] - times[0] < 5


def test_unfinished_work_leaves_others_their_turn(loop, event):
    """One that always has more to do starves neither descriptors nor timers."""
    other = make_event()
    seen = []

    def tick(now: float) -> float | None:
        seen.append("tick")
        if seen.count("tick") == 2:
            os.eventfd_write(other, 1)
        return None

    def stop(now: float) -> None:
        seen.append("other")
        loop.stop()

    loop.watch(event, lambda now: True)
    loop.watch(other, stop)
    os.eventfd_write(event, 1)
    loop.run(tick)
    assert seen[-1] == "other"
    os.close(other)


def test_unfinished_work_of_a_descriptor_that_is_no_longer_watched_is_dropped(loop, event):
    calls = []

    def handle(now: float) -> bool:
        calls.append(now)
        loop.unwatch(event)
        return True

    def tick(now: float) -> float | None:
        if calls:
            loop.stop()
        return now + 0.01

    loop.watch(event, handle)
    os.eventfd_write(event, 1)
    loop.run(tick)
    assert len(calls) == 1
