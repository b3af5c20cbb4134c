from collections.abc import Callable
from pathlib import Path

import pytest

from protege.objectives.candidate import Candidate
from protege.objectives.latency import Latency, LocalCPU, Plan, Workload
from protege.objectives.objective import Cost, Objective, exceeds
from protege.spaces.blueprint import Blueprint
from protege.spaces.errors import BadInput

Blueprints = Callable[[int], Blueprint]
Cut = Callable[[Blueprint, int], Candidate]


@pytest.fixture
def latency(brief: Plan) -> Latency:
    return Latency(LocalCPU(), Workload(1, 8), plan=brief)


def records(candidate: Candidate, kind: str) -> list[Path]:
    return sorted(candidate.cache.folder.glob(f"{kind}-*.json"))


def test_latency_is_an_objective_with_a_limit_in_milliseconds() -> None:
    objective: Objective = Latency(LocalCPU(), limit_ms=20)
    assert (objective.name, objective.unit) == ("latency_ms", "ms")
    assert (objective.direction, objective.cost) == ("minimize", Cost.SECONDS)
    assert exceeds(objective, 20.1)
    assert not exceeds(objective, 19.9)


def test_the_teacher_is_the_reference_and_its_ratio_is_one(
    latency: Latency, candidate: Cut, encoder: Blueprints
) -> None:
    teacher = candidate(encoder(2), 2)
    measurement = latency.measure(teacher)
    assert measurement.value > 0
    assert measurement.details["ratio_to_teacher"] == 1.0
    assert measurement.details["speedup"] == 1.0
    assert len(records(teacher, "reference")) == 1
    assert not records(teacher, "latency")


def test_a_student_is_its_ratio_times_the_teachers_time(
    latency: Latency, candidate: Cut, encoder: Blueprints
) -> None:
    student = candidate(encoder(2), 1)
    teacher_ms = latency.measure(candidate(encoder(2), 2)).value
    measurement = latency.measure(student)
    ratio = measurement.details["ratio_to_teacher"]
    assert isinstance(ratio, float)
    assert measurement.value == pytest.approx(ratio * teacher_ms)
    assert measurement.spread >= 0.015 * measurement.value
    assert len(measurement.samples) == measurement.details["pairs"]
    assert measurement.details["grade"] in {"A", "B", "C"}
    assert "prefill_ms" not in measurement.details
    assert student.stopwatch.seconds["latency"] > 0


def test_what_was_measured_is_not_measured_again(
    latency: Latency, candidate: Cut, encoder: Blueprints
) -> None:
    student = candidate(encoder(2), 1)
    first = latency.measure(student)
    written = [path.stat().st_mtime_ns for path in records(student, "*")]
    assert latency.measure(candidate(encoder(2), 1)) == first
    assert [path.stat().st_mtime_ns for path in records(student, "*")] == written


def test_another_workload_is_another_measurement(
    latency: Latency, candidate: Cut, encoder: Blueprints
) -> None:
    student = candidate(encoder(2), 1)
    latency.measure(student)
    Latency(LocalCPU(), Workload(1, 16), plan=latency.plan).measure(student)
    assert len(records(student, "reference")) == 2
    assert len(records(student, "latency")) == 2


def test_a_decoder_tells_prefill_and_steps(
    brief: Plan, candidate: Cut, decoder: Blueprints
) -> None:
    latency = Latency(LocalCPU(), Workload(1, 8, new_tokens=2), plan=brief)
    details = latency.measure(candidate(decoder(2), 1)).details
    for figure in ("prefill_ms", "per_token_ms", "cold_ms"):
        value = details[figure]
        assert isinstance(value, float)
        assert value > 0


def test_an_encoder_asked_for_new_tokens_is_an_error(
    brief: Plan, candidate: Cut, encoder: Blueprints
) -> None:
    latency = Latency(LocalCPU(), Workload(1, 8, new_tokens=2), plan=brief)
    with pytest.raises(BadInput, match="BertModel generates no tokens"):
        latency.measure(candidate(encoder(2), 1))
