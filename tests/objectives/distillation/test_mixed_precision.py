"""Where the hardware has bf16 matrices multiply in it, and everything else stays as it was."""

from dataclasses import replace
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from protege.objectives import Distillation
from protege.objectives.distillation.mixed_precision import (
    autocast,
    device_of,
    is_fast_in_bf16,
)
from protege.objectives.machine.precision import TrainingPrecision
from protege.spaces import Teacher
from tests.objectives.distillation.taught import (
    SHORT,
    finished,
    material,
    taught,
    training,
    weights,
)
from tests.tiny import CASES, answer

CPU = torch.device("cpu")
LESSONS = ["bert-sentences", "bert-texts", "bert-masked", "llama-causal-tied"]


class Watched(TorchFunctionMode):
    """Notes what attention is given, as whatever is between it and the caller gives it."""

    def __init__(self) -> None:
        self.given: list[set[torch.dtype]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is scaled_dot_product_attention:
            given = [*args, *(kwargs or {}).values()]
            self.given.append({one.dtype for one in given if is_floating(one)})
        return found


def is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


@pytest.fixture
def linear() -> nn.Linear:
    return nn.Linear(8, 8)


def test_matrices_multiply_in_bf16_where_asked_for(linear: nn.Linear) -> None:
    with autocast("bfloat16", CPU):
        assert linear(torch.ones(2, 8)).dtype == torch.bfloat16
    assert linear(torch.ones(2, 8)).dtype == torch.float32


def test_matrices_multiply_in_fp32_where_asked_for(linear: nn.Linear) -> None:
    with autocast("float32", CPU):
        assert linear(torch.ones(2, 8)).dtype == torch.float32


def test_left_alone_the_hardware_decides(linear: nn.Linear) -> None:
    expected = torch.bfloat16 if is_fast_in_bf16(CPU) else torch.float32
    with autocast("auto", CPU):
        assert linear(torch.ones(2, 8)).dtype == expected
    has_tiles = bool(torch.cpu.get_capabilities().get("amx_bf16"))
    assert is_fast_in_bf16(CPU) == has_tiles


def test_a_device_by_its_name() -> None:
    assert device_of("cpu") == CPU
    assert device_of("cuda:1") == torch.device("cuda", 1)
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("named", [False, True])
def test_attention_inside_runs_in_fp32_and_answers_in_what_it_was_given(*, named: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator).bfloat16() for _ in range(3))
    mask = torch.zeros(5, 5, dtype=torch.bfloat16)
    # below the mode that autocast brings, so that it sees what attention is really given
    with Watched() as watched, autocast("bfloat16", CPU):
        if named:
            found = scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=mask)
        else:
            found = scaled_dot_product_attention(query, key, value, mask)
    assert watched.given == [{torch.float32}]
    assert found.dtype == torch.bfloat16
    full = scaled_dot_product_attention(query.float(), key.float(), value.float())
    torch.testing.assert_close(found.float(), full, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", LESSONS)
def test_a_students_attention_is_taught_in_fp32(name: str) -> None:
    teacher = CASES[name].teacher()
    found = training(teacher, material(teacher), replace(SHORT, steps=2, precision="bfloat16"))
    with Watched() as watched:
        finished(found)
    assert watched.given
    assert all(given == {torch.float32} for given in watched.given)


@pytest.mark.parametrize("mask", ["none", "boolean"])
def test_a_mask_that_is_none_or_of_truths_stays_one(mask: str) -> None:
    given = torch.randn(1, 1, 4, 8, generator=torch.Generator().manual_seed(0))
    kept = None if mask == "none" else torch.ones(4, 4, dtype=torch.bool).tril()
    with autocast("bfloat16", CPU):
        found = scaled_dot_product_attention(given, given, given, attn_mask=kept)
    expected = scaled_dot_product_attention(given, given, given, attn_mask=kept)
    torch.testing.assert_close(found, expected)


def test_a_block_left_in_the_middle_leaves_no_trace(linear: nn.Linear) -> None:
    with pytest.raises(ZeroDivisionError, match="inside"):
        fail_inside()
    assert linear(torch.ones(2, 8)).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def fail_inside() -> None:
    with autocast("bfloat16", CPU):
        raise ZeroDivisionError("inside")


def losses(teacher: Teacher, precision: TrainingPrecision) -> list[float]:
    settings: Distillation = replace(SHORT, precision=precision, learning_rate=1e-3)
    return taught(teacher, material(teacher), settings).losses


@pytest.mark.parametrize("name", LESSONS)
def test_losses_in_bf16_are_those_in_fp32_but_for_a_hundredth(name: str) -> None:
    teacher = CASES[name].teacher()
    full, half = losses(teacher, "float32"), losses(teacher, "bfloat16")
    assert full != half
    assert mean(half) == pytest.approx(mean(full), rel=1e-2)
    assert half == pytest.approx(full, rel=5e-2, abs=1e-2 * max(full))


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16"])
def test_weights_and_what_is_judged_stay_in_fp32(precision: TrainingPrecision) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    student = taught(teacher, material(teacher), replace(SHORT, precision=precision)).student
    assert {tensor.dtype for tensor in weights(student).values()} == {torch.float32}
    assert answer(student).dtype == torch.float32
