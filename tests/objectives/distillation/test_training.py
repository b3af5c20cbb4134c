"""A short distillation teaches every kind of student, the same way each time, halts or not."""

from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from protege.objectives import (
    AttentionRelations,
    Distillation,
    HardLabels,
    HiddenMSE,
    LogitsKL,
    LogitsMSE,
    VectorCosine,
    VectorMSE,
)
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.teacher_outputs import LiveOutputs
from protege.objectives.distillation.training import LOST, Training
from protege.spaces import ProtegeError, Student, Teacher
from tests.objectives.distillation.taught import (
    SHORT,
    asked,
    finished,
    material,
    module_of,
    noted,
    taught,
    training,
    weights,
)
from tests.tiny import CASES, save

EXACT = replace(SHORT, precision="float32")


def same(one: Student, other: Student) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_every_kind_of_student_learns(teacher: Teacher) -> None:
    found = taught(teacher, material(teacher))
    assert len(found.losses) == SHORT.steps
    assert sum(found.losses[-3:]) < 0.9 * sum(found.losses[:3])
    assert all(torch.isfinite(tensor).all() for tensor in weights(found.student).values())
    assert not found.student.module.training


def test_a_teacher_on_disk_answers_online_and_is_looked_into(tmp_path: Path) -> None:
    folder = save(CASES["llama-causal-grouped"].teacher(), tmp_path)
    settings = replace(EXACT, steps=3, losses=(LogitsKL(), HiddenMSE()), answers="online")
    found = []
    for placed in ({}, {"device_map": "auto", "max_memory": {"cpu": 20_000}}):
        teacher = Teacher.load(folder, **placed)  # type: ignore[arg-type]
        task, inputs = settings.tuned(distillation_task(teacher)), asked(teacher)
        online = LiveOutputs(module_of(teacher), task, inputs.labels)
        found.append(taught(teacher, (inputs, {}), settings, answers=online))
    assert found[1].losses == pytest.approx(found[0].losses, rel=1e-5)


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_a_seed_fixes_the_run(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    one, other = taught(teacher, given), taught(teacher, given)
    assert one.losses == other.losses
    assert same(one.student, other.student)
    assert taught(teacher, given, seed=1).losses != one.losses


TAKEN_UP = {
    "lazy embeddings": ("bert-sentences", {"batch_size": 4}),
    "tied": ("llama-causal-tied", {}),
    "rates by layer": ("bert-masked", {"layer_decay": 0.5}),
    "in parts": ("bert-sentences-dense", {"accumulate": 2}),
    "projections": ("bert-sentences", {"losses": (VectorCosine(), HiddenMSE())}),
}


@pytest.mark.parametrize(("name", "changes"), TAKEN_UP.values(), ids=TAKEN_UP)
@pytest.mark.parametrize(
    "at", [pytest.param(1, marks=pytest.mark.slow), 5, pytest.param(11, marks=pytest.mark.slow)]
)
def test_a_training_that_is_taken_up_ends_as_one_that_was_not_cut_short(
    name: str, changes: dict[str, Any], at: int
) -> None:
    teacher = CASES[name].teacher()
    given, settings = material(teacher), replace(SHORT, **changes)
    answers: dict[str, Any] = {}
    if settings.hidden_losses:
        answers["answers"] = LiveOutputs(
            module_of(teacher), distillation_task(teacher), given[0].labels
        )
    whole = taught(teacher, given, settings, **answers)
    first = training(teacher, given, settings, **answers)
    assert next(first.run([at])) == at
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    second = training(teacher, given, settings, resumed_from=state, **answers)
    assert list(second.run([settings.steps])) == [settings.steps]
    assert second.losses == whole.losses
    assert same(second.student, whole.student)


def test_different_students_of_a_study_see_the_same_batches() -> None:
    teacher = CASES["bert-sentences"].teacher()
    given = material(teacher)
    seen: list[list[Tensor]] = []
    for ratio in (0.25, 0.75):
        student = teacher.student(teacher.architecture.scaled(layers=ratio))
        ids: list[Tensor] = []
        student.model.get_input_embeddings().register_forward_pre_hook(
            lambda _module, inputs, ids=ids: ids.append(inputs[0])
        )
        taught(teacher, given, student=student)
        seen.append(ids)
    assert len(seen[0]) == SHORT.steps
    assert all(torch.equal(one, other) for one, other in zip(*seen, strict=True))


def test_teaching_a_student_leaves_its_teacher_as_it_was(teacher: Teacher) -> None:
    before = deepcopy(teacher.model.state_dict())
    taught(teacher, material(teacher))
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())


