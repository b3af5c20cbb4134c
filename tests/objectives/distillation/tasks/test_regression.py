"""Scores are judged by their squared error beside the teacher's variance."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from protege.objectives import Distillation, Example, HardLabels, Texts
from protege.objectives.distillation.losses.losses import ScoreMSE
from protege.objectives.distillation.tasks.regression import RegressionTask
from protege.objectives.distillation.tasks.task import TaskScore
from protege.objectives.quality.rungs import training_of
from protege.spaces import BadInput, Cache, Teacher
from tests.objectives.candidates import half, itself, retained
from tests.objectives.distillation.tasks.kinds import KINDS
from tests.tiny import texts

TASK = RegressionTask()
THEIRS = torch.tensor([[0.0], [1.0], [2.0], [5.0]])
UNKNOWN = torch.full((4, 1), torch.nan)


def scored(mine: Tensor, labels: Tensor = UNKNOWN, theirs: Tensor = THEIRS) -> TaskScore:
    return TASK.score(TASK.scores(mine, TASK.targets(theirs, labels), labels))


def test_the_mean_of_every_example_is_worth_a_half() -> None:
    assert scored(THEIRS).value == 1
    assert scored(THEIRS.mean().expand(4, 1)).value == pytest.approx(0.5)
    shifted = scored(THEIRS + 1)
    variance = float(THEIRS.var(correction=0))
    assert shifted.value == pytest.approx(variance / (variance + 1))
    assert shifted.figures["explained"] == pytest.approx(1 - 1 / variance)
    assert shifted.figures["correlation"] == pytest.approx(1)


def test_each_of_several_scores_counts_beside_its_own_variance() -> None:
    wide = torch.cat([THEIRS, 1000 * THEIRS], dim=1)
    off = torch.cat([THEIRS + 1, 1000 * THEIRS], dim=1)
    unknown = UNKNOWN.expand(4, 2)
    error = 1 / float(THEIRS.var(correction=0)) / 2
    assert scored(off, unknown, wide).value == pytest.approx(1 / (1 + error))


def test_a_constant_teacher_is_met_or_not() -> None:
    same = torch.ones(4, 1)
    assert scored(same, theirs=same).value == 1
    assert scored(same + 1, theirs=same).value == pytest.approx(0, abs=1e-9)


def test_with_labels_the_quality_is_relative_to_the_teachers() -> None:
    labels = THEIRS + torch.tensor([[0.5], [-0.5], [0.5], [-0.5]])
    variance = float(labels.double().var(correction=0))
    found = scored(labels, labels)
    assert found.value == pytest.approx(1 + 0.25 / variance)  # better than the teacher
    assert found.of_mean(float(found.rows.mean())) == pytest.approx(found.value)
    assert found.figures["label_correlation"] == pytest.approx(1)
    assert found.figures["teacher_label_correlation"] < 1
    own = scored(THEIRS, labels)
    assert (own.value, own.spread) == (1, 0)


def teacher_of() -> Teacher:
    return KINDS["three scores of a text"].teacher()


def said(teacher: Teacher, given: list[str]) -> list[tuple[float, ...]]:
    inputs = TASK.inputs(teacher, [Example(text) for text in given], 16)
    with torch.inference_mode():
        answer = TASK.answer(teacher.model, inputs.batch(range(len(given))))
    return [tuple(row) for row in answer.tolist()]


def labelled(scores: list[tuple[float, ...]]) -> Distillation:
    return Distillation(Texts.of(texts(60), scores), 2, 8, selection=15, max_tokens=16)


def test_labels_are_numbers_on_the_teachers_scale(cache: Cache) -> None:
    teacher = teacher_of()
    own = said(teacher, texts(60))
    found = retained(itself(teacher, cache, labelled(own)))
    assert found.value == pytest.approx(1)
    assert found.details["teacher_label_correlation"] == pytest.approx(1)
    other = labelled([tuple(100 - one for one in row) for row in own])
    with pytest.raises(
        BadInput, match="times the variance of the labels, so their mean is a better"
    ):
        itself(teacher, cache, other).prepared.data.check()


@pytest.mark.parametrize("label", [0.5, (1.0, 2.0), ("a", "b", "c"), ("1", "2", "inf")])
def test_what_is_no_score_is_refused(label: Any) -> None:
    with pytest.raises(BadInput, match=r"label .*: expected 3 numbers, as the teacher's scores"):
        TASK.inputs(teacher_of(), [Example("w1", label)], 16)


def test_numbers_in_a_table_are_scores() -> None:
    inputs = TASK.inputs(KINDS["score of a text"].teacher(), [Example("w1", "0.25")], 16)
    assert inputs.labels.tolist() == [[0.25]]


def test_the_loss_divides_by_the_variance_of_the_teachers_scores(cache: Cache) -> None:
    start = half(teacher_of(), cache, KINDS["three scores of a text"].distillation()).built()
    data = start.prepared.data
    wanted = data.outputs(data.selected)["logits"].double().var(0, correction=0)
    (loss,) = training_of(start).task.losses
    assert isinstance(loss, ScoreMSE)
    assert loss.variances == pytest.approx(tuple(wanted.tolist()))
    answer, theirs = torch.randn(6, 3), torch.randn(6, 3)
    found = loss.of(answer, {"logits": theirs}, torch.zeros(6, 3))
    expected = ((answer - theirs).square() / wanted.float()).mean()
    torch.testing.assert_close(found, expected)


def test_hard_labels_of_scores_are_a_squared_error() -> None:
    answer, labels = torch.randn(4, 1), THEIRS.clone()
    labels[2] = torch.nan
    found = HardLabels().of(answer, {}, labels)
    known = torch.tensor([0, 1, 3])
    torch.testing.assert_close(found, (answer - THEIRS)[known].square().mean())
    assert float(HardLabels().of(answer, {}, UNKNOWN)) == 0


def test_a_task_of_other_variances_reads_the_same_cache() -> None:
    assert replace(TASK, variances=(2.0,)).name == TASK.name
