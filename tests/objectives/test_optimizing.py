"""Embeddings that a batch hardly reads move where it reads them, and nowhere else."""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.objectives.distillation.optimizing import Optimizers, hardly_read
from tests.objectives.taught import SHORT, half, material, taught, weights
from tests.tiny import CASES

# four tokens at once; each rate is at its peak from the first step on
ALWAYS = replace(SHORT, batch_size=2, max_tokens=2, warmup=0, decay=0, weight_decay=0)


class Reader(nn.Module):
    """An embedding and a matrix, as small as a model gets."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(rows, 4)
        self.matrix = nn.Linear(4, 3)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.matrix(self.embedding(ids))
        return out


def steps(module: Reader, batches: list[Tensor], **changed: float) -> list[float]:
    """Teach it to answer with ones; the norms of the gradients."""
    norms = []
    with ExitStack() as stack:
        optimizers = Optimizers(module, replace(ALWAYS, **changed), [], stack)  # type: ignore[arg-type]
        for ids in batches:
            (module(ids) - 1).square().mean().backward()
            norms.append(float(optimizers.step()))
    return norms


def plain(module: Reader, batches: list[Tensor], max_gradient: float) -> list[float]:
    """The same by torch's own AdamW and clipping."""
    norms = []
    optimizer = torch.optim.AdamW(module.parameters(), lr=ALWAYS.learning_rate, weight_decay=0)
    for ids in batches:
        (module(ids) - 1).square().mean().backward()
        norms.append(float(nn.utils.clip_grad_norm_(module.parameters(), max_gradient)))
        optimizer.step()
        optimizer.zero_grad()
    return norms


@pytest.mark.parametrize("max_gradient", [0.1, 1e3])
@pytest.mark.parametrize("rows", [4, 6])
def test_where_all_rows_are_read_it_is_adamw(rows: int, max_gradient: float) -> None:
    every = [torch.arange(rows).repeat(2)] * 5
    one, other = Reader(rows), Reader(rows)
    assert bool(hardly_read(one, 4)) == (rows > 4)
    norms = steps(one, every, max_gradient=max_gradient)
    # the two add their epsilon before and after they correct a young mean
    assert_close(norms, plain(other, every, max_gradient), rtol=1e-3, atol=1e-5)
    assert_close(one.state_dict(), other.state_dict(), rtol=1e-3, atol=1e-5)


def test_rows_that_no_batch_reads_stay_as_they_are() -> None:
    module = Reader(9)
    before = deepcopy(module)
    steps(module, [torch.tensor([1, 2, 2]), torch.tensor([1, 5])], weight_decay=0.5)
    moved = (module.embedding.weight != before.embedding.weight).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 2, 5]
    assert not torch.equal(module.matrix.weight, before.matrix.weight)


def test_nothing_moves_by_gradients_that_are_not_finite() -> None:
    module = Reader(9)
    with torch.no_grad():
        module.matrix.bias.fill_(torch.inf)
    before = deepcopy(module.state_dict())
    (norm,) = steps(module, [torch.tensor([1])])
    assert not torch.isfinite(torch.tensor(norm))
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_an_embedding_is_dense_again_when_the_run_is_over() -> None:
    module = Reader(9)
    steps(module, [torch.tensor([1])])
    assert not module.embedding.sparse
    module(torch.tensor([1])).sum().backward()
    assert module.embedding.weight.grad is not None
    assert not module.embedding.weight.grad.is_sparse


@pytest.mark.parametrize(
    ("name", "lazy"),
    [("bert-sentences", True), ("llama-causal-grouped", True), ("llama-causal-tied", False)],
)
def test_an_embedding_that_is_a_head_too_is_no_lazy_one(name: str, *, lazy: bool) -> None:
    model = CASES[name].teacher().model
    found = hardly_read(model, tokens=model.config.vocab_size - 1)
    assert found == ([model.get_input_embeddings()] if lazy else [])
    assert hardly_read(model, tokens=model.config.vocab_size) == []


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_a_student_learns_with_a_lazy_embedding(name: str) -> None:
    teacher = CASES[name].teacher()
    narrow = replace(SHORT, batch_size=4, max_tokens=8, precision="float32")
    student = half(teacher)
    embedding = student.model.get_input_embeddings()
    assert embedding in hardly_read(student.module, 4 * 8)
    before = deepcopy(weights(student))
    found = taught(teacher, material(teacher), narrow, student=student)
    assert sum(found.losses[-3:]) < sum(found.losses[:3])
    assert any(not torch.equal(one, before[n]) for n, one in weights(student).items())