def test_tied_weights_stay_tied() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    student = taught(teacher, material(teacher)).student
    names = ("model.embed_tokens.weight", "lm_head.weight")
    inputs, outputs = (student.model.state_dict()[name] for name in names)
    assert inputs.data_ptr() == outputs.data_ptr()


def test_each_step_is_announced() -> None:
    teacher = CASES["bert-texts"].teacher()
    told, announce = noted()
    taught(teacher, material(teacher), announce=announce)
    assert told == [f"distil {step}/12" for step in range(1, 13)]


@pytest.mark.parametrize("name", ["bert-sentences-dense", "bert-masked", "llama-causal-tied"])
def test_a_run_that_halts_ends_as_one_that_does_not(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    straight, halting = taught(teacher, given), training(teacher, given)
    ways: list[int] = []
    for step in halting.run([0, 4, 12]):
        ways.append(step)
        assert len(halting.losses) == step
        # as a study does at a rung: look at it, without a trace
        judged = asked(teacher).batch([0, 1, 2])
        halting.student.module.eval()
        with torch.inference_mode():
            halting.task.answer(halting.student.module, judged)
    assert ways == [0, 4, 12]
    assert halting.losses == straight.losses
    assert same(halting.student, straight.student)


def test_a_run_that_nobody_asks_on_has_done_no_more_than_it_was_asked() -> None:
    teacher = CASES["bert-texts"].teacher()
    told, announce = noted()
    found = training(teacher, material(teacher), announce=announce)
    for step in found.run([4, 12]):
        assert step == 4
        break
    assert told[-1] == "distil 4/12"
    assert len(found.losses) == 4


@pytest.mark.parametrize("name", ["bert-sentences", "bert-masked", "llama-causal-tied"])
def test_a_batch_in_parts_teaches_what_it_teaches_whole(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    whole = taught(teacher, given, EXACT)
    parts = taught(teacher, given, replace(EXACT, accumulate=4))
    assert parts.losses == pytest.approx(whole.losses, rel=1e-3)
    assert gradients(teacher, 4) == pytest.approx(gradients(teacher, 1), rel=1e-4, abs=1e-7)


def gradients(teacher: Teacher, accumulate: int) -> list[float]:
    """Of a few parameters after one step, before any of them moves."""
    once = replace(EXACT, steps=1, learning_rate=1e-30, accumulate=accumulate, max_gradient=1e9)
    found = training(teacher, material(teacher), once)
    parameters = list(found.student.module.parameters())
    seen = [0.0] * len(parameters)

    def note(at: int, parameter: Tensor) -> None:
        assert parameter.grad is not None
        seen[at] = float(parameter.grad.norm())  # of the last part it is the sum of all

    for at, parameter in enumerate(parameters):
        parameter.register_post_accumulate_grad_hook(partial(note, at))
    finished(found)
    assert any(seen)
    return seen


def test_a_batch_in_parts_is_read_in_parts() -> None:
    teacher = CASES["bert-sentences"].teacher()
    found = training(teacher, material(teacher), replace(SHORT, accumulate=4))
    sizes: list[int] = []
    found.student.model.get_input_embeddings().register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    finished(found)
    # sixty sequences are three batches of sixteen and one of twelve
    assert len(sizes) == 4 * SHORT.steps
    assert set(sizes) == {4, 3}


def test_a_batch_that_asks_nothing_teaches_nothing() -> None:
    teacher = CASES["bert-masked"].teacher()
    unknown = [f"x{number}" for number in range(4)]  # only words that are known can be masked
    settings = replace(SHORT, batch_size=1, accumulate=2)
    inputs = asked(teacher, [*unknown, "w1 w2 w3"])
    assert inputs.row_starts.diff().tolist() == [0, 0, 0, 0, 1]
    answers = LiveOutputs(module_of(teacher), distillation_task(teacher), inputs.labels)
    found = taught(teacher, (inputs, {}), settings, answers=answers)
    # once an epoch of five the batch is the one that asks something
    asking = [step for step, loss in enumerate(found.losses) if loss > 0]
    assert [step // 5 for step in asking] == [0, 1, 2]
    assert all(torch.isfinite(tensor).all() for tensor in weights(found.student).values())


def test_a_run_that_diverges_says_at_which_step_and_what_to_lower() -> None:
    teacher = CASES["bert-texts"].teacher()
    wild = replace(SHORT, steps=9, batch_size=8, learning_rate=1e30, warmup=0)
    message = (
        r"diverged at step \d of 9 \(loss (nan|inf|\d.*), norm of the gradient (nan|inf)\); "
        r"lower learning_rate=1e\+30 or raise warmup=0"
    )
    with pytest.raises(ProtegeError, match=message):
        taught(teacher, material(teacher), wild)


DESTROYED = {"bert-texts": 10.0, "bert-masked": 1.0, "llama-causal-tied": 10.0}
"""Rates at which students lose all that they came with, and yet no loss is infinite."""


@pytest.mark.parametrize("name", DESTROYED)
def test_a_student_that_has_lost_what_it_knew_is_no_longer_taught(name: str) -> None:
    teacher = CASES[name].teacher()
    rate, knowing = DESTROYED[name], teacher.student(teacher.architecture.scaled(layers=0.75))
    wild = replace(SHORT, steps=60, learning_rate=rate, warmup=0.5)
    found = training(teacher, material(teacher), wild, knowing)
    message = (
        rf"diverged: at step \d+ of 60 the student is worse than all-zero outputs "
        rf"\(loss .*, at first .*\); lower learning_rate={rate:g}"
    )
    with pytest.raises(ProtegeError, match=message):
        finished(found)
    assert 2 * LOST <= len(found.losses) < 60


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-tied"])
def test_one_that_never_knew_anything_may_go_on_learning(name: str) -> None:
    teacher = CASES[name].teacher()
    drawn = teacher.fresh(teacher.architecture.scaled(layers=0.5), how="random")
    found = training(teacher, material(teacher), replace(SHORT, steps=2 * LOST + 5), drawn)
    assert len(finished(found).losses) == 2 * LOST + 5


TERMS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "vectors": ("bert-sentences", (VectorCosine(0.3), VectorMSE(2.0))),
    "labels": ("bert-texts", (LogitsMSE(0.5), HardLabels(0.25))),
}


@pytest.mark.parametrize("kind", TERMS)
def test_the_loss_is_the_weighted_sum_of_its_terms(kind: str) -> None:
    name, terms = TERMS[kind]
    teacher = CASES[name].teacher()
    first = [first_loss(teacher, *some) for some in (terms, terms[:1], terms[1:])]
    assert first[0] == pytest.approx(first[1] + first[2], rel=1e-6)
    plain = first_loss(teacher, replace(terms[0], weight=1.0))
    assert first[1] == pytest.approx(terms[0].weight * plain, rel=1e-6)


def first_loss(teacher: Teacher, *terms: Any) -> float:
    once = replace(EXACT, steps=1, losses=terms)
    return taught(teacher, material(teacher), once).losses[0]


@pytest.mark.parametrize(
    ("name", "term"),
    [
        ("bert-sentences", HiddenMSE(0.5)),
        ("bert-texts", AttentionRelations(2.0)),
        ("llama-causal-tied", HiddenMSE(1.0)),
    ],
)
def test_losses_that_look_inside_are_minimised_too(name: str, term: Any) -> None:
    teacher = CASES[name].teacher()
    settings = replace(EXACT, steps=20, losses=(*distillation_task(teacher).losses, term))
    found = listening(teacher, settings)
    without = listening(teacher, replace(settings, losses=()))
    assert found.losses[0] > without.losses[0]
    assert sum(found.losses[-3:]) < 0.95 * sum(found.losses[:3])
    # nobody listens any more
    assert not any(module._forward_hooks for module in teacher.model.modules())
    assert not any(module._forward_hooks for module in found.student.model.modules())


def listening(teacher: Teacher, settings: Distillation) -> Training:
    """A narrower student taught by a teacher that is asked at every step."""
    inputs = asked(teacher)
    answers = LiveOutputs(
        module_of(teacher), settings.tuned(distillation_task(teacher)), inputs.labels
    )
    student = teacher.student(teacher.architecture.scaled(layers=0.5, hidden=0.5))
    return taught(teacher, (inputs, {}), settings, student=student, answers=answers)
