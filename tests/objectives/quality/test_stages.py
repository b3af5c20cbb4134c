"""Which objectives score a student during its training, and which once it is published."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protege.objectives import Candidate, Memory, Objective, Retention, Stage
from protege.objectives.objective import scores_rungs
from protege.search.engines.evaluating import Evaluation
from protege.search.records.trial import State
from protege.spaces import Cache
from tests.objectives.candidates import half
from tests.objectives.quality.scripted import Scripted
from tests.search.toys import distillation
from tests.tiny import CASES

NINE = distillation(steps=9, scores_start=False)
"""Rungs after 0, 1, 3 and 9 steps; what is not scored at rungs is measured once."""


@pytest.fixture
def given(cache: Cache) -> Candidate:
    return half(CASES["bert-sentences"].teacher(), cache, NINE)


def at_the_end(value: float = 0.5, name: str = "final") -> Scripted:
    """An objective of the distilled student alone; a second call is an error."""
    return Scripted([value], name, at_rungs=False)


def published_is(evaluation: Evaluation, measured: Scripted) -> bool:
    """Whether the one student that was measured is the one that is published."""
    ((candidate, then),) = measured.seen
    published = evaluation.student.module.state_dict()
    return candidate.student is evaluation.student and all(
        torch.equal(published[name], then[name]) for name in then
    )


@pytest.mark.parametrize("halts", [True, False])
@pytest.mark.parametrize(
    ("scores", "best"), [([3, 1, 2, 0], 0), ([0, 3, 1, 2], 1), ([0, 1, 2, 3], 9)]
)
def test_what_is_not_scored_at_rungs_is_measured_once_on_the_published_student(
    given: Candidate, scores: list[float], best: int, *, halts: bool
) -> None:
    racing, final = Scripted(scores, "racing"), at_the_end()
    objectives: list[Objective] = [final, Memory(), racing]
    evaluation = Evaluation(0, given, objectives, halts=halts)
    halted = []
    while rung := evaluation.advance():
        halted.append(rung.step)
        assert final.seen == []
    assert halted == ([0, 1, 3] if halts else [])
    assert published_is(evaluation, final)
    trial = evaluation.trial()
    assert trial.state is State.COMPLETE
    values = {name: one.value for name, one in trial.measurements.items()}
    memory = Memory().measure(given).value
    assert values == {"memory_mb": memory, "racing": max(scores), "final": 0.5}
    assert trial.rungs == {
        step: {"racing": value} for step, value in zip((0, 1, 3, 9), scores, strict=True)
    }
    assert trial.training is not None
    assert (trial.training.steps, trial.training.best_step) == (9, best)


def test_where_nothing_is_scored_at_rungs_the_retention_selects(given: Candidate) -> None:
    final, other = at_the_end(), at_the_end(2.0, "other")
    assert not scores_rungs(final)
    evaluation = Evaluation(0, given, [final, other])
    trial = evaluation.trial()
    assert published_is(evaluation, final)
    assert published_is(evaluation, other)
    assert {name: one.value for name, one in trial.measurements.items()} == {
        "final": 0.5,
        "other": 2.0,
    }
    assert [*trial.rungs] == [0, 1, 3, 9]
    retention = {step: found["retention"] for step, found in trial.rungs.items()}
    assert trial.training is not None
    assert retention[trial.training.best_step] == max(retention.values())


def test_the_first_of_two_that_are_scored_at_rungs_selects(given: Candidate) -> None:
    second = Scripted([1, 2, 3, 9], "second")
    objectives: list[Objective] = [Scripted([0, 9, 1, 2], "first"), second, Retention()]
    trial = Evaluation(0, given, objectives).trial()
    assert trial.training is not None
    assert trial.training.best_step == 1
    assert {name: trial.measurements[name].value for name in ("first", "second")} == {
        "first": 9,
        "second": 2,
    }
    assert trial.measurements["retention"].value == trial.rungs[1]["retention"]
    assert trial.curve == {0: 0, 1: 9, 3: 1, 9: 2}


def test_a_student_without_training_is_measured_as_it_was_cut(given: Candidate) -> None:
    prepared = replace(given.prepared, distillation=replace(NINE, steps=0))
    final = at_the_end()
    evaluation = Evaluation(0, replace(given, prepared=prepared), [final])
    trial = evaluation.trial()
    assert published_is(evaluation, final)
    assert [*trial.rungs] == [0]
    assert trial.training is None


def test_an_objective_of_an_early_stage_has_no_student(given: Candidate, tmp_path: Path) -> None:
    early = Scripted([1.0], "early")
    early.stage = Stage.SHAPE  # type: ignore[misc]
    assert not scores_rungs(early)
    trial = Evaluation(0, given, [early], tmp_path / "trial").trial()
    assert trial.state is State.FAILED
    assert "the student is not built yet; an objective that needs it has stage=" in trial.reason
