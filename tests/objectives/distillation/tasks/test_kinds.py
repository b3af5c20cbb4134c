"""What holds of the students of every kind of teacher, whatever it answers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protege.objectives import Memory, Retention
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.task import TaskScore
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.search import State
from protege.search.front.confirming import confirmed
from protege.spaces import Cache, Choice, SearchSpace
from tests.objectives.candidates import candidate, completed, distilled, half, itself, retained
from tests.objectives.distillation.tasks.kinds import KINDS
from tests.search.toys import toy

BYTES_PER_TOKEN = 300


@pytest.mark.parametrize("kind", KINDS)
def test_the_teacher_retains_all_of_itself(kind: str, cache: Cache) -> None:
    given = KINDS[kind]
    found = retained(itself(given.teacher(), cache, given.distillation()))
    assert found.value == pytest.approx(1.0, abs=1e-6)
    assert found.spread == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_retains_less_and_learns(kind: str, cache: Cache) -> None:
    given = KINDS[kind]
    run = completed(half(given.teacher(), cache, given.distillation(60, learning_rate=3e-3)))
    assert sum(run.losses[-5:]) < 0.9 * sum(run.losses[:5])
    start = Retention().measure(half(given.teacher(), cache, given.distillation()).built())
    best = run.published.measurements["retention"]
    assert start.value < 1 - 1e-3
    assert start.value <= best.value <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_each_row_is_worth_makes_up_the_value(kind: str, cache: Cache) -> None:
    given = KINDS[kind]
    start = half(given.teacher(), cache, given.distillation()).built()
    data = start.prepared.data
    own, targets = start.inputs_and_targets(data, data.selected, data.task)
    score: TaskScore = data.task.score(judge(start.student.module, data.task, own, targets))
    assert len(score.rows) == own.rows
    mean = float(score.rows.double().mean())
    assert score.of_mean(mean) == pytest.approx(score.value, rel=1e-6)
    assert score.of_mean(mean + 0.1) > score.value > score.of_mean(mean - 0.1)
    measured = Retention().measure(start)
    assert len(measured.examples) == len(own)
    assert float(measured.details["low"]) <= measured.value <= float(measured.details["high"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_loaded_student_is_judged_as_it_was_when_built(
    kind: str, cache: Cache, tmp_path: Path
) -> None:
    given = KINDS[kind]
    teacher, settings = given.teacher(), given.distillation()
    best = distilled(candidate(teacher, cache, settings, hidden=0.5, layers=0.5))
    folder = best.candidate.student.save(tmp_path / "student")
    again = confirmed([Retention()], itself(teacher, cache, settings), folder)
    unseen = Retention().measure_unseen(best.candidate).value
    assert again["retention"] == pytest.approx(best.measurements["retention"].value, rel=1e-6)
    assert again["unseen_retention"] == pytest.approx(unseen, rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_makes_no_difference(kind: str) -> None:
    given = KINDS[kind]
    teacher = given.teacher()
    task = distillation_task(teacher)
    inputs = task.inputs(teacher, list(given.data())[:20], 24)
    module = teacher.embedder() or teacher.model
    with torch.inference_mode():
        together = task.answer(module, inputs.batch(range(len(inputs))))
        alone = torch.cat([task.answer(module, inputs.batch([at])) for at in range(len(inputs))])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_of_the_teacher_is_small(kind: str) -> None:
    given = KINDS[kind]
    teacher = given.teacher()
    task = distillation_task(teacher)
    inputs = task.inputs(teacher, list(given.data())[:20], 24)
    targets = compute_outputs(teacher.embedder() or teacher.model, task, inputs)
    held = sum(tensor.nbytes for tensor in targets.values())
    assert held <= BYTES_PER_TOKEN * int(inputs.lengths.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_that_answers_online_teaches_the_same(kind: str, cache: Cache) -> None:
    given = KINDS[kind]
    teacher, settings = given.teacher(), given.distillation()
    online = replace(settings, answers="online")
    both = [completed(half(teacher, cache, one)).losses for one in (settings, online)]
    assert both[0] == pytest.approx(both[1], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_study_runs(kind: str, tmp_path: Path) -> None:
    given = KINDS[kind]
    front = toy(
        tmp_path,
        teacher=given.teacher(),
        space=SearchSpace(layers=Choice(0.5, 1.0), intermediate=Choice(0.5, 1.0)),
        objectives=[Memory(), Retention()],
        distillation=given.distillation(2),
    ).run(trials=3)
    assert [trial.state for trial in front.trials] == [State.COMPLETE] * 3
    assert all(trial.measurements["retention"].value <= 1 + 1e-6 for trial in front.trials)
