"""The recipe that protege is compared with cuts models as it says, and both are judged alike."""

from math import inf
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from studies.benchmarks.recipe import cut
from studies.benchmarks.recipe_course import Course, Point, front_of, volume

SIZES: dict[str, Any] = {"num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 48}
IDS = torch.arange(1, 9)[None]


def bert() -> Any:
    torch.manual_seed(0)
    config = BertConfig(**SIZES, num_attention_heads=4, vocab_size=50)
    return BertModel(config).eval()


def llama() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES, num_attention_heads=4, num_key_value_heads=2, head_dim=8, vocab_size=50
    )
    return LlamaForCausalLM(config).eval()


@torch.no_grad()
def test_a_cut_to_the_same_sizes_is_the_teacher() -> None:
    encoder, decoder = bert(), llama()
    same = cut(encoder, SIZES, 8).eval()
    assert torch.equal(same(IDS).last_hidden_state, encoder(IDS).last_hidden_state)
    same = cut(decoder, {**SIZES, "num_key_value_heads": 2}, 8).eval()
    assert torch.equal(same(IDS).logits, decoder(IDS).logits)


def test_a_student_has_every_second_layer_and_the_first_channels() -> None:
    sizes = {"num_hidden_layers": 2, "hidden_size": 16, "intermediate_size": 24}
    teacher, student = bert(), cut(bert(), sizes, 8)
    own = student.encoder.layer[1].intermediate.dense.weight
    assert torch.equal(own, teacher.encoder.layer[2].intermediate.dense.weight[:24, :16])
    assert student.config.num_attention_heads == 2
    decoder, student = llama(), cut(llama(), {**sizes, "num_key_value_heads": 1}, 8)
    own = student.model.layers[1].self_attn.q_proj.weight
    assert torch.equal(own, decoder.model.layers[2].self_attn.q_proj.weight[:16, :16])
    assert student(IDS).logits.shape == (1, 8, 50)


def test_the_volume_counts_what_is_faster_than_the_teacher() -> None:
    assert volume([]) == volume([Point(0, 1.2, 0.9)]) == 0
    assert volume([Point(0, 0.5, 0.8)]) == pytest.approx(0.4)
    assert volume([Point(0, 0.5, 0.8), Point(0, 0.25, 0.4)]) == pytest.approx(0.5)


def test_a_course_reaches_a_volume_when_its_student_is_finished() -> None:
    course = Course([], [Point(60, 0.25, 0.4), Point(20, 0.5, 0.8)])
    assert course.after(10) == 0
    assert course.after(30) == pytest.approx(0.4)
    assert (course.reached(0.3), course.reached(0.45), course.reached(0.6)) == (20, 60, inf)


def test_the_front_has_no_dominated_student_and_none_slower_than_the_teacher() -> None:
    points = [Point(1, 0.5, 0.8), Point(2, 0.6, 0.7), Point(3, 1.1, 0.99), Point(4, 0.2, 0.3)]
    assert front_of(points) == [0, 3]
