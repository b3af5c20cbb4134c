"""The importance of a head is what the model's answer, or its loss, owes to that head."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax
from torch.testing import assert_close
from transformers.pytorch_utils import Conv1D

from protege.spaces import Calibration, Task, Teacher
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.forward_trace import output_projections
from protege.spaces.calibration.importance import head_importance, losses
from protege.spaces.calibration.plan import CalibrationPlan
from protege.spaces.models.batches import AT_ONCE
from protege.spaces.models.layout import Place
from protege.spaces.models.outputs import answers, distance, reading, written
from tests.tiny import ZOO, batch, inputs_of, padded_left
from tests.zoo import FLOWS, READERS, marked, teacher_of

KINDS = {
    "encoder": "bert-masked",
    "states": "bert-sentences",
    "grouped decoder": "llama-causal-grouped",
    "encoder and decoder": "t5-text2text-generation",
    "images": "vit-image-classification",
    "Conv1D": "gpt2-text-generation",
    "shared biases": "mpnet-fill-mask",
    "spans": "bart-question-answering",
    "one answer a text": "llama-texts",
}
QUICK = {"encoder", "grouped decoder", "encoder and decoder", "images", "one answer a text"}
TEACHERS = {
    name: pytest.param(name, id=kind, marks=[] if kind in QUICK else pytest.mark.slow)
    for kind, name in KINDS.items()
}
CRITERIA: tuple[HeadsBy, ...] = ("gradient", "ablation")
TINY_CHANGE = 1e-3


@pytest.fixture(params=list(TEACHERS.values()), scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """Of every kind of answer and attention one; tests leave it as it is."""
    return teacher_of(request.param)


def measured(
    teacher: Teacher, criterion: HeadsBy, *batches: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The importance of heads by site, by any of the three criteria."""
    plan = CalibrationPlan(heads_by=[criterion])
    found = Calibration.measured(teacher, batches or [inputs_of(teacher)], plan).importance
    ending = "" if criterion == "activation" else f".{criterion}"
    sites = {site for _, (site, _) in output_projections(teacher)}
    return {site: found[f"{site}{ending}"] for site in sites}


@contextmanager
def without(teacher: Teacher, module: nn.Module, head: int) -> Iterator[None]:
    """The columns of an output projection that read a head at zero, then as they were."""
    weight: Any = module.weight
    read = weight.T if isinstance(module, Conv1D) else weight
    size = read.shape[1] // teacher.architecture.num_attention_heads
    with torch.no_grad():
        before = weight.clone()
        read[:, head * size : (head + 1) * size] = 0
        try:
            yield
        finally:
            weight.copy_(before)


def some_heads(teacher: Teacher) -> Iterator[tuple[nn.Module, Place, int]]:
    """One head of every attention, another one in each."""
    heads = teacher.architecture.num_attention_heads
    for number, (module, place) in enumerate(output_projections(teacher)):
        yield module, place, (2 * number + 1) % heads


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_head_that_nothing_reads_has_no_importance(teacher: Teacher, criterion: HeadsBy) -> None:
    for module, (site, layer), head in some_heads(teacher):
        with without(teacher, module, head):
            found = head_importance(teacher, [inputs_of(teacher)], criterion)[site]
        assert found[layer, head] == 0
        assert (found > 0).sum() == found.numel() - 1


@pytest.mark.parametrize("criterion", get_args(HeadsBy))
def test_a_head_that_says_nothing_has_no_importance(criterion: HeadsBy) -> None:
    teacher = ZOO["bert-masked"].teacher()
    values = teacher.model.get_submodule("bert.encoder.layer.2.attention.self.value")
    with torch.no_grad():
        for parameter in values.parameters():
            parameter[4:8] = 0
    found = measured(teacher, criterion)["encoder.heads"]
    assert (found == 0).nonzero().tolist() == [[2, 1]]


def test_ablation_is_the_divergence_from_the_model_without_the_head(teacher: Teacher) -> None:
    inputs = inputs_of(teacher)
    found = head_importance(teacher, [inputs], "ablation")
    is_logits = teacher.task.has_logits
    with torch.inference_mode():
        whole = answers(teacher, inputs)
        for module, (site, layer), head in some_heads(teacher):
            with without(teacher, module, head):
                left = answers(teacher, inputs)
            pairs = zip(whole, left, strict=True)
            moved = torch.stack([by_hand(*pair, is_logits=is_logits) for pair in pairs])
            expected = moved.sum() / sum(map(len, whole))
            assert_close(found[site][layer, head], expected, rtol=2e-3, atol=1e-7)


