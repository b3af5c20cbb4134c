"""What is counted on the meta device is what the built student has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protege.objectives import Candidate, Memory, Objective, Parameters, Workload, exceeds
from protege.objectives.size import BYTES, Precision
from protege.spaces import Cache, Task, Teacher
from tests.tiny import CASES, VOCABULARY

RATIOS = st.sampled_from([0.25, 0.5, 0.75, 1.0])
DECODERS = [name for name, case in CASES.items() if case.task is Task.GENERATION]


def candidate(teacher: Teacher, **ratios: float) -> Candidate:
    given: Any = {"multiple_of": 4, **ratios}
    return Candidate(teacher, teacher.architecture.scaled(**given), Cache(Path("unused")))


@given(layers=RATIOS, hidden=RATIOS, intermediate=RATIOS)
@settings(max_examples=15)
def test_parameters_are_those_of_the_built_student(
    teacher: Teacher, layers: float, hidden: float, intermediate: float
) -> None:
    given = candidate(teacher, layers=layers, hidden=hidden, intermediate=intermediate)
    built = {p.data_ptr(): p.numel() for p in given.student.module.parameters()}
    counted = Parameters().measure(given)
    assert round(counted.value * 1e6) == sum(built.values())
    assert Memory().measure(given).details["weights_mb"] == pytest.approx(counted.value * 4)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("ratios", [{}, {"layers": 0.5}, {"kv_heads": 0.5}, {"heads": 0.5}])
def test_cache_bytes_are_those_of_a_real_cache(name: str, ratios: dict[str, float]) -> None:
    given = candidate(CASES[name].teacher(), **ratios)
    ids = torch.randint(5, VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        cache = given.student.model(input_ids=ids, use_cache=True).past_key_values
    held = sum(
        tensor.numel() * tensor.element_size()
        for layer in cache.layers
        for tensor in (layer.keys, layer.values)
    )
    for workload in (Workload(3, 11), Workload(3, 4, new_tokens=7)):
        assert Memory(workload).measure(given).details["kv_cache_mb"] == pytest.approx(held / 1e6)


@pytest.mark.parametrize("precision", BYTES)
def test_precision_scales_weights_and_cache_alike(precision: Precision) -> None:
    given = candidate(CASES["llama-causal-grouped"].teacher())
    full = Memory(Workload(2, 8)).measure(given)
    other = Memory(Workload(2, 8), precision).measure(given)
    assert other.value == pytest.approx(full.value * BYTES[precision] / 4)
    assert other.value == pytest.approx(sum(map(float, other.details.values())))


def test_what_does_not_generate_keeps_no_cache() -> None:
    for name in ("bert", "llama-sentences", "llama-texts"):
        found = Memory(Workload(8, 30)).measure(candidate(CASES[name].teacher()))
        assert found.details["kv_cache_mb"] == 0


def test_limits_are_upper_bounds() -> None:
    for objective in (Parameters(limit=10), Memory(limit_mb=10)):
        bounded: Objective = objective
        assert exceeds(bounded, 10.1)
        assert not exceeds(bounded, 10.0)
    assert not exceeds(Parameters(), 1e9)


def test_counting_builds_no_student() -> None:
    given = candidate(CASES["bert"].teacher(), layers=0.5)
    Parameters().measure(given)
    Memory().measure(given)
    assert "student" not in vars(given)
