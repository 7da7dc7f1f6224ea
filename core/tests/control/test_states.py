"""The tables: states and timers."""

from pathlib import Path

import pytest

from ltunnel.control.session import Session
from ltunnel.control.states import IN_USE, TRANSITIONS, State, Step, diagram, step
from ltunnel.control.timers import Schedule, Timer, TimerQueue, uniform

ADR = Path(__file__).parents[3] / "docs" / "adr"


def test_every_state_is_reached_and_only_closed_has_no_way_out():
    reached = {State.IDLE}
    while more := {to for state in reached for what in Step if (to := step(state, what))} - reached:
        reached |= more
    assert reached == set(State)
    assert {state for state in State if not TRANSITIONS[state]} == {State.CLOSED}


def test_stop_ends_everything_and_nothing_leads_back():
    for state in State:
        assert step(state, Step.STOP) is State.CLOSED
    for what in Step:
        if what is not Step.STOP:
            assert step(State.CLOSED, what) is None


def test_keys_are_in_use_only_after_a_handshake_and_until_the_peer_is_lost():
    for state, moves in TRANSITIONS.items():
        for what, to in moves.items():
            if to in IN_USE and state not in IN_USE:
                assert what in (Step.CONFIRMED, Step.ACCEPTED), (state, what)
            if state in IN_USE and to not in IN_USE:
                assert what in (Step.LOST, Step.REFUSED), (state, what)


def test_a_session_takes_only_steps_that_mean_something():
    session = Session()
    assert not session.move(Step.ANSWERED)
    assert session.state is State.IDLE
    assert session.move(Step.INITIATE)
    assert not session.move(Step.INITIATE)
    assert session.state is State.INITIATING


def test_the_diagram_in_the_documents_is_the_table():
    shown = [path for path in ADR.glob("*session-states.md") if "stateDiagram-v2" in path.read_text()]
    assert len(shown) == 1
    assert f"```mermaid\n{diagram()}```" in shown[0].read_text()


def test_an_index_is_never_0_and_never_twice(net):
    numbers = iter([0, 5, 5, 0, 6, 6, 5, 7, 7, 8])
    control = net.hub().control
    context = control._ctx
    context.random = lambda size: next(numbers).to_bytes(size, "big")
    for table in (context.epochs, context.attempts):
        table[context.new_index()] = None
    context.reserved.add(context.new_index())
    assert [*context.epochs, *context.attempts, *context.reserved, context.new_index()] == [5, 6, 7, 8]


# -------------------------------------------------------------------- timers


def fixed(value):
    return lambda size: value.to_bytes(size, "big")


def test_schedules():
    schedule = Schedule(0.4, 1.25, 3.0, 0.15)
    middle = fixed(1 << 31)
    assert uniform(middle) == 0.5
    assert [round(schedule.delay(tries, middle), 3) for tries in (0, 1, 2, 9, 500)] == [0.4, 0.5, 0.625, 2.98, 3.0]
    assert schedule.delay(0, fixed(0)) == pytest.approx(0.34)
    assert schedule.delay(0, fixed((1 << 32) - 1)) == pytest.approx(0.46)


def test_three_inits_are_unanswered_well_within_five_seconds():
    assert sum(Timer.INIT.schedule.delay(tries, fixed((1 << 32) - 1)) for tries in range(3)) < 3


def test_every_timer_says_what_it_is_for():
    assert len({timer.meaning for timer in Timer}) == len(list(Timer))


def test_the_queue():
    queue = TimerQueue()
    assert queue.next() is None
    queue.set(Timer.INIT, "a", 5.0)
    queue.set(Timer.INIT, "b", 3.0)
    queue.set(Timer.REKEY, "a", 4.0)
    assert queue.next() == 3.0
    queue.set(Timer.INIT, "b", 9.0)
    assert queue.next() == 4.0
    assert queue.when(Timer.INIT, "b") == 9.0
    queue.cancel(Timer.REKEY, "a")
    assert queue.next() == 5.0
    assert queue.due(4.9) == []
    assert queue.due(9.0) == [(Timer.INIT, "a"), (Timer.INIT, "b")]
    queue.cancel(Timer.INIT, "b")
    assert queue.take((Timer.INIT, "a"), 9.0)
    assert not queue.take((Timer.INIT, "a"), 9.0), "once"
    assert not queue.take((Timer.INIT, "b"), 9.0), "stopped by whoever acted before it"
    assert queue.next() is None


def test_a_due_timer_that_is_set_anew_waits():
    queue = TimerQueue()
    queue.set(Timer.INIT, "a", 1.0)
    (key,) = queue.due(2.0)
    queue.set(Timer.INIT, "a", 3.0)
    assert not queue.take(key, 2.0)
    assert queue.next() == 3.0


def test_setting_a_timer_for_ever_costs_no_memory():
    queue = TimerQueue()
    for number in range(10_000):
        queue.set(Timer.SILENCE, "a", float(number))
    assert len(queue._heap) < 200
    assert queue.next() == 9999.0


def test_all_timers_of_an_owner_stop():
    queue = TimerQueue()
    for timer in Timer:
        queue.set(timer, "a", 1.0)
    queue.set(Timer.INIT, "b", 2.0)
    queue.cancel_all("a")
    assert queue.next() == 2.0
