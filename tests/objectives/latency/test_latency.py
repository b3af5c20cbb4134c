import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.candidate import Candidate
from protege.objectives.latency import Latency, LocalCPU, Plan, Unmeasured, Workload
from protege.objectives.latency.job import Trace
from protege.objectives.latency.local.fork_server import SERVER
from protege.objectives.latency.models import Model
from protege.objectives.measurement import Stage
from protege.objectives.objective import Objective, exceeds
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint
from tests.objectives.latency.scripted import Device

Blueprints = Callable[[int], Blueprint]
Cut = Callable[[Blueprint, int], Candidate]


@pytest.fixture
def latency(brief: Plan) -> Latency:
    return Latency(LocalCPU(), Workload(1, 8), plan=brief)


def records(candidate: Candidate, kind: str) -> list[Path]:
    # on a noisy machine a reference may have been timed again, which is a record of its own kind
    found = candidate.cache.folder.glob(f"{kind}-*.json")
    return sorted(path for path in found if not path.name.startswith(f"{kind}-again-"))


def test_latency_is_an_objective_with_a_limit_in_milliseconds() -> None:
    objective: Objective = Latency(LocalCPU(), limit=20)
    assert (objective.name, objective.unit) == ("latency_ms", "ms")
    assert (objective.direction, objective.stage) == ("minimize", Stage.SHAPE)
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


@pytest.mark.slow
def test_a_runner_that_is_killed_as_it_measures_is_asked_again(
    candidate: Cut, encoder: Blueprints, brief: Plan
) -> None:
    plan = replace(brief, usual_pairs=10**9, most_pairs=10**9, pairs_s=1.0)
    latency = Latency(LocalCPU(), Workload(1, 8), plan=plan)
    student = candidate(encoder(2), 1)
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.1)
            pid = SERVER.pid
            if pid and Path(f"/proc/{pid}/task/{pid}/children").read_text():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    assert latency.measure(student).value > 0
    thread.join()


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


SMALL = Workload(1, 8)
QUICK = Plan(usual_pairs=10, back_off_s=(), cool_down_s=0.0)


@pytest.mark.parametrize(
    ("percentile", "label", "name"),
    [(50, "", "latency_ms"), (90, "", "latency_p90_ms"), (99, "pi5", "latency_pi5_p99_ms")],
)
def test_each_latency_of_a_study_has_a_name(percentile: int, label: str, name: str) -> None:
    assert Latency(Device(), percentile=percentile, label=label).name == name


@pytest.mark.parametrize(("field_", "value"), [("percentile", 75), ("label", "pi 5")])
def test_what_no_latency_can_be_is_refused(field_: str, value: Any) -> None:
    with pytest.raises(BadInput, match=rf"{field_}={value!r}: expected"):
        Latency(Device(), **{field_: value})


@pytest.mark.parametrize(("percentile", "calls"), [(50, 20), (90, 64), (95, 130), (99, 662)])
def test_a_percentile_has_the_calls_that_it_needs(
    candidate: Cut, encoder: Blueprints, percentile: int, calls: int
) -> None:
    latency = Latency(Device(), SMALL, plan=QUICK, percentile=percentile)
    assert float(latency.measure(candidate(encoder(2), 1)).details["pairs"]) >= calls


def test_a_percentile_is_the_students_over_the_teachers_median(
    candidate: Cut, encoder: Blueprints
) -> None:
    # calls take 1 to 10 times a layer: half a teacher's median of 11 is 5.5, its 90th of ten is 9
    found = Latency(Device(), SMALL, plan=QUICK, percentile=90).measure(candidate(encoder(2), 1))
    assert found.value == pytest.approx(9.0, abs=1.0)
    assert Latency(Device(), SMALL, plan=QUICK).measure(
        candidate(encoder(2), 1)
    ).value == pytest.approx(5.5)


def test_what_noise_spoilt_is_never_taken(candidate: Cut, encoder: Blueprints) -> None:
    noisy = Latency(Device(preemptions=999, threads=2), SMALL, plan=QUICK)
    student = candidate(encoder(2), 1)
    with pytest.raises(Unmeasured, match=r"on scripted: .* spoilt every try \(100% of the calls\)"):
        noisy.measure(student)
    assert not records(student, "*")


def test_a_tail_is_not_read_off_processor_time(candidate: Cut, encoder: Blueprints) -> None:
    noisy = Device(preemptions=999)
    assert (
        Latency(noisy, SMALL, plan=QUICK).measure(candidate(encoder(2), 1)).details["clock"]
        != "wall"
    )
    with pytest.raises(Unmeasured, match="the median of one thread"):
        Latency(noisy, SMALL, plan=QUICK, percentile=90).measure(candidate(encoder(2), 1))


