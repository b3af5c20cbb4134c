import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Measurement
from protege.search import Front, State, Trial
from protege.search.records.objectives import ObjectiveRecord
from protege.spaces import BadInput
from studies.ending import fast_enough
from tests.search.report.drawn import ABOUT, LATENCY, RETENTION, classic, drawn, objective, student
from tests.search.toys import OWN

MEMORY, AGREEMENT = objective("memory_mb"), objective("agreement", "maximize")

figures = st.floats(1, 100).map(lambda value: round(value, 2))


def measured(number: int, ms: float, error_ms: float, kept: float, **details: Any) -> Trial:
    """A trial with an error of its latency; its retention is known to a thousandth."""
    found = {
        "latency_ms": Measurement(ms, error_ms, (), details),
        "retention": Measurement(kept, 0.001),
    }
    return student(number, {}, measurements=found)


def noisy(*trials: Trial) -> Front:
    """Trials beside a teacher (0) and a naive half (1) that are both on the front."""
    return drawn([LATENCY, RETENTION], [(45.9, 1.0), (4.0, 0.3)], *trials)


DEMO = noisy(
    measured(13, 38.4, 1.0, 0.936),
    measured(22, 39.0, 0.6, 0.944),
    measured(5, 32.2, 0.5, 0.929),
    measured(15, 13.5, 0.2, 0.848),
)
"""Four students of a real study; two of them have one latency."""


@pytest.mark.parametrize(
    ("front", "budgets", "number"),
    [
        (classic(), {"retention": 0.9}, 3),
        (classic(), {"retention": 0.89}, 3),
        (classic(), {"retention": 0.8}, 2),
        (classic(), {"retention": 0.3}, 4),
        (classic(), {"latency_ms": 1000}, 3),
        (classic(), {"latency_ms": 15}, 4),
        (classic(), {"latency_ms": 25, "retention": 0.4}, 2),
        (classic(), {"speedup": 2}, 2),
        (classic(), {"speedup": 1, "retention": 0.4}, 3),
        (classic(), {}, 2),
        (DEMO, {"retention": 0.9}, 5),
        (DEMO, {"retention": 0.93}, 22),
    ],
)
def test_a_budget_on_quality_gives_the_fastest_and_one_on_cost_the_best(
    front: Front, budgets: dict[str, float], number: int
) -> None:
    assert front.pick(**budgets).trial.number == number


def test_with_more_objectives_what_has_no_budget_is_compared_first() -> None:
    rows = [(40, 90, 1.0, 1.0), (9, 9, 0.1, 0.1), (20, 50, 0.8, 0.9), (30, 20, 0.8, 0.7)]
    front = drawn([LATENCY, MEMORY, RETENTION, AGREEMENT], rows)
    picked = [
        front.pick(**budgets).trial.number
        for budgets in (
            {"retention": 0.8},  # the first cost
            {"memory_mb": 60},  # the first quality; equal, so the second
            {"latency_ms": 35, "retention": 0.8},  # the other quality before the other cost
            {"retention": 0.8, "agreement": 0.5, "latency_ms": 35},  # memory alone is left
        )
    ]
    assert picked == [2, 2, 2, 3]


@given(st.lists(st.tuples(figures, figures), min_size=3, max_size=12), figures, figures)
def test_what_is_picked_is_a_student_within_the_budgets(
    rows: list[tuple[float, float]], most: float, least: float
) -> None:
    front = drawn([LATENCY, RETENTION], rows)
    for budgets in ({"latency_ms": most}, {"retention": least}, {}):
        try:
            found = front.pick(**budgets).trial
        except BadInput:
            assert not [
                trial
                for trial in front.students
                if all(_within(front, trial, *one) for one in budgets.items())
            ]
            continue
        assert found in front.students
        assert found.number > 1  # neither the teacher nor the naive half
        assert all(_within(front, found, *one) for one in budgets.items())


def _within(front: Front, trial: Trial, name: str, bound: float) -> bool:
    sign = front.objectives.records[front.objectives.names.index(name)].sign
    return bool(sign * trial.measurements[name].value <= sign * bound)


