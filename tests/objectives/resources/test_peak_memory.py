"""Measured memory is that of the weights and little beside, the same in every process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, LocalCPU, Memory, Objective, PeakMemory, Workload
from protege.objectives.latency import Plan, Unmeasured
from protege.objectives.latency.job import MeasurementRequest
from protege.objectives.latency.targets.target import measured
from protege.objectives.objective import exceeds
from protege.spaces import Cache, Task, Teacher
from protege.spaces.errors import BadInput
from tests.objectives import candidates
from tests.tiny import CASES, Case

BIG = Case(
    "bert",
    Task.FEATURES,
    {
        "vocab_size": 150_000,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 128,
    },
)
"""40 MB of weights, nearly all of them one embedding, which costs a call nothing."""

Cut = Callable[..., Candidate]


@pytest.fixture(scope="module")
def big() -> Teacher:
    return BIG.teacher()


@pytest.fixture
def cut(tmp_path: Path) -> Cut:
    def made(teacher: Teacher, **ratios: Any) -> Candidate:
        return candidates.candidate(teacher, Cache(tmp_path), **{"multiple_of": 4, **ratios})

    return made


def test_peak_memory_is_an_objective_with_a_limit_in_megabytes() -> None:
    objective: Objective = PeakMemory(LocalCPU(), limit=100)
    assert (objective.name, objective.unit, objective.direction) == (
        "peak_memory_mb",
        "MB",
        "minimize",
    )
    assert exceeds(objective, 100.1)
    assert not exceeds(objective, 99.9)


def test_an_eager_peak_is_the_weights_and_little_beside(big: Teacher, cut: Cut) -> None:
    candidate = cut(big)
    found = PeakMemory(LocalCPU(), Workload(1, 16)).measure(candidate)
    weights_mb = Memory().measure(candidate).value
    assert found.details["artifact_mb"] == pytest.approx(weights_mb)
    assert 0.95 * weights_mb < found.value < weights_mb + 5
    assert found.value == pytest.approx(
        max(float(found.details["load_peak_mb"]), float(found.details["run_peak_mb"])), abs=1
    )
    assert float(found.details["imports_mb"]) > found.value
    assert candidate.stopwatch.seconds["memory"] > 0


def test_fresh_processes_agree(big: Teacher, cut: Cut) -> None:
    found = PeakMemory(LocalCPU(), Workload(1, 16)).measure(cut(big))
    assert len(found.samples) == 3
    assert max(found.samples) - min(found.samples) < 0.03 * found.value
    assert found.spread < 0.03 * found.value


def test_activations_count(big: Teacher, cut: Cut) -> None:
    candidate = cut(big)
    narrow = PeakMemory(LocalCPU(), Workload(1, 16)).measure(candidate)
    wide = PeakMemory(LocalCPU(), Workload(512, 32)).measure(candidate)
    activations_mb = 512 * 32 * 128 * 4 / 1e6  # what a feed-forward of the batch holds
    assert float(wide.details["run_peak_mb"]) > narrow.value + 2 * activations_mb
    assert float(wide.details["load_peak_mb"]) == pytest.approx(
        float(narrow.details["load_peak_mb"]), rel=0.03
    )


def test_what_was_measured_is_not_measured_again(big: Teacher, cut: Cut, tmp_path: Path) -> None:
    objective = PeakMemory(LocalCPU(), Workload(1, 8))
    first = objective.measure(cut(big))
    (stored,) = tmp_path.glob("peak-memory-*")
    written = stored.stat().st_mtime_ns
    assert objective.measure(cut(big)) == first
    assert stored.stat().st_mtime_ns == written


def test_the_cache_of_a_decoder_is_told_at_full_context(cut: Cut) -> None:
    candidate, workload = cut(CASES["llama-causal-grouped"].teacher()), Workload(2, 8, new_tokens=4)
    found = PeakMemory(LocalCPU(), workload).measure(candidate)
    counted = Memory(workload).measure(candidate).details
    assert found.details["kv_cache_mb"] == counted["kv_cache_mb"]
    assert float(counted["kv_cache_mb"]) > 0


def test_a_workload_that_is_not_one_for_the_model_is_an_error(cut: Cut) -> None:
    encoder = cut(CASES["bert"].teacher())
    with pytest.raises(BadInput, match="generates no tokens: new_tokens must be 0, not 2"):
        PeakMemory(LocalCPU(), Workload(1, 8, new_tokens=2)).measure(encoder)
    with pytest.raises(BadInput, match="has positions for 40 tokens"):
        PeakMemory(LocalCPU(), Workload(1, 100)).measure(encoder)


def test_a_model_that_cannot_run_is_an_error_that_says_why(big: Teacher, cut: Cut) -> None:
    too_long, question = Workload(1, 100), MeasurementRequest("memory")
    with pytest.raises(Unmeasured, match=r"^memory of BertModel could not be measured: \w+Error: "):
        measured(LocalCPU(), [cut(big).blueprint], too_long, Plan(), question)


def test_the_memory_of_a_compiler_is_not_that_of_a_student() -> None:
    compiles = LocalCPU()
    object.__setattr__(compiles, "runtime", "compile")  # wherever there is no compiler, too
    with pytest.raises(BadInput, match="the peak of runtime='compile' is its compiler's"):
        PeakMemory(compiles)


def test_another_machine_is_refused() -> None:
    class Elsewhere:
        label = "a board"

    elsewhere: Any = Elsewhere()
    with pytest.raises(BadInput, match="a board: memory and energy are measured on this machine"):
        PeakMemory(elsewhere)
