from protege.objectives import Measurement
from protege.search import State, Trial
from protege.search.analysis.tied import tied_with
from protege.search.records.objectives import ObjectiveRecords
from tests.search.report.drawn import LATENCY, RETENTION, student

OBJECTIVES = ObjectiveRecords((LATENCY, RETENTION))


def measured(number: int, ms: float, kept: float, *examples: float) -> Trial:
    found = {
        "latency_ms": Measurement(ms, 0.2),
        "retention": Measurement(kept, 0.01, (), {}, examples),
    }
    return student(number, {}, measurements=found, state=State.COMPLETE)


def test_a_trial_within_the_error_of_every_objective_is_tied() -> None:
    front = [measured(1, 10.0, 0.9), measured(2, 20.0, 0.95)]
    off = [measured(3, 10.2, 0.89), measured(4, 10.2, 0.8), measured(5, 13.0, 0.9)]
    assert tied_with(OBJECTIVES, front, off) == {3: [1]}


def test_scores_of_the_same_examples_are_compared_example_by_example() -> None:
    scores = (0.9, 0.5, 0.7, 0.8, 0.95, 0.6, 0.85, 0.75)
    front = [measured(1, 10.0, 0.9, *scores)]
    worse = measured(2, 10.0, 0.89, *(one - 0.01 for one in scores))
    mixed = measured(3, 10.0, 0.899, *(one + (0.03 if one > 0.7 else -0.05) for one in scores))
    assert tied_with(OBJECTIVES, front, [worse, mixed]) == {3: [1]}


def test_without_students_or_others_nothing_is_tied() -> None:
    one = measured(1, 10.0, 0.9)
    assert tied_with(OBJECTIVES, [], [one]) == tied_with(OBJECTIVES, [one], []) == {}
