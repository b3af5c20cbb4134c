"""A short distillation teaches every kind of student, the same way each time."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protege.objectives import Distillation
from protege.objectives.distillation.classes import NO_LABEL
from protege.objectives.distillation.distillation import _groups, remember
from protege.objectives.distillation.lesson import Targets
from protege.objectives.distillation.sequences import Sequences
from protege.objectives.retention import lesson_of
from protege.spaces import (
    BadInput,
    ProtegeError,
    Student,
    Teacher,
    Unsupported,
    layers_above,
)
from tests.tiny import CASES, ZOO, Case, texts

SHORT = Distillation(steps=12, batch_size=16, learning_rate=3e-3, max_tokens=16)
Material = tuple[Sequences, Targets]


def material(teacher: Teacher) -> Material:
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(60), [NO_LABEL] * 60, SHORT.max_tokens)
    return sequences, remember(teacher.embedder() or teacher.model, lesson, sequences, 32)


def half(teacher: Teacher) -> Student:
    return teacher.student(teacher.architecture.scaled(layers=0.5, intermediate=0.5))


def taught(teacher: Teacher, given: Material, *, seed: int = 0) -> tuple[list[float], Student]:
    student = half(teacher)
    return SHORT.teach(student.module, lesson_of(teacher), *given, seed), student


def weights(student: Student) -> dict[str, Tensor]:
    return student.module.state_dict()


def test_every_kind_of_student_learns(teacher: Teacher) -> None:
    losses, student = taught(teacher, material(teacher))
    assert len(losses) == SHORT.steps
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert all(torch.isfinite(tensor).all() for tensor in weights(student).values())
    assert not student.module.training


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_a_seed_fixes_the_run(name: str) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    losses, student = taught(teacher, given)
    again, same = taught(teacher, given)
    assert again == losses
    assert all(torch.equal(weights(student)[n], weights(same)[n]) for n in weights(same))
    assert taught(teacher, given, seed=1)[0] != losses


def test_different_students_of_a_study_see_the_same_batches() -> None:
    teacher = CASES["bert-sentences"].teacher()
    sequences, targets = material(teacher)
    seen: list[list[Tensor]] = []
    for ratio in (0.25, 0.75):
        student = teacher.student(teacher.architecture.scaled(layers=ratio))
        ids: list[Tensor] = []
        student.model.get_input_embeddings().register_forward_pre_hook(
            lambda _module, inputs, ids=ids: ids.append(inputs[0])
        )
        SHORT.teach(student.module, lesson_of(teacher), sequences, targets, 0)
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
    _, student = taught(teacher, material(teacher))
    names = ("model.embed_tokens.weight", "lm_head.weight")
    inputs, outputs = (student.model.state_dict()[name] for name in names)
    assert inputs.data_ptr() == outputs.data_ptr()


def test_a_run_that_diverges_says_at_which_step_and_what_to_lower() -> None:
    teacher = CASES["bert-texts"].teacher()
    student = half(teacher)
    wild = Distillation(steps=9, batch_size=8, learning_rate=1e30, warmup=0, max_tokens=16)
    message = r"diverged at step \d of 9 \(loss (nan|inf)\); lower learning_rate=1e\+30"
    with pytest.raises(ProtegeError, match=message):
        wild.teach(student.module, lesson_of(teacher), *material(teacher), seed=0)


def test_each_step_is_announced() -> None:
    teacher = CASES["bert-texts"].teacher()
    told: list[str] = []
    lesson = lesson_of(teacher)
    SHORT.teach(half(teacher).module, lesson, *material(teacher), 0, told.append)
    assert told == [f"distil {step}/12" for step in range(1, 13)]


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 10, 200])
def test_the_rate_rises_to_its_peak_and_falls_towards_zero(steps: int, warmup: float) -> None:
    paces = [Distillation(steps=steps, warmup=warmup)._pace(step) for step in range(steps)]
    assert all(0 < pace <= 1 for pace in paces)
    assert max(paces) == 1
    peak = paces.index(1)
    assert paces[: peak + 1] == sorted(paces[: peak + 1])
    assert paces[peak:] == sorted(paces[peak:], reverse=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": -1},
        {"steps": 1.5},
        {"batch_size": 0},
        {"max_tokens": 1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"warmup": 1.1},
        {"warmup": -0.1},
        {"layer_decay": 0.0},
        {"layer_decay": 1.5},
        {"layer_decay": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(BadInput, match=rf"{name}={settings[name]!r}.*: expected a"):
        Distillation(**settings)


LAYERED = replace(SHORT, learning_rate=1.0, layer_decay=0.5)
"""Rates are powers of a half: each tells how many layers stand above."""


def rates(module: nn.Module, settings: Distillation = LAYERED) -> dict[str, float]:
    """The peak rate of each trained parameter, every one of which is in a single group."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, float] = {}
    for group in _groups(module, settings):
        parameters: Any = group["params"]
        for parameter in parameters:
            name = names[id(parameter)]
            assert name not in found
            assert group["weight_decay"] == (settings.weight_decay if parameter.ndim > 1 else 0)
            found[name] = float(str(group["lr"]))
    return found


