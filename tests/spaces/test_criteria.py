"""Units are ranked by what each criterion says of them."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import (
    Activation,
    BadInput,
    Calibration,
    Magnitude,
    Taylor,
    Teacher,
    Wanda,
)
from protege.spaces.calibration.importance import losses
from protege.spaces.students.selection import choose
from tests.tiny import ZOO, batch, inputs_of

WRITING = ["llama-causal-grouped", "gpt2-text-generation", "t5-text2text-generation"]
WRITING += ["whisper-automatic-speech-recognition"]


def test_nothing_costly_is_measured_unasked() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    found = Calibration.measured(teacher, [batch()]).importance
    endings = {name.rpartition(".")[2] for name in found}
    assert endings == {"hidden", "vocab", "heads", "ffn", "wanda", "energy"}


def silent(teacher: Teacher, neuron: int) -> None:
    """Nothing writes or reads one neuron of the second layer, and it puts out nothing."""
    for slot in teacher.layout.slots:
        if slot.layer != 1:
            continue
        tensor = teacher.model.state_dict()[slot.name]
        for dimension, axis in enumerate(slot.axes):
            if axis == "ffn":
                tensor.select(dimension, neuron).zero_()


@pytest.mark.parametrize(
    "name", ["bert-masked", "llama-causal-grouped", "gpt2-text-generation", "opt-text-generation"]
)
def test_a_silent_neuron_has_no_importance_by_any_criterion(name: str) -> None:
    teacher = ZOO[name].teacher()
    silent(teacher, 5)
    (site,) = (f"{stack}.ffn" for stack in teacher.layout.depths)
    found = Calibration.of(teacher, [batch()], [Taylor()], "none").importance
    weights = Calibration.of_weights(teacher).importance
    for values in (found[site], found[f"{site}.wanda"], found[f"{site}.taylor"], weights[site]):
        at_rest = (values == 0).nonzero().tolist()
        assert [1, 5] in at_rest
        assert not any(layer != 1 for layer, _ in at_rest) or name.startswith("opt")  # its ReLU


@pytest.mark.parametrize("name", WRITING)
def test_a_taylor_importance_is_the_slope_of_the_loss_in_the_unit(name: str) -> None:
    teacher = ZOO[name].teacher()
    inputs = inputs_of(teacher)
    found = Calibration.of(teacher, [inputs], [Taylor()], "none").importance
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit == "ffn":
            values = found[f"{slot.stack}.ffn.taylor"][slot.layer or 0]
            unit_at = int(values.argmax())
            assert_close(
                values[unit_at].double(),
                slope(teacher, inputs, module, unit_at),
                rtol=2e-2,
                atol=1e-5,
            )


def slope(teacher: Teacher, inputs: dict[str, Tensor], module: nn.Module, unit: int) -> Tensor:
    """The mean over sequences of the loss's slope in what a projection reads of one neuron."""
    lost = []
    teacher.model.double()
    exact = {n: v.double() if v.is_floating_point() else v for n, v in inputs.items()}
    try:
        for factor in (1 - 1e-4, 1 + 1e-4):

            def hook(_module: nn.Module, given: Any, factor: float = factor) -> Any:
                scaled = given[0].clone()
                scaled[..., unit] *= factor
                return (scaled, *given[1:])

            with module.register_forward_pre_hook(hook), torch.no_grad():
                lost.append(torch.stack(losses(teacher, exact, 0)))
    finally:
        teacher.model.float()
    return ((lost[1] - lost[0]) / 2e-4).abs().mean()


def test_channels_are_measured_at_every_norm() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    found = Calibration.of(teacher, [batch()], [Taylor()], "none").residual("taylor")
    # what multiplies a channel at a norm's output is its gain: dL/dgate is dL/dgain times the gain
    expected = torch.zeros_like(found)
    norms = [module for module, _ in teacher.layout.norms(teacher.model)]
    gains: list[Any] = [norm.weight for norm in norms]
    for lost in losses(teacher, batch(), 0):
        slopes = torch.autograd.grad(lost, gains, retain_graph=True)
        expected += sum((s * g.detach()).abs() for s, g in zip(slopes, gains, strict=True))
    assert_close(found, expected / 3, rtol=1e-3, atol=1e-5)


def test_taylor_ranks_heads_by_the_gradient_that_is_measured_alone() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    inputs = inputs_of(teacher)
    told: list[str] = []
    both = Calibration.of(
        teacher, [inputs], [Activation("gradient"), Taylor()], "none", announce=told.append
    ).importance
    alone = Calibration.of(teacher, [inputs], [Activation("gradient")], "none").importance
    for name in ("encoder.heads", "decoder.heads", "decoder.cross_heads"):
        assert_close(both[f"{name}.gradient"], alone[f"{name}.gradient"])
    assert told == ["ranking units by taylor 100%"]


@pytest.mark.parametrize("policy", [Wanda(), Taylor()], ids=lambda policy: policy.name)
def test_a_policy_keeps_what_its_own_criterion_ranks_first(policy: Wanda | Taylor) -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    known = Calibration.of(teacher, [batch()], [Taylor()], "none")
    student = teacher.architecture.scaled(
        hidden=0.5, intermediate=0.4, kv_heads=0.5, width_policy=policy
    )
    kept = choose(teacher.layout, student, known)
    top = {
        "heads": known.importance[
            "decoder.heads.wanda" if policy == Wanda() else "decoder.heads.gradient"
        ],
        "ffn": known.importance[f"decoder.ffn.{policy.name}"],
    }
    for layer in kept.stacks["decoder"]:
        for unit, importance in top.items():
            best = importance[layer.number].topk(len(layer.units[unit])).indices
            assert layer.units[unit] == tuple(best.sort().values.tolist())
    channels = known.importance["hidden" if policy == Wanda() else "hidden.taylor"]
    assert kept.hidden == tuple(channels.topk(student.hidden_size).indices.sort().values.tolist())


def test_experts_are_ranked_by_activity_whatever_the_policy() -> None:
    teacher = ZOO["mixtral-text-generation"].teacher()
    known = Calibration.of(teacher, [batch()], [Taylor()], "none")
    for policy in (Wanda(), Taylor()):
        for unit in ("experts", "expert_ffn"):
            found = known.units(unit, "decoder", policy.criterion(unit))
            assert found is known.importance[f"decoder.{unit}"]


@pytest.mark.parametrize(
    ("policy", "made"), [(Magnitude(), r"of_weights\(teacher\)"), (Wanda(), "of")]
)
def test_a_policy_without_its_calibration_says_which(policy: Any, made: str) -> None:
    teacher = ZOO["bert-masked"].teacher()
    student = teacher.architecture.scaled(hidden=0.5, width_policy=policy)
    with pytest.raises(
        BadInput, match=rf"'{policy.name}' needs a calibration: .*Calibration\.{made}"
    ):
        choose(teacher.layout, student, None)


def test_a_calibration_without_the_criterion_is_refused() -> None:
    teacher = ZOO["bert-masked"].teacher()
    student = teacher.architecture.scaled(hidden=0.5, width_policy=Taylor())
    known = Calibration.measured(teacher, [batch()])
    with pytest.raises(BadInput, match=r"a calibration without taylor.* for_="):
        choose(teacher.layout, student, known)
