"""When records may be used: after reports without loss, not too soon after one with loss."""

from __future__ import annotations

import pytest

from ltunnel.session import Quality
from ltunnel.session.quality import FIRST_WAIT, FORGIVEN, FRESH, LONGEST_WAIT, MIN_SAMPLE


class Far:
    """The far end of a path: counts, and reports twice a second."""

    def __init__(self):
        self.quality = Quality()
        self.now = 100.0
        self.expected = self.accepted = 0
        self.epoch = 1

    def report(self, sent=1000, lost=0):
        self.now += 0.5
        self.expected += sent
        self.accepted += sent - lost
        self.quality.report(self.epoch, self.expected, self.accepted, self.now)
        return self.quality.clean(self.now)

    def until_clean(self):
        start = self.now
        while not self.report():
            assert self.now < start + 1000
        return self.now - start


@pytest.fixture
def far():
    return Far()


def test_nothing_is_known_before_a_report(far):
    assert not far.quality.clean(far.now)
    assert far.quality.loss is None


def test_a_first_report_without_loss_is_enough(far):
    assert far.report()
    assert far.quality.loss == 0


def test_a_first_report_with_loss_is_not(far):
    assert not far.report(lost=1)
    assert far.quality.loss == 0.001
    assert FIRST_WAIT - 0.5 <= far.until_clean() <= FIRST_WAIT + 0.5


def test_a_report_about_too_little_says_nothing(far):
    assert not far.report(sent=MIN_SAMPLE - 1)
    assert far.report(sent=1)


def test_reports_grow_old(far):
    assert far.report()
    assert far.quality.clean(far.now + FRESH - 0.1)
    assert not far.quality.clean(far.now + FRESH)


def test_loss_that_comes_back_makes_the_wait_longer_and_is_forgiven(far):
    far.report()
    waits = []
    for _ in range(10):
        far.report(lost=3)
        waits.append(far.until_clean())
    assert waits == sorted(waits)
    assert waits[1] >= 2 * FIRST_WAIT - 0.5
    assert max(waits) <= LONGEST_WAIT + 1
    for _ in range(int(2 * (FORGIVEN + LONGEST_WAIT))):
        far.report()
    far.report(lost=1)
    assert far.until_clean() <= FIRST_WAIT + 0.5


def test_another_epoch_begins_its_counts_anew(far):
    far.report(lost=10)
    far.epoch, far.expected, far.accepted = 2, 0, 0
    far.now += 10
    assert far.report(sent=100)
    assert far.quality.loss == 0


def test_what_arrives_late_is_no_negative_loss(far):
    far.report(lost=5)
    far.report(lost=-5)
    assert far.quality.loss == 0


def test_what_went_over_other_paths_is_no_loss_of_this_one():
    quality = Quality()
    for counter in (120, 130, 299):
        quality.stray(1, counter)
    quality.report(1, 100, 100, 1.0)
    quality.report(1, 200, 198, 1.5)
    assert quality.loss == 0.0
    assert quality.clean(1.5)
    quality.report(1, 300, 297, 2.0)
    assert quality.loss == 0.0, "each where it was"
    quality.report(1, 400, 396, 2.5)
    assert quality.loss == pytest.approx(0.01), "but only once"
    assert not quality.clean(2.5)


def test_what_arrived_over_other_paths_is_no_gain():
    quality = Quality()
    quality.stray(1, 50)
    quality.report(1, 100, 100, 1.0)
    quality.report(1, 200, 199, 1.5)
    assert quality.loss == pytest.approx(0.01)


def test_a_new_epoch_counts_anew():
    quality = Quality()
    quality.stray(1, 50)
    quality.report(1, 1000, 999, 1.0)
    quality.report(2, 100, 99, 2.0)
    assert quality.loss == pytest.approx(0.01)
