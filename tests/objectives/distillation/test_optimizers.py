"""Embeddings that a batch hardly reads move only where it reads them; rates follow the layers."""

from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.objectives import Distillation
from protege.objectives.distillation.optimizers import Optimizers, groups, hardly_read
from protege.spaces import Unsupported, layers_above
from tests.objectives.distillation.taught import SHORT, half, material, taught, weights
from tests.tiny import CASES, ZOO
from tests.zoo import FLOWS, marked, teacher_of

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


@pytest.mark.parametrize("name", marked(FLOWS))
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
    once = replace(SHORT, steps=1, warmup=0, weight_decay=0, layer_decay=0.5, precision="float32")
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