def by_hand(whole: Tensor, left: Tensor, *, is_logits: bool) -> Tensor:
    """The divergence as torch has it, summed over answers."""
    if is_logits:
        theirs, mine = log_softmax(whole.double(), -1), log_softmax(left.double(), -1)
        return kl_div(mine, theirs, log_target=True, reduction="sum").float()
    return ((whole - left).square().sum(-1) / whole.square().sum(-1)).sum()


@pytest.mark.parametrize("name", marked(FLOWS))
def test_running_from_the_ablated_layer_on_changes_nothing(name: str) -> None:
    teacher = teacher_of(name)
    inputs, is_logits = inputs_of(teacher), teacher.task.has_logits
    found = head_importance(teacher, [inputs], "ablation")
    slopes = head_importance(teacher, [inputs], "gradient")
    depths, heads = teacher.layout.depths, teacher.architecture.num_attention_heads
    # torch runs the attention of SigLIP's pooler in one piece that no hook looks into
    assert {site for _, (site, _) in output_projections(teacher)} - set(found) <= {"pooler.heads"}
    for site, table in found.items():
        assert table.shape == slopes[site].shape == (depths[site.split(".")[0]], heads)
        assert torch.isfinite(table).all()
        assert torch.isfinite(slopes[site]).all()
    with torch.inference_mode():
        whole = answers(teacher, inputs)
        last = {site: (module, layer) for module, (site, layer) in output_projections(teacher)}
        for site in found:
            module, layer = last[site]
            with without(teacher, module, 3):
                left = answers(teacher, inputs)
            pairs = zip(whole, left, strict=True)
            moved = sum(distance(*pair, is_logits=is_logits) for pair in pairs)
            expected = torch.as_tensor(moved) / sum(map(len, whole))
            assert_close(found[site][layer, 3], expected, rtol=2e-3, atol=1e-7)


def test_a_gradient_is_the_slope_of_the_loss_in_what_a_head_is_multiplied_by(
    teacher: Teacher,
) -> None:
    inputs = inputs_of(teacher)
    found = head_importance(teacher, [inputs], "gradient")
    heads = teacher.architecture.num_attention_heads
    for module, (site, layer), head in some_heads(teacher):
        lower, upper = (
            scaled_losses(teacher, inputs, module, (heads, head), 1 + sign * TINY_CHANGE)
            for sign in (-1, 1)
        )
        slopes = (upper - lower) / (2 * TINY_CHANGE)
        assert_close(found[site][layer, head].double(), slopes.abs().mean(), rtol=1e-2, atol=1e-5)


def scaled_losses(
    teacher: Teacher,
    inputs: dict[str, Tensor],
    module: nn.Module,
    head_of: tuple[int, int],
    factor: float,
) -> Tensor:
    """The loss of every sequence with one head's output multiplied, in double precision.

    What a `reading` weighs answers by is the model's as it is, and does not move.
    """
    heads, head = head_of

    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        by_head = given[0].unflatten(-1, (heads, -1)).clone()
        by_head[..., head, :] *= factor
        return (by_head.flatten(-2), *given[1:])

    teacher.model.double()
    exact = {n: v.double() if v.is_floating_point() else v for n, v in inputs.items()}
    try:
        with torch.no_grad(), ExitStack() as stack:
            before = answers(teacher, exact)
            stack.callback(module.register_forward_pre_hook(hook).remove)
            after = answers(teacher, exact)
            if written(teacher, exact) is not None:
                return torch.stack(losses(teacher, exact, 0))
            is_logits = teacher.task.has_logits
            pairs = enumerate(zip(before, after, strict=True))
            return torch.stack([fixed_reading(*p, n, is_logits=is_logits) for n, p in pairs])
    finally:
        teacher.model.float()


