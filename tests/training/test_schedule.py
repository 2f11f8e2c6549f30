import pytest

from adapterhub_training import schedule
from adapterhub_training.schedule import Patience


def test_the_rate_rises_to_its_peak_and_falls_to_zero():
    rates = [schedule.rate(step, steps=6, warmup_steps=2) for step in range(7)]

    assert rates == pytest.approx([1 / 3, 2 / 3, 1, 3 / 4, 2 / 4, 1 / 4, 0])


def test_without_warm_up_the_first_step_has_the_full_rate():
    assert schedule.rate(0, steps=4, warmup_steps=0) == 1


def test_the_end_of_an_epoch_is_always_evaluated():
    assert schedule.marks(7, 1) == {7}
    assert schedule.marks(7, 3) == {3, 5, 7}
    assert schedule.marks(2, 5) == {1, 2}


def test_patience_ends_after_so_many_evaluations_without_progress():
    patience = Patience(2)

    progress = [patience.improved(value) for value in (0.5, 0.6, 0.6, 0.4)]

    assert progress == [True, True, False, False]
    assert patience.exhausted
    assert patience.best == 0.6


def test_progress_renews_patience():
    patience = Patience(2)

    for value in (0.5, 0.4, 0.6, 0.5):
        patience.improved(value)

    assert not patience.exhausted


def test_without_a_limit_patience_has_no_end():
    patience = Patience(None)

    for value in (0.5, 0.4, 0.3, 0.2):
        patience.improved(value)

    assert not patience.exhausted