PRICE = "retention 0.85 costs 30.0 ms (trial 3)"
LEFT = "retention 0.85 leaves a speedup of 1.33 (trial 3)"


@pytest.mark.parametrize(
    ("budgets", "told"),
    [
        (
            {"latency_ms": 15, "retention": 0.85},
            ["within 15 ms the best retention is 0.500 (trial 4)", PRICE],
        ),
        (
            {"retention": 0.85, "speedup": 2},
            ["at a speedup of 2 the best retention is 0.800 (trial 2)", LEFT],
        ),
        ({"latency_ms": 4}, ["the least latency_ms is 8.00 (trial 4)"]),
        (
            {"retention": 1.0},
            ["the best retention is 0.900 (trial 3)", "the teacher is within it (trial 0)"],
        ),
        ({"speedup": 9}, ["the best speedup is 5.00 (trial 4)"]),
    ],
)
def test_budgets_that_no_student_meets_are_told_with_what_each_costs(
    budgets: dict[str, float], told: list[str]
) -> None:
    given = ", ".join(f"{name}={bound:g}" for name, bound in budgets.items())
    with pytest.raises(BadInput) as error:
        classic().pick(**budgets)
    line = "; ".join([f"{given}: no student on the front is within that", *told])
    assert str(error.value) == line


def test_two_figures_in_one_unit_are_told_by_their_names() -> None:
    board = objective("latency_pi5_ms")
    rows = [(40, 80, 1.0), (9, 9, 0.1), (20, 70, 0.8), (30, 20, 0.7)]
    with pytest.raises(BadInput, match=r"latency_pi5_ms 30 costs latency_ms 30.0 \(trial 3\)"):
        drawn([LATENCY, board, RETENTION], rows).pick(latency_ms=20, latency_pi5_ms=30)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("latency", "did you mean latency_ms?"),
        ("retenton", "did you mean retention?"),
        ("speed", "did you mean speedup?"),
        ("x", "this study has latency_ms, retention, speedup"),
    ],
)
def test_a_wrong_name_is_told_with_the_nearest_right_one(name: str, hint: str) -> None:
    with pytest.raises(BadInput, match=rf"^unknown objective '{name}'") as error:
        classic().pick(**{name: 1.0})
    assert hint in str(error.value)


def test_a_speedup_is_a_budget_only_where_it_was_measured() -> None:
    with pytest.raises(BadInput, match="unknown objective 'speedup'; this study has memory_mb"):
        drawn([MEMORY, RETENTION], [(9.0, 1.0), (2.0, 0.1), (5.0, 0.5)]).pick(speedup=2)


@pytest.mark.parametrize("bound", ["15", True, None, math.nan, math.inf, [8]])
def test_a_budget_that_is_no_number_is_refused(bound: Any) -> None:
    with pytest.raises(BadInput, match=r"latency_ms=.*: expected a number, such as latency_ms=30"):
        classic().pick(latency_ms=bound)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([(40.0, 1.0)], "only the teacher (trial 0)"),
        ([(40.0, 1.0), (10.0, 0.3)], "only the naive half (trial 1) and the teacher (trial 0)"),
        ([(40.0, 1.0), (10.0, 0.3), (50.0, 0.2)], "only the naive half (trial 1) and the teacher"),
    ],
)
def test_a_front_without_any_student_says_so_in_one_line(
    rows: Sequence[tuple[float, float]], told: str
) -> None:
    front = drawn([LATENCY, RETENTION], rows)
    for choose in (front.pick, front.knee, lambda: fast_enough(front, 2)):
        with pytest.raises(BadInput) as error:
            choose()
        assert told in str(error.value)
        assert str(error.value).endswith("run more trials")
        assert "\n" not in str(error.value)


def test_the_teacher_and_the_naive_half_are_chosen_only_by_number() -> None:
    front = noisy(measured(2, 20.0, 0.1, 0.8))
    assert [trial.number for trial in front.members] == [1, 2, 0]
    assert [trial.number for trial in front.students] == [2]
    assert [front.role(trial) for trial in front.members] == ["naive half", "", "teacher"]
    assert list(front.table["role"]) == ["naive half", "student", "teacher"]
    assert "(naive half)" in str(front)
    assert front.trial(0).number == 0


