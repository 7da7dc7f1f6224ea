"""What reports of a peer say about the path, and what is no loss of it."""

import pytest

from ltunnel.session import Quality


def test_a_path_is_clean_while_everything_arrives():
    quality = Quality()
    assert not quality.clean(0.0), "nothing is known"
    quality.report(1, 100, 100, 1.0)
    assert quality.clean(1.0)
    assert not quality.clean(7.0), "that was long ago"


def test_a_loss_ends_that_for_a_while():
    quality = Quality()
    quality.report(1, 100, 100, 1.0)
    quality.report(1, 200, 199, 1.5)
    assert quality.loss == pytest.approx(0.01)
    assert not quality.clean(1.5)
    quality.report(1, 300, 299, 4.0)
    assert quality.clean(4.0)


def test_what_went_over_other_paths_is_no_loss_of_this_one():
    quality = Quality()
    quality.report(1, 100, 100, 1.0)
    quality.report(1, 200, 197, 1.5, astray=3)
    assert quality.loss == 0.0
    assert quality.clean(1.5)
    quality.report(1, 300, 296, 2.0, astray=3)
    assert quality.loss == pytest.approx(0.01), "the same three are not counted twice"
    assert not quality.clean(2.0)


def test_astray_datagrams_that_arrived_after_all_are_no_gain():
    quality = Quality()
    quality.report(1, 100, 97, 1.0, astray=3)
    quality.report(1, 200, 200, 1.5, astray=0)
    assert quality.loss == 0.0


def test_a_new_epoch_counts_anew():
    quality = Quality()
    quality.report(1, 1000, 997, 1.0, astray=3)
    quality.report(2, 100, 99, 2.0, astray=1)
    assert quality.loss == 0.0