def fixed_reading(before: Tensor, after: Tensor, number: int, *, is_logits: bool) -> Tensor:
    """A reading of answers whose weights are those of the answers before."""
    generator = torch.Generator().manual_seed(number)
    signs = torch.randint(2, before.shape, generator=generator, dtype=torch.int8) * 2.0 - 1
    if is_logits:
        return (signs * before.softmax(-1).sqrt() * log_softmax(after, -1)).sum()
    norms: Tensor = torch.linalg.vector_norm(before, dim=-1, keepdim=True)
    return (signs * after / norms).sum()


@given(st.lists(st.floats(-4, 4, width=32), min_size=2, max_size=6), st.integers(0, 5))
def test_readings_move_in_the_mean_as_far_as_the_answer(logits: list[float], at: int) -> None:
    # in double precision: a divergence this small is a few roundings of single ones
    answer = torch.tensor([logits], dtype=torch.float64, requires_grad=True)
    step = torch.zeros_like(answer, requires_grad=False)
    step[0, at % len(logits)] = 0.01
    slopes = [
        torch.autograd.grad(reading(answer, number, is_logits=True), answer)[0]
        for number in range(400)
    ]
    moved = torch.stack([(slope * step).sum() ** 2 for slope in slopes]).mean()
    apart = distance(answer.detach(), answer.detach() + step, is_logits=True)
    # to the second order half the Fisher information; of few probabilities it is taken as it is
    assert_close(moved / 2, apart, rtol=0.35, atol=2e-7)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(
    "teacher", [TEACHERS[name] for name in TEACHERS if name in READERS], indirect=True
)
def test_padding_and_batches_change_no_importance(teacher: Teacher, criterion: HeadsBy) -> None:
    inputs = inputs_of(teacher)
    expected = head_importance(teacher, [inputs], criterion)
    rows = [{n: v[row : row + 1] for n, v in inputs.items()} for row in range(3)]
    more = {
        name: torch.nn.functional.pad(value, (0, 4), value=7 if "ids" in name else 0)
        for name, value in inputs.items()
    }
    # where a text ends these two tell by the tokens, so that no other one can stand there
    whole = teacher.task in {Task.TEXTS, Task.QUESTIONS}
    for batches in [rows] if whole else [rows, [more]]:
        found = head_importance(teacher, batches, criterion)
        assert_close(found, expected, rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_padding_on_the_left_changes_no_importance(criterion: HeadsBy) -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()  # its positions are relative
    right = batch()
    left = padded_left(right)
    expected = head_importance(teacher, [right], criterion)
    assert_close(head_importance(teacher, [left], criterion), expected, rtol=5e-3, atol=1e-6)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_large_batch_is_taken_in_pieces(criterion: HeadsBy) -> None:
    teacher = ZOO["bert-masked"].teacher()
    many = {name: value.repeat(100, 1) for name, value in batch().items()}
    assert many["input_ids"].numel() > 2 * AT_ONCE
    pieces = [
        {name: value[begin : begin + 70] for name, value in many.items()}
        for begin in range(0, 300, 70)
    ]
    told: list[str] = []
    found = head_importance(teacher, [many], criterion, told.append)
    assert_close(head_importance(teacher, pieces, criterion), found, rtol=5e-3, atol=1e-6)
    assert told == [f"ranking heads by {criterion} {share}" for share in ("33%", "67%", "100%")]


def test_weights_that_are_not_trained_have_their_heads_measured_alike() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    expected = head_importance(teacher, [inputs_of(teacher)], "gradient")
    teacher.model.requires_grad_(requires_grad=False)
    assert_close(head_importance(teacher, [inputs_of(teacher)], "gradient"), expected)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_teacher_is_left_as_it_was(teacher: Teacher, criterion: HeadsBy) -> None:
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    head_importance(teacher, [inputs_of(teacher)], criterion)
    assert_close(teacher.model.state_dict(), before, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in teacher.model.parameters())
    for module in teacher.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert "forward" not in vars(module)


def test_a_pass_that_fails_leaves_no_hook_behind() -> None:
    teacher = ZOO["bert-masked"].teacher()
    wrong = {"input_ids": torch.full((1, 3), 10_000), "attention_mask": torch.ones(1, 3)}
    for criterion in CRITERIA:
        with pytest.raises(IndexError, match="out of range"):
            head_importance(teacher, [wrong], criterion)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in teacher.model.modules())


def test_without_batches_there_is_nothing_to_tell() -> None:
    assert head_importance(ZOO["bert-masked"].teacher(), [], "gradient") == {}
