"""Energy of a call is what calls use beyond rest; where nothing counts it, one line says so."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, Energy, LocalCPU, Objective, Workload
from protege.objectives.latency import Plan, Unmeasured
from protege.objectives.latency.job import MeasurementRequest, TorchSettings, Trace
from protege.objectives.latency.models import Model
from protege.objectives.objective import exceeds
from protege.objectives.resources.energy import measurement
from protege.spaces import Cache
from protege.spaces.errors import BadInput
from tests.objectives.candidates import itself
from tests.tiny import CASES


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    """A machine whose counter stands still."""
    zone = tmp_path / "sys" / "class" / "powercap" / "intel-rapl:0"
    zone.mkdir(parents=True)
    for name, content in {
        "name": "package-0",
        "max_energy_range_uj": 10**9,
        "energy_uj": 5,
    }.items():
        (zone / name).write_text(f"{content}\n")
    return str(tmp_path / "sys")


def candidate(folder: Path) -> Candidate:
    return itself(CASES["bert"].teacher(), Cache(folder))


def record(windows: list[list[float]], idle: list[list[float]]) -> dict[str, Any]:
    return {"meter": "a counter", "windows": windows, "idle": idle}


def test_energy_is_an_objective_with_a_limit_in_millijoules(sysfs: str) -> None:
    objective: Objective = Energy(LocalCPU(), limit=30, sysfs=sysfs)
    assert (objective.name, objective.unit) == ("energy_mj", "mJ")
    assert objective.direction == "minimize"
    assert exceeds(objective, 30.1)
    assert not exceeds(objective, 29.9)


def test_what_the_machine_uses_at_rest_is_subtracted() -> None:
    windows = [[50_000.0, 5.0, 100], [60_000.0, 6.0, 100], [51_000.0, 5.0, 100]]
    found = measurement(record(windows, [[10_000.0, 5.0], [30_000.0, 5.0]]))
    assert list(found.samples) == [300, 360, 310]
    assert found.value == pytest.approx(310)
    assert found.spread == pytest.approx(1.4826 * 10)
    assert dict(found.details) == {
        "idle_w": 4.0,
        "busy_w": pytest.approx(161 / 16),
        "calls": 300.0,
        "meter": "a counter",
    }


def test_a_machine_that_was_busy_at_rest_is_not_believed() -> None:
    idle = [[60_000.0, 5.0], [60_000.0, 5.0]]
    with pytest.raises(Unmeasured, match=r"used as much at rest \(12 W\) as under load"):
        measurement(record([[50_000.0, 5.0, 100]], idle))


@dataclass(frozen=True)
class Scripted:
    """A target of this machine with answers for some jobs."""

    answers: list[dict[str, Any]]
    setting: TorchSettings = field(default_factory=TorchSettings)
    threads: int = 1
    label: str = "scripted"

    def description(self) -> dict[str, Any]:
        return {}

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        raise NotImplementedError

    def ask(
        self, models: Sequence[Model], workload: Workload, plan: Plan, question: MeasurementRequest
    ) -> dict[str, Any]:
        assert (len(models), question.kind) == (1, "energy")
        assert (workload, plan) == (Workload(1, 8), Plan())
        return {"energy": self.answers.pop()}


def test_what_was_measured_is_not_measured_again(tmp_path: Path, sysfs: str) -> None:
    target = Scripted([record([[50_000.0, 5.0, 100]], [[20_000.0, 5.0]] * 2)])
    given = candidate(tmp_path)
    objective = Energy(target, Workload(1, 8), sysfs=sysfs)
    first = objective.measure(given)
    assert first.value == 300
    assert objective.measure(given) == first


def test_a_machine_without_a_meter_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as told:
        Energy(LocalCPU(), sysfs=str(tmp_path))
    said = str(told.value)
    assert said.startswith(f"energy is not available here: no RAPL ({tmp_path}/class/powercap/")
    assert said.endswith("leave Energy out, or measure on a machine that counts it")
    assert "\n" not in said


def test_a_counter_that_stands_still_is_not_believed(tmp_path: Path, sysfs: str) -> None:
    objective = Energy(LocalCPU(), Workload(1, 8), window_s=0.05, windows=1, sysfs=sysfs)
    with pytest.raises(Unmeasured, match=r"used as much at rest \(0 W\) as under load"):
        objective.measure(candidate(tmp_path))


@pytest.mark.parametrize("given", [{"window_s": 0.0}, {"windows": 0}])
def test_windows_of_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="expected more than 0 seconds and 1 window or more"):
        Energy(LocalCPU(), **given)
