"""Lengths in front of datagrams, and runs of equal ones in a stream."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltunnel.constants import MAX_DATAGRAM, MAX_ROWS
from ltunnel_transport_tls.framing import PREFIX, RUN_LIMIT, find_run, write_lengths


def frame(*sizes: int) -> bytearray:
    return bytearray(b"".join(size.to_bytes(2, "big") + bytes((i % 251,)) * size for i, size in enumerate(sizes)))


@given(seg=st.integers(1, 3000), full=st.integers(0, MAX_ROWS), rest=st.integers(1, 2999), headroom=st.integers(0, 9))
def test_lengths_are_written_in_front_of_each(seg, full, rest, headroom):
    rest = min(rest, seg - 1)
    sizes = [seg] * full + ([rest] if rest else [])
    wanted = frame(*sizes)
    data = bytearray(wanted)
    for i in range(len(sizes)):
        data[i * (seg + PREFIX) : i * (seg + PREFIX) + PREFIX] = b"\xee\xee"
    buf = bytearray(headroom) + data + bytes(3)
    write_lengths(memoryview(buf), headroom, headroom + len(data), seg + PREFIX)
    assert buf == bytes(headroom) + wanted + bytes(3)


@given(st.lists(st.sampled_from([1, 2, 3, 255, 256, 300, 1400, 9000, 65_507]), max_size=100), st.integers(0, 70_000))
def test_runs_join_what_may_be_joined_and_lose_nothing(sizes, cut):
    data = frame(*sizes)
    end = max(0, len(data) - cut)
    at, found = 5, []
    data = bytearray(5) + data
    end += 5
    while True:
        stop, slot = find_run(data, at, end)
        if stop == at:
            break
        run = [min(slot, stop - i) - PREFIX for i in range(at, stop, slot)]
        assert len(run) <= MAX_ROWS
        assert stop - at <= RUN_LIMIT
        assert set(run[:-1]) <= {run[0]}
        assert 0 < run[-1] <= run[0]
        found.append(run)
        at = stop
    assert [size for run in found for size in run] == sizes[: sum(map(len, found))]
    left = sizes[sum(map(len, found)) :]
    assert not left or end - at < PREFIX + left[0], "a whole datagram was left"
    for run, following in pairwise(found):
        joined = sum(run) + following[0] + PREFIX * (len(run) + 1)
        fits = len(run) < MAX_ROWS and joined <= RUN_LIMIT
        assert not (fits and run[-1] == run[0] >= following[0]), "a run ended early"


def test_a_bulk_transfer_is_one_run():
    data = frame(*[1430] * 44, 200, 1430)
    assert find_run(data, 0, len(data)) == (44 * 1432 + 202, 1432)


def test_a_run_has_as_many_as_a_batch_may_have():
    data = frame(*[100] * 100)
    assert find_run(data, 0, len(data)) == (MAX_ROWS * 102, 102)
    data = frame(*[100] * MAX_ROWS, 50)
    assert find_run(data, 0, len(data)) == (MAX_ROWS * 102, 102)


@pytest.mark.parametrize("length", [0, MAX_DATAGRAM + 1, 0xFFFF])
def test_what_is_no_length_is_told(length):
    data = frame(10) + length.to_bytes(2, "big") + bytes(100)
    assert find_run(data, 0, len(data)) == (12, 12)
    assert find_run(data, 12, len(data)) == (12, 0)
