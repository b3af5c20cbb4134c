"""A student with random weights is one like those cut from the teacher, of which it has nothing."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from protege.spaces import Activation, BadInput, Initialisation, Student, Teacher
from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.sizes import RATIOS
from protege.spaces.files.manifest import MANIFEST, kept_tokens
from tests.tiny import CASES, ZOO, answer

HOW: tuple[Initialisation, ...] = ("random", "xavier")


def halved(teacher: Teacher) -> Architecture:
    """Half of everything that the family can do with less of."""
    own = teacher.architecture
    knobs = [r for r, size in RATIOS.items() if size in teacher.family.knobs and getattr(own, size)]
    ratios: Any = dict.fromkeys(knobs, 0.5)
    return own.scaled(**ratios, multiple_of=4)


def weights(student: Student) -> dict[str, Tensor]:
    return student.module.state_dict()


def tied(model: nn.Module) -> set[frozenset[str]]:
    """The groups of parameters that are one."""
    by_id: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        by_id.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in by_id.values() if len(names) > 1}


@pytest.mark.parametrize("how", HOW)
def test_it_is_built_as_a_cut_student_is_and_holds_nothing_of_the_teacher(
    teacher: Teacher, how: Initialisation
) -> None:
    architecture = halved(teacher)
    student, cut = teacher.fresh(architecture, how), teacher.student(architecture)
    assert type(student.model) is type(cut.model)
    assert student.model.config.to_dict() == cut.model.config.to_dict()
    assert student.architecture == architecture.resolved(None)
    mine, theirs = weights(student), weights(cut)
    assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in theirs.items()}
    assert tied(student.module) == tied(cut.module)
    trained = dict(student.module.named_parameters())
    same = [n for n, p in trained.items() if p.ndim > 1 and torch.equal(p, theirs[n])]
    assert same == []
    assert answer(student).isfinite().all()
    assert not student.module.training


@pytest.mark.parametrize("how", HOW)
def test_at_the_teachers_own_sizes_no_matrix_is_the_teachers(
    teacher: Teacher, how: Initialisation
) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    student = teacher.fresh(teacher.architecture, how)
    for name, parameter in student.model.named_parameters():
        assert parameter.ndim < 2 or not torch.equal(parameter, before[name])
    assert all(torch.equal(t, before[name]) for name, t in teacher.model.state_dict().items())


@pytest.mark.parametrize("how", HOW)
def test_a_seed_fixes_the_student_and_leaves_the_random_state_alone(how: Initialisation) -> None:
    teacher = CASES["bert-sentences"].teacher()
    architecture, state = halved(teacher), torch.get_rng_state()
    one, same, other = (weights(teacher.fresh(architecture, how, seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(one[name], same[name]) for name in one)
    matrices = [name for name in one if one[name].ndim > 1]
    assert not any(torch.equal(one[name], other[name]) for name in matrices)


def linear(module: nn.Module) -> Iterator[nn.Linear]:
    return (one for one in module.modules() if isinstance(one, nn.Linear))


def test_xavier_draws_matrices_uniformly_within_their_bound() -> None:
    teacher = CASES["bert-sentences"].teacher()
    student = teacher.fresh(teacher.architecture.scaled(hidden=0.5), "xavier")
    layers = list(linear(student.module))
    assert student.embedder is not None
    assert student.embedder.projection in layers
    for layer in layers:
        bound = math.sqrt(6 / (layer.in_features + layer.out_features))
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.15)
        assert not layer.bias.any()


def test_random_draws_matrices_with_the_spread_of_the_configuration() -> None:
    teacher = CASES["bert-sentences"].teacher()
    spread = teacher.model.config.initializer_range
    student = teacher.fresh(teacher.architecture.scaled(hidden=0.5), "random")
    for layer in linear(student.module):
        assert layer.weight.std().item() == pytest.approx(spread, rel=0.2)
        assert not layer.bias.any()


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-tied", "gemma2-text-generation"])
def test_xavier_leaves_all_but_matrices_as_the_class_makes_them(name: str) -> None:
    teacher = ZOO[name].teacher()
    architecture = halved(teacher)
    xavier, plain = (teacher.fresh(architecture, how).model for how in ("xavier", "random"))
    theirs = plain.state_dict()
    for key, parameter in xavier.named_parameters():  # a shared head goes by the embedding's name
        assert torch.equal(parameter, theirs[key]) is (parameter.ndim < 2 or "embed" in key)


def test_each_expert_is_a_matrix_of_its_own() -> None:
    teacher = ZOO["mixtral-text-generation"].teacher()
    student = teacher.fresh(teacher.architecture)
    experts = [p for n, p in student.model.named_parameters() if n.endswith("experts.down_proj")]
    bound = math.sqrt(6 / sum(experts[0].shape[1:]))
    assert all(0.9 * bound < one.abs().max() <= bound for layer in experts for one in layer)


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
@pytest.mark.parametrize("how", HOW)
def test_what_is_loaded_again_answers_as_what_was_saved(
    name: str, how: Initialisation, tmp_path: Path
) -> None:
    teacher = CASES[name].teacher()
    student = teacher.fresh(halved(teacher), how)
    loaded = Teacher.load(student.save(tmp_path), task=teacher.task)
    assert torch.equal(answer(loaded), answer(student))


def test_the_manifest_says_how_it_was_drawn_and_which_tokens_it_has(tmp_path: Path) -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    architecture = teacher.architecture.scaled(layers=0.5, vocab=0.5, multiple_of=4)
    student, cut = teacher.fresh(architecture, "random"), teacher.student(architecture)
    student.save(tmp_path)
    manifest = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["initialised"] == "random"
    assert manifest["architecture"] == architecture.resolved(None).fields()
    kept = manifest["kept"]
    assert (kept["layers"], kept["hidden"], kept["stacks"]) == ({}, [], {})
    assert kept_tokens(tmp_path) == student.kept.vocab == cut.kept.vocab
    assert student.tokenizer.get_vocab() == cut.tokenizer.get_vocab()
    assert "initialised" not in cut.manifest()


def test_a_policy_that_asks_for_a_calibration_asks_here_too() -> None:
    teacher = CASES["bert"].teacher()
    architecture = teacher.architecture.scaled(hidden=0.5, width_policy=Activation())
    with pytest.raises(BadInput, match="needs a calibration"):
        teacher.fresh(architecture)


def test_another_initialisation_is_refused_by_name() -> None:
    teacher, how = CASES["bert"].teacher(), "zeros"
    with pytest.raises(BadInput, match="how='zeros': expected 'random' or 'xavier'"):
        teacher.fresh(teacher.architecture, how)  # type: ignore[arg-type]
