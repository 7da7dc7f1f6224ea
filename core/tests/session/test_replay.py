"""The window against a set that remembers everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ltunnel.constants import REPLAY_WINDOW
from ltunnel.session import ReplayWindow


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from((0, 1, 5, 100, 8000, 8191, 8192, 8193, 20_000)),
            st.integers(-9000, 9000),
            st.integers(1, 64),
        ),
        max_size=60,
    )
)
def test_equals_a_set(moves):
    window, seen, top, at = ReplayWindow(), set(), -1, 0
    for leap, offset, count in moves:
        first = max(0, at + leap + offset)
        run = range(first, first + count)
        expected = not seen.intersection(run) and (first > top - REPLAY_WINDOW)
        assert window.fresh(first, count) == expected
        if expected:
            window.commit(first, count)
            seen.update(run)
            top = max(top, run[-1])
            assert window.top == top
            assert not any(window.fresh(counter) for counter in run)
        at = max(at, first)


def test_looking_up_moves_nothing():
    window = ReplayWindow()
    window.commit(10)
    assert window.fresh(1 << 60)
    assert window.top == 10
    assert window.fresh(9)


def test_a_run_across_the_top():
    window = ReplayWindow()
    window.commit(5)
    assert not window.fresh(4, 3)
    assert window.fresh(6, 3)
    assert window.fresh(2, 3)