@pytest.mark.parametrize("case", ZOO.values(), ids=ZOO)
def test_every_trained_parameter_has_one_rate_and_the_embedding_the_lowest(case: Case) -> None:
    teacher = case.teacher()
    module = teacher.embedder() or teacher.model
    found = rates(module)
    assert set(found) == {name for name, p in module.named_parameters() if p.requires_grad}
    depth = max(teacher.layout.depths.values())
    assert {0.5**above for above in range(depth + 1)} == set(found.values())
    embedding = teacher.model.get_input_embeddings()
    lowest = {id(p) for name, p in module.named_parameters() if found.get(name) == 0.5**depth}
    assert lowest & {id(p) for p in embedding.parameters()}


def test_rates_of_an_embedder_follow_its_layers() -> None:
    teacher = CASES["bert-sentences-dense"].teacher()
    student = teacher.student(teacher.architecture.scaled(layers=0.75))
    found = rates(student.module)
    assert found["projection.weight"] == found["projection.bias"] == 1
    for layer, rate in enumerate((0.25, 0.5, 1)):
        layered = f"transformer.encoder.layer.{layer}."
        assert {found[name] for name in found if name.startswith(layered)} == {rate}
    embeddings = "transformer.embeddings."
    assert {found[name] for name in found if name.startswith(embeddings)} == {0.125}
    assert found["transformer.pooler.dense.weight"] == 1


def test_rates_of_a_decoder_whose_head_is_its_embedding() -> None:
    found = rates(half(CASES["llama-causal-tied"].teacher()).module)
    assert "lm_head.weight" not in found
    assert found["model.embed_tokens.weight"] == 0.25
    assert found["model.layers.0.mlp.down_proj.weight"] == 0.5
    assert found["model.layers.1.input_layernorm.weight"] == found["model.norm.weight"] == 1


def test_rates_of_a_decoder_with_a_head_of_its_own() -> None:
    found = rates(half(CASES["llama-causal-grouped"].teacher()).module)
    assert (found["model.embed_tokens.weight"], found["lm_head.weight"]) == (0.25, 1)


def test_rates_of_a_pair_follow_each_stack() -> None:
    found = rates(ZOO["t5-text2text-generation"].teacher().model)
    assert found["shared.weight"] == 0.5**4
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert found[f"encoder.{bias}"] == found[f"decoder.{bias}"] == 0.5**4
    query = "layer.0.SelfAttention.q.weight"
    assert [found[f"encoder.block.{n}.{query}"] for n in range(4)] == [0.125, 0.25, 0.5, 1]
    assert [found[f"decoder.block.{n}.{query}"] for n in range(3)] == [0.25, 0.5, 1]
    assert found["encoder.final_layer_norm.weight"] == 1


def test_a_shared_parameter_counts_as_the_earlier_under_each_of_its_names() -> None:
    teacher = CASES["bert-masked"].teacher()
    found = layers_above(teacher.family, teacher.model)
    names = ("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")
    assert [found[name] for name in names] == [4, 4]
    assert found["cls.predictions.bias"] == found["cls.predictions.transform.dense.bias"] == 0


def test_a_step_moves_late_layers_more() -> None:
    teacher = CASES["bert-texts"].teacher()
    student = teacher.student(teacher.architecture.scaled(intermediate=0.5))
    before = deepcopy(weights(student))
    once = replace(SHORT, steps=1, warmup=0, weight_decay=0, layer_decay=0.5)
    once.teach(student.module, lesson_of(teacher), *material(teacher), seed=0)
    places = ["embeddings.word_embeddings.weight"]
    places += [f"encoder.layer.{n}.output.dense.weight" for n in range(4)]
    moved = [(weights(student)[f"bert.{n}"] - before[f"bert.{n}"]).abs().max() for n in places]
    # Adam's first step is as long as the rate, whatever the gradient
    expected = [once.learning_rate * 0.5**above for above in (4, 3, 2, 1, 0)]
    torch.testing.assert_close(torch.stack(moved), torch.tensor(expected), rtol=1e-2, atol=0)


def test_a_decay_of_one_is_none_at_all() -> None:
    teacher = CASES["bert-sentences-dense"].teacher()
    given, student = material(teacher), half(teacher)
    losses, plain = taught(teacher, given)
    same = replace(SHORT, layer_decay=1.0)
    assert len(_groups(student.module, same)) == 2
    assert same.teach(student.module, lesson_of(teacher), *given, seed=0) == losses
    assert all(torch.equal(weights(student)[n], weights(plain)[n]) for n in weights(plain))


def test_rates_by_layer_need_a_model_whose_layers_are_known() -> None:
    with pytest.raises(Unsupported, match="by layer of a Linear: expected a transformers model"):
        _groups(nn.Linear(2, 2), LAYERED)
