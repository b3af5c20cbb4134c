"""What an error at the output of a feed-forward network does to the answer."""

import pytest
import torch
from torch import Tensor, nn

from protege.spaces import Teacher
from protege.spaces.calibration.fisher import output_metrics
from protege.spaces.models.layout import Place
from protege.spaces.models.outputs import distance, final_answers
from tests.tiny import ZOO, inputs_of

T5 = "t5-text2text-generation"

SMALL = 1e-2
"""Length of an error, relative to the mean length of a token's output."""


def networks(teacher: Teacher) -> dict[Place, nn.Module]:
    """The last projection of every feed-forward network."""
    reading = teacher.layout.reading(teacher.model)
    return {(f"{s.stack}.ffn", s.layer or 0): m for m, s, unit in reading if unit == "ffn"}


def moved(teacher: Teacher, module: nn.Module, error: Tensor) -> float:
    """How far the answer moves if the error is added to a network's output at every token."""

    def hook(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
        added: Tensor = error * output.norm(dim=-1).mean()
        return output + added

    batch = inputs_of(teacher)
    with torch.inference_mode():
        whole = final_answers(teacher, batch)
        with module.register_forward_hook(hook):
            others = final_answers(teacher, batch)
    pairs = zip(whole, others, strict=True)
    return sum(float(distance(*pair, is_logits=teacher.has_logits)) for pair in pairs)


@pytest.mark.parametrize("name", ["bert-sentences", "bert-texts", "llama-causal-grouped", T5])
def test_strong_directions_move_the_answer_more_than_weak_ones(name: str) -> None:
    teacher = ZOO[name].teacher()
    metrics = output_metrics(teacher, [inputs_of(teacher)])
    found = networks(teacher)
    assert metrics.keys() == found.keys()
    for place, root in metrics.items():
        assert torch.equal(root, root.triu())
        values, vectors = torch.linalg.eigh((root.T @ root).double())
        assert float(values.mean()) == pytest.approx(1.01, rel=1e-4)
        # whole thirds, as a single direction says more about noise
        third = len(values) // 3
        weak, strong = vectors[:, :third].float(), vectors[:, -third:].float()
        changes = [
            sum(
                moved(teacher, found[place], SMALL * way * one) for one in ways.T for way in (1, -1)
            )
            for ways in (weak, strong)
        ]
        assert changes[0] < changes[1], place


def test_the_teacher_is_as_it_was() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    before = [hooks for one in teacher.model.modules() for hooks in one._forward_hooks]
    output_metrics(teacher, [inputs_of(teacher)])
    assert all(one.grad is None for one in teacher.model.parameters())
    assert before == [hooks for one in teacher.model.modules() for hooks in one._forward_hooks]
