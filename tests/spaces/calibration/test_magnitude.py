"""A unit's magnitude is that of all weights that would go with it."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import Calibration, Magnitude, Selection, Teacher
from protege.spaces.students.cut import cut
from protege.spaces.students.selection import choose, everything
from tests.tiny import CASES, ZOO
from tests.zoo import FLOWS, marked, teacher_of


@pytest.mark.parametrize("name", marked(FLOWS))
def test_every_unit_of_every_family_weighs_something(name: str) -> None:
    teacher = teacher_of(name)
    flat = Calibration.flat(teacher.layout).tensors()
    found = Calibration.of_weights(teacher).tensors()
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in flat.items()}
    assert (found.pop("vocab") == 1).all()
    for stack, layer in teacher.layout.sites:
        for unit in teacher.layout.sites[stack, layer] - {"kv_heads"}:
            assert (found[f"{stack}.{unit}"][layer] > 0).all()
    assert (found["hidden"] > 0).all()


def of_bert(teacher: Teacher) -> dict[str, Tensor]:
    """BERT's weights by the names of its first layer's modules."""
    tensors = {n.removeprefix("bert."): t for n, t in teacher.model.state_dict().items()}
    prefix = "encoder.layer.0."
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def norm(*weights: Tensor) -> Tensor:
    whole = torch.cat([weight.flatten() for weight in weights])
    return whole.square().sum().sqrt()


def test_heads_and_neurons_of_bert_are_summed_by_hand() -> None:
    teacher = CASES["bert-masked"].teacher()
    own, found = of_bert(teacher), Calibration.of_weights(teacher)
    size = teacher.architecture.head_dim
    for head in range(teacher.architecture.num_attention_heads):
        rows = slice(head * size, (head + 1) * size)
        reads = [own[f"attention.self.{n}.weight"][rows] for n in ("query", "key", "value")]
        reads += [own[f"attention.self.{n}.bias"][rows] for n in ("query", "key", "value")]
        expected = norm(*reads, own["attention.output.dense.weight"][:, rows])
        assert_close(found.units("heads", "encoder")[0, head], expected)
    for neuron in range(teacher.architecture.intermediate_size):
        write = [own["intermediate.dense.weight"][neuron], own["intermediate.dense.bias"][neuron]]
        expected = norm(*write, own["output.dense.weight"][:, neuron])
        assert_close(found.units("ffn", "encoder")[0, neuron], expected)


def test_a_group_weighs_what_its_heads_keys_and_values_do() -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    attention: Any = teacher.model.get_submodule("model.layers.2.self_attn")
    heads = Calibration.of_weights(teacher).units("heads", "decoder")[2]
    size = teacher.architecture.head_dim
    for group, found in enumerate(heads.unflatten(0, (2, 3)).norm(dim=1)):
        own = slice(group * size, (group + 1) * size)
        query = slice(3 * group * size, 3 * (group + 1) * size)
        shared = [attention.k_proj, attention.v_proj]
        weights = [getattr(p, kind)[own] for p in shared for kind in ("weight", "bias")]
        weights += [attention.q_proj.weight[query], attention.q_proj.bias[query]]
        assert_close(found, norm(*weights, attention.o_proj.weight[:, query]).detach())


@pytest.mark.parametrize("name", ["gpt2-text-generation", "phi3-text-generation"])
def test_fused_and_transposed_tensors_are_taken_apart(name: str) -> None:
    # the square of a unit's magnitude is what the model's weights lose when it alone is cut
    teacher = ZOO[name].teacher()
    found = Calibration.of_weights(teacher)
    before = total(teacher, everything(teacher.layout))
    squares = found.units("ffn", "decoder")[1].double().square()
    for unit in (0, 7):
        assert_close(
            before - total(teacher, without(teacher, unit)), squares[unit], rtol=1e-4, atol=1e-4
        )


def without(teacher: Teacher, neuron: int) -> Selection:
    """Everything but one neuron of the second layer."""
    whole = everything(teacher.layout)
    layers = list(whole.stacks["decoder"])
    units: dict[str, Any] = dict(layers[1].units)
    units["ffn"] = tuple(unit for unit in units["ffn"] if unit != neuron)
    layers[1] = type(layers[1])(layers[1].number, units)
    return Selection(whole.hidden, {**whole.stacks, "decoder": tuple(layers)}, whole.vocab)


def total(teacher: Teacher, kept: Selection) -> Tensor:
    """The sum of squares of all weights, those that are tied counted once."""
    tensors = cut(teacher.model.state_dict(), teacher.layout, kept)
    own = {tensor.data_ptr(): tensor for tensor in tensors.values()}
    return torch.stack([tensor.double().square().sum() for tensor in own.values()]).sum()


def test_experts_and_their_neurons_are_summed_by_hand() -> None:
    teacher = ZOO["mixtral-text-generation"].teacher()
    found = Calibration.of_weights(teacher)
    layer: Any = teacher.model.get_submodule("model.layers.1.mlp")
    into, out, router = layer.experts.gate_up_proj, layer.experts.down_proj, layer.gate.weight
    width = out.shape[2]
    for expert in range(5):
        expected = norm(into[expert], out[expert], router[expert])
        assert_close(found.units("experts", "decoder")[1, expert], expected.detach())
        for neuron in (0, 9):
            rows = [into[expert, neuron], into[expert, width + neuron], out[expert, :, neuron]]
            expected = norm(*rows).detach()
            assert_close(found.units("expert_ffn", "decoder")[1, expert, neuron], expected)


def test_tied_embeddings_count_once() -> None:
    teachers = [CASES["bert-masked"].teacher(), CASES["llama-causal-tied"].teacher()]
    for teacher in teachers:
        own = {t.data_ptr(): (n, t) for n, t in teacher.model.state_dict().items()}
        axes = {slot.name: slot.axes for slot in teacher.layout.slots}
        expected = torch.zeros(teacher.architecture.hidden_size, dtype=torch.float64)
        for name, tensor in own.values():
            for dimension, axis in enumerate(axes[name]):
                if axis == "hidden":
                    moved = tensor.double().movedim(dimension, -1)
                    expected += moved.reshape(-1, len(expected)).square().sum(0)
        assert_close(Calibration.of_weights(teacher).residual(), expected.sqrt().float())


def test_the_heaviest_units_are_kept() -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    layer: Any = teacher.model.get_submodule("model.layers.0.mlp")
    with torch.no_grad():
        layer.down_proj.weight[:, -8:] *= 10
    student = teacher.architecture.scaled(intermediate=0.2, width_policy=Magnitude())
    kept = choose(teacher.layout, student, Calibration.of_weights(teacher))
    assert kept.stacks["decoder"][0].units["ffn"] == tuple(range(32, 40))
    assert all(a < b for a, b in pairwise(kept.hidden))
