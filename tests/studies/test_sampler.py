"""Searches are played on a table as they would be run, and found out by the same measure."""

import pytest
from optuna.samplers import RandomSampler

from protege.search import Race
from studies.benchmarks.played import optunas, protege
from studies.benchmarks.sampler import table

WHOLE = table()


def test_the_volume_is_a_share_of_what_all_students_dominate() -> None:
    everyone = list(WHOLE.rows.index)
    assert WHOLE.volume(everyone) == pytest.approx(1)
    assert WHOLE.volume([]) == WHOLE.volume([WHOLE.teacher]) == 0
    assert 0 < WHOLE.volume(everyone[:5]) < WHOLE.volume(everyone[:50]) < 1


def test_training_costs_by_its_steps_and_the_teacher_is_not_trained() -> None:
    costs = [WHOLE.cost(key) for key in WHOLE.rows.index if key != WHOLE.teacher]
    assert sorted(costs)[len(costs) // 2] == pytest.approx(1, rel=0.02)
    student = str(WHOLE.rows.index[0])
    assert WHOLE.cost(student, 0) == WHOLE.cost(WHOLE.teacher) == 0
    assert WHOLE.cost(student, 20) == pytest.approx(WHOLE.cost(student) / 3)


def test_the_default_finds_nearly_all_of_the_front_in_twenty_trials() -> None:
    course = protege(WHOLE, seed=0, trials=20)
    assert course.after(20) > 0.985  # Optuna's own come to 0.96
    assert course.volumes == sorted(course.volumes)


def test_a_race_spends_less_on_as_many_trials() -> None:
    whole, raced = protege(WHOLE, 0, 16), protege(WHOLE, 0, 16, race=Race())
    assert len(whole.costs) == len(raced.costs) == 16
    assert raced.costs[-1] < 0.8 * whole.costs[-1]
    assert protege(WHOLE, 0, 16, race=Race(), spend=2).costs[-2] <= 2


def test_what_is_proposed_twice_is_trained_twice() -> None:
    course = optunas(WHOLE, RandomSampler(seed=0), 80)
    assert course.costs == sorted(course.costs)
    assert course.at(course.costs[39]) == course.after(40)
    assert course.at(0.0) <= course.volumes[0]