def test_the_knee_is_farthest_from_the_line_between_the_ends() -> None:
    rows = [(100.0, 1.0), (10.0, 0.0), (20.0, 0.7), (55.0, 0.8), (90.0, 0.9)]
    choice = drawn([LATENCY, RETENTION], rows).knee()
    assert choice.trial.number == 2
    assert choice.why == "the knee of the front, as no budget was given"
    assert choice.why in str(choice)


def test_one_objective_has_its_best_student_for_a_knee() -> None:
    assert drawn([LATENCY], [(40.0,), (30.0,), (20.0,)]).knee().trial.number == 2


def test_what_is_worse_within_noise_is_off_the_front_for_choosing_but_stays_on_it() -> None:
    assert DEMO.dominated == {13: [22]}
    assert [trial.number for trial in DEMO.choices] == [15, 5, 22]
    assert 13 in [trial.number for trial in DEMO.members]
    # a student that is within the budget is not hidden by one that is not
    assert DEMO.pick(latency_ms=38.5).trial.number == 5
    assert DEMO.pick(latency_ms=38.5, retention=0.93).trial.number == 13
    marked = DEMO.table.set_index("trial")["dominated_within_noise_by"]
    assert marked[marked != ""].to_dict() == {13: "t22"}
    assert "dominated within noise by" in str(DEMO)
    assert "trial 22" in str(DEMO.pick(latency_ms=38.5, retention=0.93))


def test_a_latency_apart_by_more_than_noise_is_another_latency() -> None:
    front = noisy(measured(13, 38.4, 0.1, 0.936), measured(22, 39.0, 0.1, 0.944))
    assert front.dominated == {}
    assert front.pick(latency_ms=38.5).trial.number == 13


def test_what_is_tied_in_every_objective_is_within_noise_and_dominates_nothing() -> None:
    front = noisy(measured(13, 38.4, 1.0, 0.9436), measured(22, 39.0, 0.6, 0.944))
    assert (front.dominated, front.ties) == ({}, {0: [], 1: [], 13: [22], 22: [13]})


def test_what_dominates_must_itself_stay() -> None:
    # each is within noise of the next and better than it, but not of the one after it
    ladder = [measured(n, 40.0 - 1.2 * n, 0.5, 0.95 - 0.01 * n) for n in range(2, 6)]
    assert noisy(*ladder).dominated == {3: [2], 5: [4]}


@pytest.mark.parametrize("grade", ["B", "C"])
def test_a_choice_says_what_is_wrong_with_its_latency(grade: str) -> None:
    front = noisy(measured(2, 20.0, 0.3, 0.8, grade=grade, error_floor="1.5%"))
    card = str(front.pick())
    assert f"grade {grade}: " in card
    assert "disturbed" in card
    assert "20 ± 0.3 (floor)" in card
    assert "20 ± 0.3 (floor)" in str(front)


def test_names_with_markup_and_escape_codes_are_text_in_a_choice_and_in_a_table() -> None:
    odd = ObjectiveRecord("\x1b]0;x\x07[b]q\u202e", "", "maximize")
    front = drawn([LATENCY, odd], [(40.0, 1.0), (9.0, 0.1), (20.0, 0.8)])
    own: Mapping[str, Any] = OWN.fields() | {"layer_policy": "a[v2]\n\x1b[31m"}
    first, *others = front.trials
    changed = [replace(trial, architecture=own) for trial in others]
    front = replace(front, trials=(first, *changed[:-1], others[-1]))
    for shown in (str(front), str(front.pick())):
        assert shown.replace("\n", "").isprintable()
        assert "\\x1b]0;x\\x07[b]q\\u202e" in shown
    assert "a[v2]\\n\\x1b[31m" in str(front)


def test_an_empty_front_says_so() -> None:
    front = drawn([LATENCY], [], student(0, {"latency_ms": 9.0}, state=State.SCREENED), about=ABOUT)
    with pytest.raises(BadInput, match="the front is empty, no trial is within the study's limits"):
        front.pick(speedup=2)
