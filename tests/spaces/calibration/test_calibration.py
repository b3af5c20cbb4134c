"""Importance is what the calibration texts show, however they are batched."""

import weakref
from collections.abc import Iterator
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import Activation, BadInput, Calibration, Teacher, Uniform
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.plan import HEALED, CalibrationPlan
from protege.spaces.students.selection import choose
from tests.tiny import CASES, ZOO, batch, inputs_of
from tests.zoo import FLOWS, marked, teacher_of

BASES = ["bert", "bert-masked", "llama", "llama-causal-grouped", "mixtral-text-generation"]
BASES += ["t5-text2text-generation", "gpt2-text-generation", "qwen3_moe-feature-extraction"]

BY_HEADS = CalibrationPlan(heads_by=["gradient", "ablation"])


@pytest.fixture(params=BASES, scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    return ZOO[request.param].teacher()


def one_by_one(given: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Every text as a batch of its own, without any padding."""
    sides = [name.removesuffix("input_ids") for name in given if name.endswith("input_ids")]
    for row in range(len(given["input_ids"])):
        alone: dict[str, Tensor] = {}
        for side in sides:
            ids = given[f"{side}input_ids"][row][given[f"{side}attention_mask"][row] == 1][None]
            alone |= {f"{side}input_ids": ids, f"{side}attention_mask": torch.ones_like(ids)}
        yield alone


def padded(given: dict[str, Tensor], more: int) -> dict[str, Tensor]:
    """The same texts with more padding, of another token."""
    return {
        name: torch.nn.functional.pad(value, (0, more), value=7 if "ids" in name else 0)
        for name, value in given.items()
    }


def test_padding_and_batch_size_change_no_importance(teacher: Teacher) -> None:
    given = inputs_of(teacher)
    expected = Calibration.measured(teacher, one_by_one(given))
    for batches in ([given], [padded(given, 11)]):
        found = Calibration.measured(teacher, batches)
        assert_close(found.tensors(), expected.tensors(), rtol=1e-4, atol=1e-6)


def test_every_text_counts_once(teacher: Teacher) -> None:
    # the norm over two equal texts is sqrt(2) times the one over one
    given = inputs_of(teacher)
    once, twice = (Calibration.measured(teacher, some) for some in ([given], [given, given]))
    for name, importance in once.tensors().items():
        # tokens are counted; what is a mean over tokens stays
        more = {"vocab": 2.0, "wanda": 1.0, "energy": 1.0}.get(name.rpartition(".")[2], 2**0.5)
        assert_close(twice.tensors()[name], importance * more)


@pytest.mark.parametrize("name", marked(FLOWS))
def test_importance_is_measured_for_every_unit_of_every_family(name: str) -> None:
    teacher = teacher_of(name)
    flat = Calibration.flat(teacher.layout).tensors()
    found = Calibration.measured(teacher, [inputs_of(teacher)]).tensors()
    assert {n: found[n].shape for n in flat} == {n: t.shape for n, t in flat.items()}
    assert all(torch.isfinite(tensor).all() for tensor in found.values())
    unseen = {name for name in flat if found[name].numel() and (found[name] == 1).all()}
    # torch runs the attention of SigLIP's pooler in one piece that no hook looks into
    assert unseen <= {"pooler.heads"}


def test_tokens_are_counted_and_padding_is_not() -> None:
    given = batch()
    found = Calibration.measured(CASES["bert"].teacher(), [given]).vocab
    assert found.sum() == given["attention_mask"].sum()
    token = int(given["input_ids"][0, 0])
    assert found[token] == (given["input_ids"][given["attention_mask"] == 1] == token).sum()


def test_listening_leaves_no_hook_behind(teacher: Teacher) -> None:
    Calibration.measured(teacher, [inputs_of(teacher)], BY_HEADS)
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
    found = Calibration.measured(teacher, [batch()])
    heads, ffn = found.units("heads", "decoder"), found.units("ffn", "decoder")
    assert (ffn[2] == 0).nonzero().flatten().tolist() == [5]
    assert (heads[2] == 0).nonzero().flatten().tolist() == [0, 1, 2]
    assert (ffn[[0, 1, 3]] > 0).all()


def told(teacher: Teacher, **importance: Tensor) -> Calibration:
    """A calibration that knows of some units what it is told, and of all others nothing."""
    flat = Calibration.flat(teacher.layout).tensors()
    return Calibration({**flat, **{n.replace("_", "."): t for n, t in importance.items()}})


def test_activation_keeps_the_units_that_were_made_loud() -> None:
    teacher = CASES["bert"].teacher()
    own = teacher.architecture
    hidden, ffn = torch.ones(own.hidden_size), torch.ones(4, own.intermediate_size)
    hidden[-8:] += 1
    ffn[1, -16:] += 1
    student = own.scaled(hidden=0.4, intermediate=0.4, width_policy=Activation())
    kept = choose(teacher.layout, student, told(teacher, hidden=hidden, encoder_ffn=ffn))
    assert set(range(own.hidden_size - 8, own.hidden_size)) <= set(kept.hidden)
    layers = kept.stacks["encoder"]
    assert layers[1].units["ffn"] == tuple(range(own.intermediate_size - 16, 40))
    assert layers[0].units["ffn"] == tuple(range(16))


def test_heads_are_chosen_within_their_groups() -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    own = teacher.architecture
    heads = torch.tensor([[1.0, 9.0, 8.0, 7.0, 2.0, 3.0]]).repeat(own.num_hidden_layers, 1)
    calibration = told(teacher, decoder_heads=heads)
    fewer = own.scaled(heads=2 / 3, width_policy=Activation())
    first = choose(teacher.layout, fewer, calibration).stacks["decoder"][0].units
    assert first["heads"] == (1, 2, 3, 5)  # two of either group, though the first has the louder
    assert first["kv_heads"] == (0, 1)
    group = own.scaled(kv_heads=0.5, width_policy=Activation())
    first = choose(teacher.layout, group, calibration).stacks["decoder"][0].units
    assert first["heads"] == (0, 1, 2)
    assert first["kv_heads"] == (0,)


def test_heads_are_ranked_by_the_criterion_that_the_policy_names() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    own = teacher.architecture
    found = Calibration.measured(teacher, [batch()], BY_HEADS)
    for criterion in get_args(HeadsBy):
        policy = Activation(heads_by=criterion)
        student = own.scaled(kv_heads=0.5, width_policy=policy)
        importance = found.units("heads", "decoder", policy.criterion("heads"))
        kept = choose(teacher.layout, student, found)
        for layer in kept.stacks["decoder"]:
            best = importance[layer.number].topk(3).indices.sort().values
            assert layer.units["heads"] == tuple(best.tolist())
    names = {Activation(heads_by=c).name for c in get_args(HeadsBy)}
    assert len(names) == len(get_args(HeadsBy))


def test_where_all_layers_share_their_heads_they_are_ranked_over_all() -> None:
    teacher = ZOO["mpnet-feature-extraction"].teacher()
    heads = torch.zeros(4, 6)
    heads[0, 0], heads[1, 5], heads[2, 3], heads[3, 3] = 3.0, 4.0, 3.5, 3.5
    student = teacher.architecture.scaled(hidden=1 / 3, width_policy=Activation())
    kept = choose(teacher.layout, student, told(teacher, encoder_heads=heads))
    assert {layer.units["heads"] for layer in kept.stacks["encoder"]} == {(3, 5)}


def test_experts_that_the_router_likes_are_kept_with_their_own_neurons() -> None:
    teacher = ZOO["mixtral-text-generation"].teacher()
    experts, neurons = torch.zeros(4, 5), torch.zeros(4, 5, 16)
    experts[:, [1, 4]] = 1.0
    neurons[:, 1, 8:], neurons[:, 4, :8] = 1.0, 1.0
    student = teacher.architecture.scaled(
        experts=0.4, moe_intermediate=0.5, width_policy=Activation()
    )
    importance = {"decoder_experts": experts, "decoder.expert_ffn": neurons}
    flat = Calibration.flat(teacher.layout).tensors()
    calibration = Calibration(
        {**flat, **{n.replace("r_e", "r.e"): t for n, t in importance.items()}}
    )
    for layer in choose(teacher.layout, student, calibration).stacks["decoder"]:
        assert layer.units["experts"] == (1, 4)
        assert layer.units["expert_ffn"] == (tuple(range(8, 16)), tuple(range(8)))


def test_the_choice_in_a_kept_layer_is_that_of_its_own_importance() -> None:
    teacher = CASES["bert"].teacher()
    own = teacher.architecture
    importance = torch.arange(own.num_hidden_layers * own.intermediate_size).float()
    ffn = importance.reshape(own.num_hidden_layers, -1).clone()
    ffn[3] = ffn[3].flip(0)
    student = own.scaled(
        layers=0.5, intermediate=0.4, layer_policy=Uniform(), width_policy=Activation()
    )
    kept = choose(teacher.layout, student, told(teacher, encoder_ffn=ffn))
    assert kept.layers("encoder") == (0, 2)
    assert [layer.units["ffn"] for layer in kept.stacks["encoder"]] == [tuple(range(24, 40))] * 2


def test_a_policy_that_needs_a_calibration_says_so() -> None:
    teacher = CASES["bert"].teacher()
    architecture = teacher.architecture.scaled(hidden=0.5, width_policy=Activation())
    with pytest.raises(BadInput, match="'activation' needs a calibration"):
        teacher.student(architecture)


def test_batches_are_read_one_by_one_and_let_go() -> None:
    """There may be more of them than memory has room for."""
    teacher = CASES["llama-causal-grouped"].teacher()
    alive: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[dict[str, Tensor]]:
        for _ in range(4):
            assert sum(one() is not None for one in alive) <= 1
            made = {name: values.clone() for name, values in inputs_of(teacher).items()}
            alive.append(weakref.ref(made["input_ids"]))
            yield made

    Calibration.measured(teacher, batches(), CalibrationPlan(moments=HEALED))
    assert len(alive) == 4
