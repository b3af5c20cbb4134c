"""In which order neurons go, against trying them all."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.spaces import (
    Architecture,
    BadInput,
    Calibration,
    Surgeon,
    Teacher,
)
from protege.spaces.calibration.surgeon import STEPS, removal_ranks, shrunk
from tests.tiny import CASES, inputs_of


def lost(gram: Tensor, weight: Tensor, kept: list[int]) -> float:
    """What the projection's output loses of its energy when these units are refitted to be all."""
    right = weight @ gram[:, kept]
    explained = torch.linalg.solve(gram[kept][:, kept], right.T)
    return float((weight @ gram * weight).sum() - (right * explained.T).sum())


def problem(units: int, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs that are correlated, and a projection of them: second moment and weight."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(200, units, generator=generator) @ torch.randn(
        units, units, generator=generator
    )
    weight = torch.randn(5, units, generator=generator)
    return (mixed.T @ mixed / 200).double(), weight.double()


@given(units=st.integers(2, 8), seed=st.integers(0, 1000))
def test_at_every_step_the_one_goes_that_costs_least(units: int, seed: int) -> None:
    gram, weight = problem(units, seed)
    ranks = removal_ranks(gram, weight, 10_000)
    assert ranks.sort().values.tolist() == list(range(units))
    whole, left = shrunk(gram, 10_000), list(range(units))
    for gone in ranks.argsort().tolist()[:-1]:
        costs = {unit: lost(whole, weight, [u for u in left if u != unit]) for unit in left}
        assert costs[gone] == pytest.approx(min(costs.values()), rel=1e-6, abs=1e-9)
        left.remove(gone)


def test_of_many_several_go_at_once_and_every_one_has_a_rank() -> None:
    """What is kept still serves better than as many of those with the most energy."""
    gram, weight = problem(3 * STEPS + 1, 0)
    ranks = removal_ranks(gram, weight, 10_000)
    assert ranks.sort().values.tolist() == list(range(3 * STEPS + 1))
    whole, half = shrunk(gram, 10_000), len(ranks) // 2
    energy = weight.square().sum(0) * gram.diagonal()
    by_order, by_energy = (
        lost(whole, weight, one.topk(half).indices.tolist()) for one in (ranks.double(), energy)
    )
    assert by_order < by_energy


def test_a_copy_goes_before_anything_of_its_own() -> None:
    """What another neuron says as well is made up for whole."""
    gram, weight = problem(6, 0)
    index = torch.tensor([0, 1, 2, 3, 4, 5, 2])
    ranks = removal_ranks(gram[index][:, index], weight[:, index], 1e9)
    assert int(ranks.argmin()) in {2, 6}


@given(units=st.integers(2, 8), seed=st.integers(0, 1000))
def test_the_scale_of_a_neuron_does_not_matter(units: int, seed: int) -> None:
    """What a factor on its input and the inverse on its weights leave as it was."""
    gram, weight = problem(units, seed)
    factors = torch.linspace(0.5, 2, units, dtype=torch.float64)
    scaled = removal_ranks(gram * torch.outer(factors, factors), weight / factors, 1e5)
    assert torch.equal(scaled, removal_ranks(gram, weight, 1e5))


def narrow(teacher: Teacher) -> Architecture:
    own = teacher.architecture
    return own.scaled(intermediate=0.4, width_policy=Surgeon(), healing="none")


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_a_student_keeps_the_neurons_that_go_last(name: str) -> None:
    teacher = CASES[name].teacher()
    calibration = Calibration.of(teacher, [inputs_of(teacher)], [Surgeon()], "none")
    stack = next(iter(teacher.layout.depths))
    ranks = calibration.importance[f"{stack}.ffn.surgeon"]
    student = teacher.student(
        teacher.architecture.scaled(intermediate=0.4, width_policy=Surgeon(), healing="none"),
        calibration,
    )
    for layer in student.kept.stacks[stack]:
        count = student.architecture.intermediate_size
        last = ranks[layer.number].topk(count).indices.sort().values.tolist()
        assert list(layer.units["ffn"]) == last


def test_it_asks_for_its_order() -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    calibration = Calibration.measured(teacher, [inputs_of(teacher)])
    architecture = teacher.architecture.scaled(
        intermediate=0.4, width_policy=Surgeon(), healing="none"
    )
    with pytest.raises(BadInput, match="a calibration without surgeon"):
        teacher.student(architecture, calibration)
