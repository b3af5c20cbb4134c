import json
from itertools import pairwise, product
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protege.objectives import Direction
from protege.search import State, Trial
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from tests.search.toys import record

directions = st.sampled_from(get_args(Direction))


@st.composite
def studies(draw: st.DrawFn, *, limits: bool = False) -> tuple[ObjectiveRecords, list[Trial]]:
    """One to four objectives and up to seven trials; few distinct values, many are equal."""
    chosen = draw(st.lists(directions, min_size=1, max_size=4))
    limit = st.one_of(st.none(), st.integers(1, 5)) if limits else st.none()
    objectives = [ObjectiveRecord(f"g{i}", "", way, draw(limit)) for i, way in enumerate(chosen)]
    row = st.lists(st.integers(0, 5), min_size=len(objectives), max_size=len(objectives))
    rows = draw(st.lists(row, max_size=7))
    return ObjectiveRecords(tuple(objectives)), [
        record(number, values) for number, values in enumerate(rows)
    ]


@st.composite
def studies_with_teacher(draw: st.DrawFn) -> tuple[ObjectiveRecords, list[Trial], Trial]:
    """A study that minimises something, and its teacher, whose quality is the best there is."""
    objectives, trials = draw(studies())
    assume(any(objective.direction == "minimize" for objective in objectives.records))
    teacher = record(99, [draw(st.integers(1, 5)) if g.sign > 0 else 5 for g in objectives.records])
    return objectives, trials, teacher


def costs(objectives: ObjectiveRecords, trial: Trial) -> list[float]:
    """The trial's values, each turned so that less is better."""
    pairs = zip(objectives.records, objectives.values(trial), strict=True)
    return [objective.sign * value for objective, value in pairs]


def beats(objectives: ObjectiveRecords, one: Trial, other: Trial) -> bool:
    """Whether one is at least as good in everything and better in something, or the same before."""
    mine, theirs = costs(objectives, one), costs(objectives, other)
    if mine == theirs:
        return one.number < other.number
    return all(m <= t for m, t in zip(mine, theirs, strict=True))


def within(objectives: ObjectiveRecords, trial: Trial) -> bool:
    pairs = zip(objectives.records, costs(objectives, trial), strict=True)
    return all(g.limit is None or cost <= g.sign * g.limit for g, cost in pairs)


def volume_by_cells(objectives: ObjectiveRecords, trials: list[Trial], teacher: Trial) -> float:
    """The share of the box that is dominated, cell by cell between all coordinates there are."""
    scale = np.abs(objectives.values(teacher))
    worst = np.array([1.0 if g.direction == "minimize" else 0.0 for g in objectives.records])
    points = [np.array(costs(objectives, trial)) / scale for trial in trials]
    axes = [sorted({0.0, -1.0, w, *(p[i] for p in points)}) for i, w in enumerate(worst)]
    total = 0.0
    for cell in product(*(list(pairwise(axis)) for axis in axes)):
        low, high = np.array(cell).T
        if (high <= worst).all() and any((point <= low).all() for point in points):
            total += float(np.prod(high - low))
    return total


@given(studies(limits=True))
def test_the_front_is_what_comparing_every_pair_finds(
    study: tuple[ObjectiveRecords, list[Trial]],
) -> None:
    objectives, trials = study
    feasible = [trial for trial in trials if within(objectives, trial)]
    best = [t for t in feasible if not any(beats(objectives, other, t) for other in feasible)]
    assert {trial.number for trial in objectives.front(trials)} == {trial.number for trial in best}


@given(studies())
def test_the_front_runs_from_the_best_of_the_first_objective(
    study: tuple[ObjectiveRecords, list[Trial]],
) -> None:
    objectives, trials = study
    first = [costs(objectives, trial)[0] for trial in objectives.front(trials)]
    assert first == sorted(first)


@given(studies())
def test_the_front_of_the_front_is_the_front(study: tuple[ObjectiveRecords, list[Trial]]) -> None:
    objectives, trials = study
    front = objectives.front(trials)
    assert objectives.front(front) == front


