"""Rates follow the layers: what serves all inputs alike changes least."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from protege.objectives import Distillation
from protege.objectives.distillation.optimizing import groups
from protege.spaces import Unsupported, layers_above
from tests.objectives.taught import SHORT, half, material, taught, weights
from tests.tiny import CASES, ZOO
from tests.zoo import FLOWS, teacher_of

LAYERED = replace(SHORT, learning_rate=1.0, layer_decay=0.5)
"""Rates are powers of a half: each tells how many layers stand above."""


def rates(module: nn.Module, settings: Distillation = LAYERED) -> dict[str, float]:
    """The peak rate of each trained parameter, every one of which is in a single group."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    found: dict[str, float] = {}
    for group in groups(module, settings):
        parameters: Any = group["params"]
        for parameter in parameters:
            name = names[id(parameter)]
            assert name not in found
            assert group["weight_decay"] == (settings.weight_decay if parameter.ndim > 1 else 0)
            found[name] = float(str(group["lr"]))
    return found


@pytest.mark.parametrize("name", FLOWS)
def test_every_trained_parameter_has_one_rate_and_the_embedding_the_lowest(name: str) -> None:
    teacher = teacher_of(name)
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
    once = replace(SHORT, steps=1, warmup=0, weight_decay=0, layer_decay=0.5, precision="fp32")
    taught(teacher, material(teacher), once, student=student)
    places = ["embeddings.word_embeddings.weight"]
    places += [f"encoder.layer.{n}.output.dense.weight" for n in range(4)]
    moved = [(weights(student)[f"bert.{n}"] - before[f"bert.{n}"]).abs().max() for n in places]
    # Adam's first step is as long as the rate, whatever the gradient
    expected = [once.learning_rate * 0.5**above for above in (4, 3, 2, 1, 0)]
    torch.testing.assert_close(torch.stack(moved), torch.tensor(expected), rtol=1e-2, atol=0)


def test_a_decay_of_one_is_none_at_all() -> None:
    teacher = CASES["bert-sentences-dense"].teacher()
    given, student = material(teacher), half(teacher)
    plain = taught(teacher, given)
    same = replace(SHORT, layer_decay=1.0)
    assert len(groups(student.module, same)) == 2
    assert taught(teacher, given, same, student=student).losses == plain.losses
    mine, theirs = weights(student), weights(plain.student)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_rates_by_layer_need_a_model_whose_layers_are_known() -> None:
    with pytest.raises(Unsupported, match="by layer of a Linear: expected a transformers model"):
        groups(nn.Linear(2, 2), LAYERED)
