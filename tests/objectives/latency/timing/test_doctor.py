from collections.abc import Callable, Sequence

import pytest

from protege.objectives.latency import LocalCPU, Plan, Workload
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.timing.doctor import Finding, examine
from tests.objectives.latency.scripted import Device


def found(target: Device | LocalCPU, said: Callable[[str], None] = print) -> dict[str, Finding]:
    return {one.subject: one for one in examine(target, said)}


def test_a_quiet_device_needs_nothing_done() -> None:
    told: list[str] = []
    findings = found(Device(), told.append)
    assert told == ["timing a model against itself"]
    assert findings["target"].found == "scripted"
    assert findings["a model against itself"].found == "off by 0.0% at most in 2 processes"
    assert findings["the same model alone"].found == "0.0% between processes, wall time"
    assert findings["interrupted calls"].found == "0%: grade A"
    assert [one for one in findings.values() if one.advice] == []


def test_drift_between_processes_is_told() -> None:
    findings = found(Device(pace=(1.0, 1.5, 1.0)))
    assert findings["the same model alone"].found == "50.0% between processes, wall time"
    assert "let it cool" in findings["the same model alone"].advice
    assert findings["a model against itself"].found.startswith("off by 0.0%")


@pytest.mark.parametrize(
    ("threads", "grade", "advice"),
    [(1, "C", "processor time is used"), (2, "unreliable", "use fewer than 2 threads")],
)
def test_noise_is_told_with_what_to_do(threads: int, grade: str, advice: str) -> None:
    finding = found(Device(preemptions=10**6, threads=threads))["interrupted calls"]
    assert finding.found == f"100%: grade {grade}"
    assert advice in finding.advice


def test_what_the_device_says_of_itself_is_passed_on() -> None:
    state = {
        "governors": ["powersave"],
        "mhz": 600.0,
        "max_mhz": 1800.0,
        "temperatures_c": {"thermal_zone0:cpu": 81.4},
        "throttle_counts": {"cpu0": 2},
        "load": [0.5],
    }
    findings = found(Device(after=state))
    assert findings["governor"].found == "powersave"
    assert "frequency-set" in findings["governor"].advice
    assert findings["clock"].found == "600 of 1800 MHz"
    assert findings["temperature"].found == "81 °C at the hottest sensor"
    assert findings["load"].found.startswith("0.5 ")
    assert findings["throttling"].found == "throttled during the measurement (cpu0)"
    assert findings["throttling"].advice


class Untimed(LocalCPU):
    """This machine, with the times of a scripted device."""

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        return Device().trace(models, workload, plan)


def test_this_machine_tells_its_runtimes_and_what_is_missing() -> None:
    findings = found(Untimed())
    assert findings["runtime eager"].found.startswith("torch ")
    assert findings["cores"].found.split(" of ")[0].isdigit()
    for name in ("onnxruntime", "openvino", "executorch"):
        one = findings[f"runtime {name}"]
        assert ("pip install" in one.advice) == (one.found == "absent")
    assert "bfloat16" in findings
