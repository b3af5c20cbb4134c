"""Importance is what the calibration texts show, however they are batched."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import Activation, BadInput, Calibration, Teacher
from protege.spaces.kept import choose
from tests.tiny import CASES, batch

BASES = ["bert", "bert-masked", "llama", "llama-causal-grouped", "llama-texts"]


@pytest.fixture(params=BASES, scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    return CASES[request.param].teacher()


def one_by_one(given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Every text as a batch of its own, without any padding."""
    for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True):
        alone = ids[mask == 1][None]
        yield {"input_ids": alone, "attention_mask": torch.ones_like(alone)}


def padded(given: dict[str, Tensor], more: int) -> dict[str, Tensor]:
    """The same texts with more padding, of another token."""
    return {
        "input_ids": torch.nn.functional.pad(given["input_ids"], (0, more), value=7),
        "attention_mask": torch.nn.functional.pad(given["attention_mask"], (0, more)),
    }


def test_padding_and_batch_size_change_no_importance(teacher: Teacher) -> None:
    expected = Calibration.of(teacher, one_by_one(batch()))
    for batches in ([batch()], [padded(batch(), 11)]):
        found = Calibration.of(teacher, batches)
        assert_close(found.tensors(), expected.tensors(), rtol=1e-5, atol=1e-6)


def test_every_text_counts_once(teacher: Teacher) -> None:
    # the norm over two equal texts is sqrt(2) times the one over one
    once, twice = Calibration.of(teacher, [batch()]), Calibration.of(teacher, [batch(), batch()])
    for name, importance in once.tensors().items():
        assert_close(twice.tensors()[name], importance * 2**0.5)


def test_importance_is_given_for_every_unit(teacher: Teacher) -> None:
    own, found = teacher.architecture, Calibration.of(teacher, [batch()])
    assert found.hidden.shape == (own.hidden_size,)
    assert found.heads.shape == (own.num_hidden_layers, own.num_attention_heads)
    assert found.ffn.shape == (own.num_hidden_layers, own.intermediate_size)
    assert all(torch.isfinite(tensor).all() for tensor in found.tensors().values())


def test_listening_leaves_no_hook_behind(teacher: Teacher) -> None:
    Calibration.of(teacher, [batch()])
    modules = list(teacher.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_neurons_and_heads_that_do_nothing_have_no_importance() -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    layer: Any = teacher.model.base_model.get_submodule("layers.2")
    head = teacher.architecture.head_dim
    with torch.no_grad():
        for projection in (layer.mlp.gate_proj, layer.mlp.up_proj):
            projection.weight[5] = 0
            projection.bias[5] = 0
        layer.self_attn.v_proj.weight[:head] = 0  # the first group's values: heads 0, 1 and 2
        layer.self_attn.v_proj.bias[:head] = 0
    found = Calibration.of(teacher, [batch()])
    assert (found.ffn[2] == 0).nonzero().flatten().tolist() == [5]
    assert (found.heads[2] == 0).nonzero().flatten().tolist() == [0, 1, 2]
    assert (found.ffn[[0, 1, 3]] > 0).all()


def test_activation_keeps_the_units_that_were_made_loud(teacher: Teacher) -> None:
    own = teacher.architecture
    flat = Calibration.flat(own)
    loud = replace(flat, ffn=flat.ffn.clone(), hidden=flat.hidden.clone())
    loud.hidden[-8:] += 1
    loud.ffn[1, -16:] += 1
    student = own.scaled(hidden=0.4, intermediate=0.4, width_policy=Activation())
    kept = choose(own, student, loud)
    assert set(range(own.hidden_size - 8, own.hidden_size)) <= set(kept.hidden)
    assert kept.ffn[1] == tuple(range(own.intermediate_size - 16, own.intermediate_size))
    assert kept.ffn[0] == tuple(range(16))


def test_heads_are_chosen_within_their_groups() -> None:
    own = CASES["llama-causal-grouped"].teacher().architecture
    heads = torch.tensor([[1.0, 9.0, 8.0, 7.0, 2.0, 3.0]]).repeat(own.num_hidden_layers, 1)
    calibration = replace(Calibration.flat(own), heads=heads)
    fewer = choose(own, own.scaled(heads=2 / 3, width_policy=Activation()), calibration)
    assert fewer.heads[0] == (1, 2, 3, 5)  # two of either group, though the first has the louder
    assert fewer.kv_heads[0] == (0, 1)
    group = choose(own, own.scaled(kv_heads=0.5, width_policy=Activation()), calibration)
    assert group.heads[0] == (0, 1, 2)
    assert group.kv_heads[0] == (0,)


def test_the_choice_in_a_kept_layer_is_that_of_its_own_importance() -> None:
    own = CASES["bert"].teacher().architecture
    importance = torch.arange(own.num_hidden_layers * own.intermediate_size).float()
    ffn = importance.reshape(own.num_hidden_layers, -1).clone()
    ffn[3] = ffn[3].flip(0)
    calibration = replace(Calibration.flat(own), ffn=ffn)
    student = own.scaled(layers=0.5, intermediate=0.4, width_policy=Activation())
    deep = replace(student, layer_policy=student.layer_policy)
    kept = choose(own, deep, calibration)
    assert kept.layers == (0, 2)
    assert kept.ffn == (tuple(range(24, 40)),) * 2


def test_a_policy_that_needs_a_calibration_says_so() -> None:
    teacher = CASES["bert"].teacher()
    architecture = teacher.architecture.scaled(hidden=0.5, width_policy=Activation())
    with pytest.raises(BadInput, match="'activation' needs a calibration"):
        teacher.student(architecture)
