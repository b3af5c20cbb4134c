"""Any number of classes may apply: their sets are compared."""

from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from protege.objectives import BinaryKL, Distillation, Example, HardLabels, Texts
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.multi_label import MultiLabelTask
from protege.objectives.distillation.tasks.task import TaskScore
from protege.spaces import BadInput, Cache, Teacher
from tests.objectives.candidates import itself, retained
from tests.objectives.distillation.tasks.kinds import KINDS
from tests.tiny import texts

TASK = MultiLabelTask()
NONE = [NO_LABEL] * 3


def scored(mine: list[Any], theirs: list[Any], labels: list[Any]) -> TaskScore:
    own, other = (2.0 * torch.tensor(given) - 1 for given in (mine, theirs))
    known = torch.tensor(labels)
    return TASK.score(TASK.scores(own, TASK.targets(other, known), known))


@pytest.mark.parametrize(
    ("mine", "theirs", "value"),
    [
        ([[1, 0, 1]], [[1, 0, 1]], 1.0),
        ([[0, 0, 0]], [[0, 0, 0]], 1.0),
        ([[0, 0, 0]], [[1, 0, 0]], 0.0),
        ([[1, 1, 0]], [[1, 0, 0]], 2 / 3),
        ([[1, 1, 0], [1, 0, 0]], [[1, 0, 0], [1, 0, 0]], 5 / 6),
    ],
)
def test_the_quality_is_the_f1_of_the_sets(mine: Any, theirs: Any, value: float) -> None:
    found = scored(mine, theirs, [NONE] * len(mine))
    assert found.value == pytest.approx(value)
    assert found.figures == {"agreement": pytest.approx(value)}


def test_with_labels_it_is_relative_to_the_teachers() -> None:
    labels = [[1, 1, 0], [0, 0, 1], NONE]
    theirs = [[1, 0, 0], [0, 0, 1], [1, 1, 1]]
    found = scored([[1, 1, 0], [0, 0, 1], [0, 0, 0]], theirs, labels)
    assert found.figures["teacher_f1"] == pytest.approx(5 / 6)
    assert found.value == pytest.approx(6 / 5)
    assert found.of_mean(float(found.rows.mean())) == pytest.approx(found.value)


def test_the_loss_is_the_cross_entropy_less_the_teachers_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, theirs = torch.randn(2, 5, 3, generator=generator)
    found = BinaryKL().of(mine, {"logits": theirs}, torch.tensor([NONE] * 5))
    wanted = theirs.sigmoid()
    cross, own = (binary_cross_entropy(one.sigmoid(), wanted) for one in (mine, theirs))
    torch.testing.assert_close(found, cross - own)
    assert float(found) > 0
    assert float(BinaryKL().of(theirs, {"logits": theirs}, torch.zeros(5, 3))) == 0


def test_hard_labels_of_several_classes_are_a_cross_entropy_of_each() -> None:
    labels = torch.tensor([[1, 0, 1], NONE])
    answer = torch.tensor([[2.0, -1.0, 0.5], [9.0, 9.0, 9.0]])
    found = HardLabels().of(answer, {}, labels)
    wanted = binary_cross_entropy(answer[:1].sigmoid(), labels[:1].float())
    torch.testing.assert_close(found, wanted)


def teacher_of() -> Teacher:
    return KINDS["labels of a text"].teacher()


@pytest.mark.parametrize(
    ("label", "found"),
    [
        ((), [0, 0, 0]),
        (1, [0, 1, 0]),
        ((2, 0), [1, 0, 1]),
        (("LABEL_2",), [0, 0, 1]),
        ((0.0, 1.0, 1.0), [0, 1, 1]),
        (None, NONE),
    ],
)
def test_the_classes_that_apply_are_named_numbered_or_marked(label: Any, found: list[int]) -> None:
    inputs = TASK.inputs(teacher_of(), [Example("w1 w2", label)], 16)
    assert inputs.labels.tolist() == [found]


@pytest.mark.parametrize(
    ("label", "told"),
    [
        ((0, 0, 1), "names a class twice; give the classes that apply"),
        ((7,), "label 7: the teacher"),
    ],
)
def test_other_labels_are_refused(label: Any, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        TASK.inputs(teacher_of(), [Example("w1", label)], 16)


def test_a_study_by_labels_reads_them_and_refuses_those_of_others(cache: Cache) -> None:
    teacher, given = teacher_of(), texts(60)
    inputs = TASK.inputs(teacher, [Example(text) for text in given], 16)
    with torch.inference_mode():
        logits = TASK.answer(teacher.model, inputs.batch(range(60)))
        head: Any = teacher.model
        head.classifier.bias -= logits.median(0).values
        applies = TASK.answer(teacher.model, inputs.batch(range(60))) > 0
    labels = [tuple(row.nonzero().flatten().tolist()) for row in applies]
    opposite = [tuple((~row).nonzero().flatten().tolist()) for row in applies]
    data = {name: Texts.of(given, one) for name, one in (("own", labels), ("not", opposite))}
    settings = {n: Distillation(one, 2, 8, selection=15, max_tokens=16) for n, one in data.items()}
    found = retained(itself(teacher, cache, settings["own"]))
    assert (found.value, found.details["teacher_f1"]) == (1, 1)
    with pytest.raises(
        BadInput, match=r"labels: the teacher is right for 0%.*no better than chance"
    ):
        itself(teacher, cache, settings["not"]).prepared.data.check()
