"""Losses on hidden states of students of other families."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch

from protege.objectives import AttentionRelations, HiddenMSE
from protege.objectives.distillation.losses.hooked import at_equal_depth, matched
from protege.objectives.distillation.teacher_outputs import LiveOutputs
from protege.spaces import OtherFamily, SearchSpace, Student, Teacher, Unsupported
from tests.objectives.distillation.taught import SHORT, material, module_of, training
from tests.tiny import CASES


def made(teacher: Teacher, kind: str, **ratios: float) -> Student:
    space = SearchSpace(multiple_of=4, others=[OtherFamily(kind, **ratios)]).of(teacher)
    return teacher.student(next(one for one in space if one.model_type == kind))


def test_layers_are_matched_by_relative_depth() -> None:
    assert at_equal_depth(2, 4) == (1, 3)
    assert at_equal_depth(3, 6) == (1, 3, 5)
    assert at_equal_depth(4, 4) == (0, 1, 2, 3)
    assert at_equal_depth(1, 6) == (5,)
    teacher = CASES["bert-sentences"].teacher()
    found = matched(made(teacher, "text_cnn", layers=0.5), teacher)
    assert [(one.student, one.teacher) for one in found] == [(0, 1), (1, 3)]


@pytest.mark.parametrize("kind", ["text_cnn", "text_mixer"])
@pytest.mark.parametrize("hidden", [0.5, 1.0])
def test_hidden_states_are_learnt(kind: str, hidden: float) -> None:
    teacher = CASES["bert-sentences"].teacher()
    student = made(teacher, kind, layers=0.5, hidden=hidden)
    settings = replace(SHORT, losses=(HiddenMSE(),), answers="online")
    given = training(teacher, material(teacher), settings, student)
    live = LiveOutputs(module_of(teacher), given.task, given.inputs.labels)
    taught = replace(given, answers=live)
    with ExitStack() as stack:
        (weighed,) = taught.attached(stack)
        count = sum(one.numel() for one in weighed[1].parameters())
        assert count == (24 * 12 if hidden == 0.5 else 0)
    *_, _ = taught.run([SHORT.steps])
    assert taught.losses[-1] < taught.losses[0]
    assert all(torch.isfinite(one).all() for one in student.model.parameters())


@pytest.mark.parametrize("kind", ["static", "convbert"])
def test_families_without_comparable_states_are_refused(kind: str) -> None:
    teacher = CASES["bert-sentences"].teacher()
    student = made(teacher, kind, hidden=0.5)
    with pytest.raises(Unsupported, match=rf"hidden states of {kind}"):
        HiddenMSE().attach(student, teacher)


def test_attention_is_refused() -> None:
    teacher = CASES["bert-sentences"].teacher()
    with pytest.raises(Unsupported, match="attention of text_cnn"):
        AttentionRelations().attach(made(teacher, "text_cnn"), teacher)
