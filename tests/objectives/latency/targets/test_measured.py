"""One model by itself, in a fresh process: PyTorch's, and the runner's for an exported program."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter
from typing import Any

import pytest
from transformers import BertConfig

from protege.objectives.latency import LocalCPU, Workload
from protege.objectives.latency.device.resources import _IMPORTS
from protege.objectives.latency.job import MeasurementRequest, TorchSettings
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import RUNTIMES
from protege.objectives.latency.targets.target import measured_alone, on_this_machine
from protege.spaces.models.blueprint import Blueprint

SIZES: dict[str, Any] = {
    "vocab_size": 150_000,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 1,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
}
WORKLOAD = Workload(1, 16)


@pytest.fixture(scope="module")
def model() -> Blueprint:
    """A BERT that costs little to run and has 38 MB of weights."""
    return Blueprint.of("BertModel", BertConfig(**SIZES))


@pytest.fixture(scope="module")
def exported() -> Iterator[LocalCPU]:
    """ONNX Runtime, for the tests that can share what is exported for it."""
    pytest.importorskip("onnxruntime")
    with TemporaryDirectory(dir="/tmp") as folder:  # on a disk: in memory, files are shared memory
        yield LocalCPU(runtime="onnxruntime", programs=Programs(Path(folder)))


@pytest.fixture
def sysfs(tmp_path: Path) -> Iterator[str]:
    """A machine that uses 6 W, whatever it does."""
    zone, done, start_s = tmp_path / "class/powercap/intel-rapl:0", Event(), perf_counter()
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    (zone / "energy_uj").write_text("0\n")

    def run() -> None:
        while not done.wait(0.002):
            (zone / "next").write_text(f"{round((perf_counter() - start_s) * 6e6)}\n")
            (zone / "next").replace(zone / "energy_uj")

    thread = Thread(target=run)
    thread.start()
    yield str(tmp_path)
    done.set()
    thread.join()


@pytest.mark.slow
def test_an_exported_program_is_weighed_without_pytorch(
    model: Blueprint, exported: LocalCPU
) -> None:
    found = [
        measured_alone(exported, model, WORKLOAD, MeasurementRequest("memory")) for _ in range(3)
    ]
    weights_mb = model.skeleton().num_parameters() * 4 / 1e6
    peaks = [max(one["load_peak_mb"], one["run_peak_mb"]) for one in found]
    assert max(peaks) - min(peaks) < 2
    assert weights_mb < min(peaks) < weights_mb + 8
    for one in found:
        assert one["artifact_mb"] == pytest.approx(weights_mb, rel=0.03)
        assert one["imports_mb"] < 150  # PyTorch's take more than twice that


@pytest.mark.slow
def test_an_exported_program_s_calls_are_counted_between_two_readings(
    model: Blueprint, exported: LocalCPU, sysfs: str
) -> None:
    found = measured_alone(exported, model, WORKLOAD, MeasurementRequest("energy", 0.3, 2, sysfs))
    check_windows(found)


def test_pytorch_s_calls_are_counted_between_two_readings(model: Blueprint, sysfs: str) -> None:
    check_windows(
        measured_alone(LocalCPU(), model, WORKLOAD, MeasurementRequest("energy", 0.3, 2, sysfs))
    )


def check_windows(found: dict[str, Any]) -> None:
    assert found["meter"] == "RAPL: package-0"
    assert len(found["windows"]) == len(found["idle"]) == 2
    for mj, seconds, calls in found["windows"]:
        assert 0.3 <= seconds < 5
        assert calls > 1
        assert mj / seconds == pytest.approx(6000, rel=0.3)
    assert [window[2] for window in found["idle"]] == [1, 1]


def test_a_target_runs_one_model_as_it_runs_several() -> None:
    target = LocalCPU(precision="float32", cores=(0,), priority="high")
    assert on_this_machine(target).setting == TorchSettings(
        1, "eager", "float32", "cpu", (0,), "high"
    )


def test_every_runtime_that_exports_has_its_imports_listed() -> None:
    assert set(_IMPORTS) == {one.name for one in RUNTIMES.values() if one.exports}
