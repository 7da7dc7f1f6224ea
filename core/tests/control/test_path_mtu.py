"""The search for a path's MTU, against paths that carry so much and no more."""

import pytest

from ltunnel.control.path_mtu import LADDER, NEAR, RAISE, TRIES, PathMtu


class Link:
    """A path that carries packets up to a size, and counts what was tried on it."""

    def __init__(self, carries: int, ceiling: int = 1400, *, assumed: bool = False) -> None:
        self.carries = carries
        self.mtu = PathMtu(ceiling, assumed=assumed)
        self.now = 100.0
        self.probes = 0

    def search(self) -> int:
        """Probe until the search rests; return what it has found."""
        for _ in range(100):
            size = self.mtu.wanted(self.now)
            if size is None:
                return self.mtu.size
            self.try_size(size)
        raise AssertionError("the search does not end")

    def try_size(self, size: int) -> None:
        self.probes += 1
        self.now += 0.5
        if size <= self.carries:
            self.mtu.carried(size, self.now)
        else:
            self.mtu.missed(size, self.now)


def test_nothing_is_known_at_first_and_one_probe_is_enough_on_a_good_path():
    link = Link(1500)
    assert link.mtu.size == 0
    assert link.search() == 1400
    assert link.probes == 1


@pytest.mark.parametrize("carries", [*range(576, 1400, 37), 1150, 1151, 1279, 1280, 1281, 1399, 1400])
@pytest.mark.parametrize("assumed", [False, True])
def test_what_is_found_is_carried_and_close(carries, assumed):
    link = Link(carries, assumed=assumed)
    found = link.search()
    assert carries - NEAR <= found <= carries
    assert link.probes <= TRIES * (len(LADDER) + 8) + 8


def test_nothing_is_sent_where_not_even_the_least_passes():
    link = Link(500)
    assert link.search() == 0
    assert link.mtu.wanted(link.now + RAISE - 1) is None, "it rests"
    link.carries, link.now = 1400, link.now + RAISE + 1
    assert link.search() == 1400


def test_a_lost_probe_or_two_mean_nothing():
    mtu = PathMtu(1400)
    for _ in range(TRIES - 1):
        assert not mtu.missed(1400, 100.0)
        assert mtu.in_doubt
    assert mtu.wanted(100.0) == 1400
    mtu.carried(1400, 100.0)
    assert (mtu.size, mtu.in_doubt, mtu.wanted(100.0)) == (1400, False, None)


def test_a_black_hole_is_left_at_once_for_a_size_that_fits_nearly_everywhere():
    link = Link(1400)
    link.search()
    link.carries = 1223  # 1300 bytes outside
    fell = [link.mtu.missed(1400, link.now) for _ in range(TRIES)]
    assert fell == [False, False, True]
    assert link.mtu.size == LADDER[1]
    assert link.mtu.wanted(link.now) == LADDER[1], "and that is confirmed first"
    assert 1223 - NEAR <= link.search() <= 1223


def test_it_falls_step_by_step_when_even_the_base_is_lost():
    link = Link(1400)
    link.search()
    link.carries = 600
    for _ in range(TRIES):
        link.try_size(1400)
    assert link.mtu.size == 1150
    assert 600 - NEAR <= link.search() <= 600


def test_larger_sizes_are_tried_again_after_ten_minutes():
    link = Link(1280)
    link.search()
    found, link.carries = link.mtu.size, 1400
    link.now += RAISE - 1
    assert link.mtu.wanted(link.now) is None
    link.now += 1
    assert link.mtu.wanted(link.now) == 1400
    assert link.mtu.size == found, "what is known holds meanwhile"
    assert link.search() == 1400


def test_a_late_answer_counts():
    mtu = PathMtu(1400)
    for _ in range(TRIES):
        mtu.missed(1400, 100.0)
    assert mtu.wanted(100.0) == 1280
    mtu.carried(1400, 101.0)
    assert (mtu.size, mtu.wanted(101.0)) == (1400, None)


def test_what_is_assumed_is_used_at_once_and_checked():
    mtu = PathMtu(1354, assumed=True)
    assert (mtu.size, mtu.wanted(100.0)) == (1354, 1354)
    mtu.carried(1354, 100.0)
    assert mtu.wanted(100.0) is None


def test_another_path_begins_anew():
    link = Link(1200)
    link.search()
    link.mtu.forget()
    assert link.mtu.size == 0
    link.carries = 1400
    assert link.search() == 1400


def test_an_answer_to_more_than_the_peer_takes_does_not_count_for_more():
    """The ceiling may have become lower while a probe was out."""
    mtu = PathMtu(1254, assumed=True)
    mtu.carried(1354, 100.0)
    assert (mtu.size, mtu.wanted(100.0)) == (1254, None)
