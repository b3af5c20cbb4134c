"""Layers, queries, keys and values are found where every family has them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import FAMILIES, Teacher, Unsupported
from protege.spaces.models.attention import KINDS, Attention, attention_of
from protege.spaces.models.batches import by_sequence
from protege.spaces.models.layout import Layout
from tests.tiny import ZOO, inputs_of

ONE_EACH = {case.model_type: name for name, case in reversed(ZOO.items())}
"""The first case of each model type."""

TEXTS = {name for name in ONE_EACH.values() if not ("image" in name or "whisper" in name)}

ATTENTIVE = {
    "separate": "bert-masked",
    "grouped": "llama-causal-grouped",
    "fused": "gpt2-text-generation",
    "fused and grouped": "phi3-text-generation",
    "fused, of all heads": "modernbert-fill-mask",
    "fused by head": "gpt_neox-text-generation",
}
"""Of every way to write queries, keys and values one whose scores no distance changes."""

Given = dict[str, Tensor]


def stacks(teacher: Teacher) -> list[str]:
    return [stack for stack in teacher.layout.depths if stack in teacher.family.depths]


def passing(model: Any, module: nn.Module, given: Given) -> tuple[Tensor, Tensor]:
    """What a module reads and gives first in a pass."""
    found: list[tuple[Tensor, Tensor]] = []
    hook = lambda _m, read, output: found.append((read[0], output))  # noqa: E731
    with module.register_forward_hook(hook), torch.inference_mode():
        model(**given)
    return found[0]


def written(model: Any, attention: Attention, given: Given) -> dict[str, Tensor]:
    """Queries, keys and values of a batch, ``(sequences, tokens, width)``."""
    found: dict[str, Tensor] = {}
    for projection in attention.projections:
        found |= projection.split(passing(model, projection.module, given)[1])
    return found


def test_every_family_is_among_the_teachers() -> None:
    assert {name for family in FAMILIES for name in family.model_types} == set(ONE_EACH)


@pytest.mark.parametrize("name", ONE_EACH.values())
def test_layers_run_in_order_and_write_the_stream(name: str) -> None:
    teacher = ZOO[name].teacher()
    ran: list[nn.Module] = []
    found = teacher.layout.layers(teacher.model)
    assert {stack: len(layers) for stack, layers in found.items()} == {
        stack: teacher.layout.depths[stack] for stack in stacks(teacher)
    }
    for layer in (layer for layers in found.values() for layer in layers):
        layer.register_forward_pre_hook(lambda module, _i: ran.append(module))
    with torch.inference_mode():
        teacher.model(**inputs_of(teacher))
    # the stacks run one after the other, the encoder first
    assert ran == [layer for stack in stacks(teacher) for layer in found[stack]]


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_of_one_token_attention_gives_its_values(name: str) -> None:
    teacher = ZOO[name].teacher()
    layout, model = teacher.layout, teacher.model
    given = {key: value[:2, :1] for key, value in inputs_of(teacher).items()}
    reads = {
        (slot.stack, slot.layer): module
        for module, slot, unit in layout.reading(model)
        if unit == "heads"
    }
    for stack in stacks(teacher):
        attention = attention_of(layout, model, stack, 1)
        values = written(model, attention, given)["values"]
        # each head reads the values of its group
        groups = values.unflatten(-1, (attention.heads["values"], -1))
        times = attention.heads["queries"] // attention.heads["values"]
        expected = groups.repeat_interleave(times, dim=-2).flatten(-2)
        seen = by_sequence(passing(model, reads[stack, 1], given)[0], given)
        assert seen is not None
        assert_close(seen, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ATTENTIVE.values(), ids=ATTENTIVE)
def test_queries_and_keys_make_the_attention_of_the_model(name: str) -> None:
    teacher = ZOO[name].teacher()
    layout, model = teacher.layout, teacher.model
    model.set_attn_implementation("eager")
    (stack,) = stacks(teacher)
    ids = inputs_of(teacher)["input_ids"][:1]
    # nothing is turned where all stand at the first place
    given = {"input_ids": ids, "position_ids": torch.zeros_like(ids)}
    attention = attention_of(layout, model, stack, 0)
    vectors = {
        kind: one.unflatten(-1, (attention.heads[kind], -1)).transpose(1, 2)
        for kind, one in written(model, attention, given).items()
    }
    times = attention.heads["queries"] // attention.heads["keys"]
    keys = vectors["keys"].repeat_interleave(times, dim=1)
    scores = vectors["queries"] @ keys.transpose(-1, -2) / attention.head_dim**0.5
    with torch.inference_mode():
        probabilities = model(**given, output_attentions=True).attentions[0]
    # the last token sees all others, in decoders too
    assert_close(probabilities[:, :, -1], scores.softmax(-1)[:, :, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ONE_EACH.values())
def test_a_student_is_looked_into_as_its_teacher(name: str) -> None:
    teacher = ZOO[name].teacher()
    narrower = 1.0 if "hidden_size" in teacher.family.whole else 0.5
    shape = teacher.architecture.scaled(layers=0.5, hidden=narrower, multiple_of=4)
    student = teacher.student(shape)
    assert student.architecture.hidden_size == teacher.architecture.hidden_size * narrower
    layout = Layout.of(teacher.family, student.model)
    for stack in stacks(teacher):
        mine = attention_of(layout, student.model, stack, 0)
        theirs = attention_of(teacher.layout, teacher.model, stack, 0)
        sizes = student.architecture
        assert mine.heads["queries"] == sizes.num_attention_heads
        assert mine.heads["keys"] == mine.heads["values"] == sizes.num_key_value_heads
        assert [tuple(one.widths) for one in mine.projections] == [
            tuple(one.widths) for one in theirs.projections
        ]
        assert set(theirs.widths) == set(KINDS)


def test_attention_that_no_table_names_cannot_be_listened_to() -> None:
    teacher = ZOO["bert-masked"].teacher()
    nothing = replace(teacher.layout, slots=())
    with pytest.raises(Unsupported, match="layer 1 of the encoder: expected one projection each"):
        attention_of(nothing, teacher.model, "encoder", 1)
