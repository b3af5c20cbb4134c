"""What is counted on the meta device is what the built student has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from protege.objectives import Candidate, Memory, Objective, Parameters, Workload
from protege.objectives.machine.precision import BYTES, Precision
from protege.objectives.objective import exceeds
from protege.spaces import Architecture, Cache, Infeasible, Task, Teacher, family_of
from protege.spaces.architecture.sizes import RATIOS as SIZE_OF_RATIO
from tests.objectives import candidates
from tests.tiny import CASES, ZOO, inputs_of
from tests.zoo import EVERY, marked, teacher_of

RATIOS = st.sampled_from([0.25, 0.5, 0.75, 1.0])
CACHED = [
    (name, ratio)
    for name, case in ZOO.items()
    if case.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}
    for ratio in ("", "layers", "decoder_layers", "kv_heads", "heads", "hidden")
    if not ratio or SIZE_OF_RATIO[ratio] in family_of(case.model_type).knobs
]
"""The cases that write with a cache, and the ratios that change its size."""


def candidate(teacher: Teacher, **ratios: Any) -> Candidate:
    return candidates.candidate(teacher, Cache(Path("unused")), **{"multiple_of": 4, **ratios})


@pytest.mark.parametrize("name", EVERY)
@given(ratio=RATIOS, data=st.data())
@settings(max_examples=3)
def test_parameters_and_bytes_are_those_of_the_built_student(
    name: str, ratio: float, data: st.DataObject
) -> None:
    teacher = teacher_of(name)
    own = teacher.architecture
    knobs = [n for n, size in SIZE_OF_RATIO.items() if size in teacher.family.knobs]
    chosen = data.draw(st.sets(st.sampled_from([n for n in knobs if n in present(own)])))
    try:
        given = candidate(teacher, **dict.fromkeys(chosen, ratio))
    except Infeasible:  # the width is no multiple of so many heads
        reject()
    built = {p.data_ptr(): p.numel() for p in given.built().student.module.parameters()}
    counted = Parameters().measure(given)
    assert round(counted.value * 1e6) == sum(built.values())
    assert Memory().measure(given).details["weights_mb"] == pytest.approx(counted.value * 4)


@pytest.mark.parametrize(("name", "ratio"), marked(CACHED))
def test_cache_bytes_are_those_of_a_real_cache(name: str, ratio: str) -> None:
    teacher = teacher_of(name)
    given = candidate(teacher, **({ratio: 0.5} if ratio else {}))
    read = inputs_of(teacher)
    written = 7 if "decoder_input_ids" in read else 0
    with torch.inference_mode():
        cache = given.built().student.model(**read, use_cache=True).past_key_values
    both = [cache.self_attention_cache, cache.cross_attention_cache] if written else [cache]
    held = sum(
        tensor.numel() * tensor.element_size()
        for side in both
        for layer in side.layers
        for tensor in (layer.keys, layer.values)
    )
    splits = [(9, 7)] if written else [(9, 0), (4, 5)]
    for prompt, new in splits:
        workload = Workload(3, prompt, new_tokens=new)
        assert Memory(workload).measure(given).details["kv_cache_mb"] == pytest.approx(held / 1e6)


def present(own: Architecture) -> set[str]:
    """The ratios that the teacher has something to take of."""
    return {name for name, size in SIZE_OF_RATIO.items() if getattr(own, size)}


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
    for objective in (Parameters(limit=10), Memory(limit=10)):
        bounded: Objective = objective
        assert exceeds(bounded, 10.1)
        assert not exceeds(bounded, 10.0)
    assert not exceeds(Parameters(), 1e9)


def test_counting_builds_no_student() -> None:
    given = candidate(CASES["bert"].teacher(), layers=0.5)
    Parameters().measure(given)
    Memory().measure(given)
    assert given.stopwatch.seconds.keys().isdisjoint({"build", "weight reconstruction"})
