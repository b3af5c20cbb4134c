"""Losses on answers are what their formulas say, and vanish where student and teacher agree."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy, kl_div, log_softmax, softmax

from protege.objectives import HardLabels, LogitsKL, LogitsMSE, VectorCosine, VectorMSE
from protege.objectives.distillation.losses.losses import (
    NO_LABEL,
    TOP,
    Loss,
    Targets,
    divergence,
    top_of,
)
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.spaces import BadInput

NO_LABELS = torch.full((6,), NO_LABEL)
HALF = 4e-3
"""What half precision of the kept log-probabilities, eleven bits, may put a divergence off by."""


def logits(rows: int, width: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def kept(answer: Tensor, temperature: float = 1.0) -> Targets:
    return top_of(answer, temperature, TOP)


def kl(mine: Tensor, theirs: Tensor, temperature: float = 1.0) -> Tensor:
    """Of each row, over all tokens, as torch has it."""
    mine, theirs = (log_softmax(one / temperature, -1) for one in (mine, theirs))
    return kl_div(mine, theirs, reduction="none", log_target=True).sum(-1)


SHAPES: dict[str, Any] = {
    "width": st.sampled_from([8, TOP, TOP + 1, 200]),
    "scale": st.sampled_from([0.1, 1.0, 5.0]),
    "seed": st.integers(0, 50),
}
TEMPERATURES = st.sampled_from([0.5, 1.0, 2.0, 8.0])


@given(**SHAPES, temperature=TEMPERATURES)
def test_over_all_tokens_the_divergence_is_torchs_own(
    width: int, scale: float, seed: int, temperature: float
) -> None:
    theirs, mine = logits(6, width, scale, seed), logits(6, width, scale, seed + 100)
    loss = LogitsKL(temperature=temperature, top=None)
    found = loss.of(mine, top_of(theirs, temperature, None), NO_LABELS)
    torch.testing.assert_close(found, temperature**2 * kl(mine, theirs, temperature).mean())


@given(**SHAPES, temperature=TEMPERATURES)
def test_over_the_kept_tokens_it_never_exceeds_that_over_all(
    width: int, scale: float, seed: int, temperature: float
) -> None:
    theirs, mine = logits(6, width, scale, seed), logits(6, width, scale, seed + 100)
    found = divergence(log_softmax(mine / temperature, -1), kept(theirs, temperature))
    full = kl(mine, theirs, temperature)
    assert (found >= -HALF * (1 + full)).all()
    assert (found <= full + HALF * (1 + full)).all()
    if width <= TOP:
        torch.testing.assert_close(found, full, rtol=HALF, atol=HALF)
    loss = LogitsKL(temperature=temperature).of(mine, kept(theirs, temperature), NO_LABELS)
    torch.testing.assert_close(loss, temperature**2 * found.mean())


@given(**SHAPES)
def test_the_teacher_does_not_diverge_from_itself(width: int, scale: float, seed: int) -> None:
    answer = logits(6, width, scale, seed)
    assert divergence(log_softmax(answer, -1), kept(answer)).abs().max() < HALF
    all_of_it = {"logits": answer}
    assert LogitsKL(top=None).of(answer, all_of_it, NO_LABELS).abs() < 1e-6
    assert LogitsMSE().of(answer, all_of_it, NO_LABELS) == 0
    vectors = {"vector": answer}
    assert VectorCosine().of(answer, vectors, NO_LABELS).abs() < 1e-6
    assert VectorMSE().of(answer, vectors, NO_LABELS) == 0


def test_mass_on_tokens_that_were_not_kept_counts() -> None:
    flat = torch.zeros(1, 4 * TOP)
    elsewhere = flat.clone()
    elsewhere[0, : TOP * 2] = 5.0
    targets = kept(elsewhere)
    assert divergence(log_softmax(flat, -1), targets) > 0.1
    # among the tokens beyond the kept ones, how the mass lies is not known and not asked
    rest = torch.ones(4 * TOP, dtype=torch.bool)
    rest[targets["token"][0].long()] = False
    moved = elsewhere.clone()
    moved[0, rest] = elsewhere[0, rest].flip(0)
    assert divergence(log_softmax(moved, -1), targets).abs() < HALF


def test_of_softer_distributions_gradients_keep_their_size() -> None:
    theirs, mine = logits(6, 40, 1.0, 0), logits(6, 40, 1.0, 1)
    norms = [
        gradient(LogitsKL(temperature=t, top=None), mine, {"logits": theirs}).norm()
        for t in (10.0, 100.0)
    ]
    # at high temperatures the gradient is that of logits, whatever the temperature
    assert norms[1] == pytest.approx(float(norms[0]), rel=0.1)


def gradient(loss: Loss, mine: Tensor, targets: Targets) -> Tensor:
    own = mine.clone().requires_grad_()
    loss.of(own, targets, torch.zeros(len(mine), dtype=torch.long)).backward()
    assert own.grad is not None
    return own.grad


@given(**SHAPES)
def test_every_loss_pulls_towards_its_aim(width: int, scale: float, seed: int) -> None:
    theirs, mine = logits(6, width, scale, seed), logits(6, width, scale, seed + 100)
    aims = {"logits": theirs, "vector": theirs, **kept(theirs)}
    none = torch.zeros(6, dtype=torch.long)
    for loss in (LogitsMSE(), HardLabels(), VectorCosine(), VectorMSE()):
        pulls(loss, mine, aims, none)
    pulls(LogitsKL(top=None), mine, {"logits": theirs}, none)
    pulls(LogitsKL(), mine, kept(theirs), none)


def pulls(loss: Loss, mine: Tensor, targets: Targets, labels: Tensor) -> None:
    slope = gradient(loss, mine, targets)
    step = 1e-2 * mine.norm() * slope / slope.norm()
    assert loss.of(mine - step, targets, labels) < loss.of(mine, targets, labels)


def test_rows_without_a_label_are_left_out() -> None:
    mine = logits(4, 5, 1.0, 0)
    labels = torch.tensor([NO_LABEL, 3, NO_LABEL, 1])
    found = HardLabels().of(mine, {}, labels)
    torch.testing.assert_close(found, cross_entropy(mine[[1, 3]], torch.tensor([3, 1])))
    other = mine.clone()
    other[[0, 2]] = 9.0
    assert HardLabels().of(other, {}, labels) == found


def test_where_no_row_has_a_label_there_is_nothing_to_learn() -> None:
    mine = logits(6, 5, 1.0, 0).requires_grad_()
    found = HardLabels().of(mine, {}, NO_LABELS)
    found.backward()
    assert found == 0
    assert mine.grad is not None
    assert not mine.grad.any()


def test_vectors_are_compared_by_angle_or_by_distance() -> None:
    theirs, mine = logits(6, 8, 1.0, 0), logits(6, 8, 1.0, 1)
    targets = {"vector": theirs.half()}
    cosine = VectorCosine().of(mine, targets, NO_LABELS)
    assert float(cosine) == pytest.approx(float(1 - cosine_similarity(mine, theirs).mean()), 1e-3)
    assert VectorCosine().of(3 * mine, targets, NO_LABELS) == pytest.approx(float(cosine), rel=1e-6)
    # 1 is a student that answers nothing, however long the teacher's vectors are
    for scale in (0.01, 1.0, 100.0):
        nothing = VectorMSE().of(torch.zeros(6, 8), {"vector": scale * theirs}, NO_LABELS)
        assert float(nothing) == pytest.approx(1.0)


def test_logits_are_compared_by_their_distance() -> None:
    found = LogitsMSE().of(
        torch.tensor([[1.0, 2.0]]), {"logits": torch.tensor([[3, 2.0]])}, NO_LABELS
    )
    assert found == 2.0


def test_kept_tokens_are_the_likeliest_with_their_probabilities() -> None:
    answer = logits(3, 200, 3.0, 0)
    targets = top_of(answer, 2.0, 5)
    likely = softmax(answer / 2.0, -1)
    assert torch.equal(targets["token"].long(), likely.argsort(dim=-1, descending=True)[:, :5])
    named = likely.gather(1, targets["token"].long())
    torch.testing.assert_close(targets["log_probability"].float().exp(), named, rtol=HALF, atol=0)


@pytest.mark.parametrize("width", [50_000, 30])
def test_a_language_models_answers_are_kept_in_few_bytes(width: int) -> None:
    answer = logits(10, width, 3.0, 0)
    targets = LanguageTask().targets(answer, torch.zeros(10, dtype=torch.long))
    # eight bytes more say which sequence was asked
    a_row = 8 + sum(tensor.element_size() * tensor[0].numel() for tensor in targets.values())
    assert a_row <= 300


@pytest.mark.parametrize(
    "given_", [{"temperature": 0.0}, {"temperature": float("nan")}, {"top": 0}]
)
def test_a_distribution_that_is_none_is_refused(given_: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected a temperature above 0 and at least one token"):
        LogitsKL(**given_)