@given(studies_with_teacher())
def test_hypervolume_is_the_share_of_cells_dominated(
    study: tuple[ObjectiveRecords, list[Trial], Trial],
) -> None:
    objectives, trials, teacher = study
    expected = volume_by_cells(objectives, trials, teacher)
    assert objectives.hypervolume(trials, teacher) == pytest.approx(expected, abs=1e-9)
    assert 0 <= expected <= 1 + 1e-9


@given(studies_with_teacher(), st.randoms(use_true_random=False))
def test_the_order_of_trials_changes_neither_values_on_the_front_nor_hypervolume(
    study: tuple[ObjectiveRecords, list[Trial], Trial], random: np.random.Generator
) -> None:
    objectives, trials, teacher = study
    shuffled = list(trials)
    random.shuffle(shuffled)
    assert [objectives.values(t) for t in objectives.front(shuffled)] == [
        objectives.values(t) for t in objectives.front(trials)
    ]
    volume = objectives.hypervolume(trials, teacher)
    assert objectives.hypervolume(shuffled, teacher) == pytest.approx(volume, abs=1e-12)


@given(studies_with_teacher(), st.data())
def test_a_trial_that_is_no_better_than_another_changes_nothing(
    study: tuple[ObjectiveRecords, list[Trial], Trial], data: st.DataObject
) -> None:
    objectives, trials, teacher = study
    assume(trials)
    better = data.draw(st.sampled_from(trials))
    worse = record(
        50,
        (
            value + objective.sign * data.draw(st.integers(0, 2))
            for objective, value in zip(objectives.records, objectives.values(better), strict=True)
        ),
    )
    assert objectives.front([*trials, worse]) == objectives.front(trials)
    volume = objectives.hypervolume(trials, teacher)
    assert objectives.hypervolume([*trials, worse], teacher) == pytest.approx(volume, abs=1e-12)


@given(studies_with_teacher())
def test_the_teacher_alone_has_no_hypervolume(
    study: tuple[ObjectiveRecords, list[Trial], Trial],
) -> None:
    objectives, _, teacher = study
    assert objectives.hypervolume([teacher], teacher) == 0
    assert objectives.hypervolume([], teacher) == 0


@given(studies_with_teacher())
def test_the_teacher_s_quality_for_nothing_is_all_the_hypervolume(
    study: tuple[ObjectiveRecords, list[Trial], Trial],
) -> None:
    objectives, trials, teacher = study
    free = record(7, (0 if objective.sign > 0 else 5 for objective in objectives.records))
    assert objectives.hypervolume([*trials, free], teacher) == pytest.approx(1.0)


@given(studies(), st.sampled_from([State.SCREENED, State.FAILED]))
def test_a_trial_that_is_not_complete_is_not_on_the_front(
    study: tuple[ObjectiveRecords, list[Trial]], state: State
) -> None:
    objectives, trials = study
    halted = record(
        50, [9 if objective.sign < 0 else -9 for objective in objectives.records], state
    )
    assert objectives.front([*trials, halted]) == objectives.front(trials)


@pytest.mark.parametrize(
    ("direction", "limit", "value", "violation"),
    [
        ("minimize", 20.0, 25.0, 0.25),
        ("minimize", 20.0, 20.0, 0.0),
        ("minimize", 20.0, 10.0, -0.5),
        ("maximize", 0.8, 0.6, 0.25),
        ("maximize", 0.8, 0.8, 0.0),
        ("maximize", 0.0, -0.5, 0.5),
        ("minimize", None, 1e9, 0.0),
    ],
)
def test_a_violation_is_the_share_of_the_limit_by_which_it_is_missed(
    direction: Direction, limit: float | None, value: float, violation: float
) -> None:
    objective = ObjectiveRecord("g0", "", direction, limit)
    assert objective.violation(value) == pytest.approx(violation)
    assert ObjectiveRecords((objective,)).feasible(record(0, [value])) == (violation <= 0)


@given(studies(limits=True))
def test_objectives_come_back_from_their_records(
    study: tuple[ObjectiveRecords, list[Trial]],
) -> None:
    objectives, _ = study
    stored = json.loads(json.dumps([objective.record() for objective in objectives.records]))
    assert ObjectiveRecords.of_records(stored) == objectives