@pytest.mark.parametrize(
    ("pace", "processes", "told", "grade"),
    [
        ((1.0, 1.0, 1.05, 1.05), 4, "", "A"),  # as it was
        ((1.0, 1.0, 1.2, 1.2), 4, "", "B"),  # slower than at first
        ((1.0, 1.0, 0.85, 0.85), 4, "", "B"),  # faster than at first
        ((1.0, 1.0, 1.5, 1.5), 6, "reference_now_ms", "C"),  # much slower
        ((1.0, 1.0, 0.5, 0.5), 6, "reference_now_ms", "C"),  # much faster
    ],
)
def test_drift_lowers_the_grade_and_no_candidate_is_timed_twice(
    candidate: Cut,
    encoder: Blueprints,
    pace: Sequence[float],
    processes: int,
    told: str,
    grade: str,
) -> None:
    device = Device(pace)
    found = Latency(device, SMALL, plan=QUICK).measure(candidate(encoder(2), 1))
    assert found.value == pytest.approx(5.5)  # the ratio, on the study's first scale
    assert found.details["grade"] == grade
    assert len(device.asked) == processes
    assert {n for n in found.details if n.startswith("reference_now")} == set(filter(None, [told]))
    assert found.details.get(told, 11 * pace[-1]) == pytest.approx(11 * pace[-1])


def test_the_error_is_told_apart_from_the_floor_under_it(
    candidate: Cut, encoder: Blueprints
) -> None:
    # of a steady device the processes agree, so that the error is the floor
    steady = Latency(Device(), SMALL, plan=QUICK).measure(candidate(encoder(2), 1))
    assert steady.spread == pytest.approx(0.015 * steady.value)
    assert steady.details["error_floor"] == "1.5%"
    assert steady.details["measured_error_ms"] == 0.0
    shaky = Latency(Shaky(), SMALL, plan=QUICK).measure(candidate(encoder(2), 1))
    assert "error_floor" not in shaky.details
    assert shaky.spread == shaky.details["measured_error_ms"]
    assert shaky.spread > 0.015 * shaky.value


@dataclass(frozen=True)
class Shaky(Device):
    """Every process finds the candidate 10 % slower than the one before."""

    label: str = "shaky"

    def description(self) -> dict[str, str]:
        return {"device": "shaky"}

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        found = Device.trace(self, models, workload, plan)
        share = 1.1 ** len(self.asked) if len(models) > 1 else 1.0
        rounds = tuple(
            (*row[:-1], row[-1]._replace(wall_ms=row[-1].wall_ms * share)) for row in found.rounds
        )
        return replace(found, rounds=rounds)


def test_a_busy_machine_is_no_drift_of_the_device(candidate: Cut, encoder: Blueprints) -> None:
    # wall time triples for other work; processor time, which the device needs, stays
    busy = Latency(Busy(preemptions=1), SMALL, plan=QUICK).measure(candidate(encoder(2), 1))
    assert busy.details["grade"] == "B"
    assert busy.details["reference_drift"] == 0.0


@dataclass(frozen=True)
class Busy(Device):
    """A device on which other work begins once the reference is known: half the calls suffer."""

    label: str = "busy"

    def description(self) -> dict[str, str]:
        return {"device": "busy"}

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        found = Device.trace(self, models, workload, plan)
        times = 1 if len(models) == 1 else 3
        rounds = tuple(
            tuple(
                one._replace(wall_ms=one.wall_ms * times, preemptions=99 * (times > 1 and k % 2))
                for one in row
            )
            for k, row in enumerate(found.rounds)
        )
        return replace(found, rounds=rounds)


def test_throttling_is_told_after_another_try(candidate: Cut, encoder: Blueprints) -> None:
    hot = Device(after={"throttle_counts": {"cpu0": 2}})
    found = Latency(hot, SMALL, plan=QUICK).measure(candidate(encoder(2), 1))
    assert found.details["throttled"] == "throttled during the measurement (cpu0)"
    assert found.details["grade"] == "B"
    assert len(hot.asked) == 8  # the teacher was tried twice too


def test_another_percentile_is_another_measurement(candidate: Cut, encoder: Blueprints) -> None:
    student, device = candidate(encoder(2), 1), Device()
    Latency(device, SMALL, plan=QUICK).measure(student)
    Latency(device, SMALL, plan=replace(QUICK, sustained_s=1.0)).measure(student)
    Latency(device, SMALL, plan=QUICK, percentile=90).measure(student)
    assert len(records(student, "latency")) == 3
