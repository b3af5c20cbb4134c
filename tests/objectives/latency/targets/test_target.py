import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from protege.objectives.latency import LocalCPU, Plan, SavedModel, Unmeasured, Workload
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import generates
from protege.objectives.latency.runtimes.programs import Programs, Unexportable
from protege.objectives.latency.runtimes.runtimes import RUNTIMES, Name, runtime_named
from protege.objectives.latency.targets.target import Target
from protege.objectives.machine.precision import Precision
from protege.spaces import Task
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint
from tests.tiny import ZOO

ROOT = Path(__file__).parents[4]
EXECUTORCH = os.environ.get("PROTEGE_EXECUTORCH_PYTHON") or str(
    ROOT / ".venv" / "executorch" / "bin" / "python"
)


def blueprint(case: str) -> Blueprint:
    model = ZOO[case].teacher().model
    return Blueprint.of(type(model).__name__, model.config)


def exported(path: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())
    return manifest


@pytest.mark.parametrize("threads", [0, 10_000])
def test_threads_beyond_the_cores_are_refused(threads: int) -> None:
    with pytest.raises(BadInput, match=rf"threads must be 1 to \d+, .* not {threads}$"):
        LocalCPU(threads)


def test_the_description_names_all_that_a_time_depends_on() -> None:
    target: Target = LocalCPU()
    description = target.description()
    assert description["threads"] == 1
    assert description["cpu"]
    assert description["versions"]["torch"] in torch.__version__
    assert description["versions"]["transformers"] == transformers.__version__


def test_a_model_that_cannot_run_is_an_error_that_says_why(
    encoder: Callable[[int], Blueprint], brief: Plan
) -> None:
    with pytest.raises(Unmeasured, match=r"^BertModel could not be timed: \w+Error: "):
        LocalCPU().trace([encoder(1)], Workload(1, 64), brief)


def test_a_model_that_never_answers_is_given_up(
    encoder: Callable[[int], Blueprint],
) -> None:
    hung = Plan(deadline_s=0.001)
    with pytest.raises(Unmeasured, match=r"in 3 tries: no answer within 0\.001 s"):
        LocalCPU().trace([encoder(1)], Workload(1, 4), hung)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "runtime", "precision"),
    [
        ("bert", "onnxruntime", "int8"),
        ("llama-causal-grouped", "openvino", "float32"),
        (f"t5-{Task.TEXT_TO_TEXT}", "onnxruntime", "float32"),
        (f"vit-{Task.IMAGE_FEATURES}", "openvino", "float32"),
    ],
)
def test_models_of_every_kind_run_as_they_are_exported(
    case: str, runtime: Name, precision: Precision, programs: Programs, brief: Plan
) -> None:
    for package in RUNTIMES[runtime].packages:
        pytest.importorskip(package)
    model = blueprint(case)
    new_tokens = 3 if generates(model) else 0
    workload = Workload(2, 8, new_tokens)
    target = LocalCPU(runtime=runtime, precision=precision, programs=programs)
    trace = target.trace([model, model], workload, brief)
    assert len(trace.cold_ms) == 2
    assert len(trace.rounds) >= brief.least_pairs
    manifest = exported(programs.of(model, workload, runtime_named(runtime), precision))
    assert manifest["stages"].keys() == ({"prefill", "step"} if new_tokens else {"prefill"})
    for error in manifest["errors"].values():
        assert error < 1e-5 or precision == "int8"


@pytest.mark.slow
def test_a_checkpoint_runs_as_it_is_exported(
    encoder: Callable[[int], Blueprint], programs: Programs, brief: Plan, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    encoder(1).build().save_pretrained(tmp_path)
    target = LocalCPU(runtime="openvino", programs=programs)
    assert target.trace([SavedModel.at(tmp_path)], Workload(1, 8), brief).rounds


@pytest.mark.slow
def test_what_a_runtime_cannot_take_is_told_in_one_line(
    encoder: Callable[[int], Blueprint], programs: Programs, brief: Plan
) -> None:
    pytest.importorskip("onnxruntime")
    target = LocalCPU(runtime="onnxruntime", programs=programs)
    message = "^BertModel could not be exported for onnxruntime in float32: [^\\n]+$"
    with pytest.raises(Unexportable, match=message):
        target.trace([encoder(1)], Workload(1, 64), brief)  # more than its positions


@pytest.mark.slow
def test_a_program_that_does_not_run_is_told_in_one_line(
    programs: Programs, brief: Plan, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    model, workload, runtime = blueprint("bert"), Workload(2, 8), runtime_named("onnxruntime")
    programs.of(model, workload, runtime, "int8")
    copied = replace(programs, folder=tmp_path / "copied")
    shutil.copytree(programs.folder, copied.folder)
    path = copied.of(model, workload, runtime, "int8")
    (path / "prefill" / "model.int8.onnx").write_text("no graph")
    target = LocalCPU(runtime="onnxruntime", precision="int8", programs=copied)
    with pytest.raises(Unmeasured, match=r"^BertModel could not be timed: \w+: [^\n]+$"):
        target.trace([model], workload, brief)


@pytest.mark.slow
def test_executorch_lives_in_an_environment_of_its_own(
    encoder: Callable[[int], Blueprint], programs: Programs, brief: Plan
) -> None:
    try:
        target = LocalCPU(runtime="executorch", python=EXECUTORCH, programs=programs)
    except BadInput as error:
        pytest.skip(f"make executorch: {error}")
    trace = target.trace([encoder(1)], Workload(1, 8), brief)
    assert trace.rounds
    assert trace.arranged == f"cores {min(os.sched_getaffinity(0))}"
    assert target.description()["versions"]["executorch"]


@pytest.mark.slow
def test_compiled_models_run(encoder: Callable[[int], Blueprint], brief: Plan) -> None:
    try:
        target = LocalCPU(runtime="compile")
    except BadInput as error:
        pytest.skip(str(error))
    trace = target.trace([encoder(1)], Workload(1, 8), brief)
    usual_ms = sorted(sample.wall_ms for sample in trace.samples)[len(trace.rounds) // 2]
    assert trace.cold_ms[0] > 10 * usual_ms  # it was compiled, before the first call that counts
