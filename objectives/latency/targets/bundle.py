"""Write a folder of exported models to be timed on a device that is reached by copying files."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Model, check_fits, configuration_of, described
from protege.objectives.latency.runtimes.programs import Programs, weights_of
from protege.objectives.latency.runtimes.runtimes import runtime_named
from protege.objectives.latency.targets.target import program_job
from protege.objectives.latency.targets.upload import runner, runner_name
from protege.objectives.latency.workload import Plan, Workload
from protege.objectives.machine.precision import Precision
from protege.spaces.errors import BadInput
from protege.spaces.files.atomic import atomic
from protege.spaces.files.hashing import canonical, digest, sha256_of

RESULTS = "protege-results-1"
"""The format name of a results file."""

PROCESSES = 3
"""Fresh processes for each pair; the spread between them is the reported error."""


def write_bundle(
    models: Sequence[Model],
    workload: Workload,
    runtime: str,
    precision: Precision,
    folder: str | Path,
    programs: Programs | None = None,
) -> Path:
    """Write a folder with everything needed to time models on another device.

    It holds the exported programs, the runner, a ``README.md`` with instructions, and a
    ``manifest.json`` that says what to run and to report. ``run.py`` does all of it on a machine
    with Python; elsewhere the latencies are entered by hand in the same format.

    Args:
        models: The first is the reference that each other model is timed against.
        workload: The size of a call.
        runtime: The runtime to export for.
        precision: The precision.
        folder: The folder to create; must not exist.
        programs: The cache of exported models; the default one if None.

    Returns:
        The folder.

    Raises:
        BadInput: The folder exists, there is no model, or a model cannot run the workload.
        DiskFull: The disk is full; the partial folder is removed.
        Unexportable: The runtime cannot run a model.
    """
    path = Path(folder)
    if path.exists():
        raise BadInput(f"{path} exists already; name a folder that does not")
    if not models:
        raise BadInput("models=[]: expected one or more")
    for model in models:
        check_fits(model, workload)
    exporting = runtime_named(runtime, precision, exports=True)
    kept = programs or Programs()
    exported = {
        call_name(model, workload): (model, kept.of(model, workload, exporting, precision))
        for model in models
    }
    with atomic(path) as scratch:
        for name, (_, program) in exported.items():
            shutil.copytree(program, scratch / "programs" / name)
        manifest = {
            "format": "protege-bundle-1",
            "runtime": runtime,
            "precision": precision,
            "workload": asdict(workload),
            "models": [_entry(name, *found) for name, found in exported.items()],
            "run": _how_to_run(workload),
            "runner": runner_name(),
            "results": _how_to_report(workload),
        }
        (scratch / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        (scratch / runner_name()).write_bytes(runner())
        source = files("protege.objectives.latency.device") / "by_hand.py"
        (scratch / "run.py").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        needed = " ".join(sorted(exporting.needed))
        (scratch / "README.md").write_text(_README.format(needed=needed), encoding="utf-8")
    return path


def call_name(model: Model, workload: Workload) -> str:
    """Return the name of a model in a bundle and its results: a hash of model and workload."""
    fields = described(model) | weights_of(model)  # a checkpoint's content, not its path
    return digest(canonical({"model": fields, "workload": asdict(workload)}).encode())


def _entry(name: str, model: Model, program: Path) -> dict[str, Any]:
    """Return one model's entry in the manifest."""
    manifest = json.loads((program / MANIFEST).read_text(encoding="utf-8"))
    place, config = f"programs/{name}", configuration_of(model).to_dict()
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    paths = sorted(path for path in program.rglob("*") if path.is_file())
    return {
        "name": name,
        "model_class": model.model_class,
        "sizes": {size: config[size] for size in sizes if size in config},
        "stages": {
            stage: {
                "program": f"{place}/{stage}/{file}",
                "inputs": _inputs(program / stage / "inputs.npz"),
            }
            for stage, file in manifest["stages"].items()
        },
        "sha256": {
            f"{place}/{path.relative_to(program).as_posix()}": sha256_of(path) for path in paths
        },
    }


def _inputs(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return {
            name: {"shape": list(stored[name].shape), "type": str(stored[name].dtype)}
            for name in stored.files
        }


def _how_to_run(workload: Workload) -> dict[str, Any]:
    plan = Plan()
    return {
        "processes": PROCESSES,
        "threads": 1,
        "warm_up_calls": plan.warm_up_rounds,
        "calls": plan.usual_pairs,
        "order": "alternate with the first model and swap the order in every second round; if that "
        "is impossible, run the two as close together as possible",
        "call": "prefill once"
        + (f", then step {workload.new_tokens} times" if workload.new_tokens else ""),
        "job": program_job(workload, plan, 1, (), "normal") | {"detached": True},
    }


def _how_to_report(workload: Workload) -> dict[str, Any]:
    """Return the format of RESULTS.json, field by field."""
    figures: dict[str, Any] = {
        "first_ms": "milliseconds of the very first call, before any warm-up",
        "ms": ["milliseconds of every later call, in order; 3 or more"],
        "cpu_ms": ["optional: processor time of each call in milliseconds"],
        "preemptions": ["optional: involuntary context switches during each call"],
    }
    if workload.new_tokens:
        figures["prefill_ms"] = ["milliseconds of the prompt in each call"]
        figures["prefill_cpu_ms"] = ["optional: processor time of the prompt in each call"]
    return {
        "file": "RESULTS.json",
        "format": RESULTS,
        "device": "the device's name, such as iPhone 15, iOS 18.1",
        "runtime": "as above",
        "precision": "as above",
        "threads": 1,
        "runs": [
            {
                "models": {"the model's name as above": figures},
                "environment": {"before": "optional: temperatures, ...", "after": "optional"},
            }
        ],
        "a run": "one fresh process that alternates two models or all of them; the n-th calls of "
        "two models in a run are compared with each other; three or more runs are needed to "
        "estimate the error",
    }


_README = """\
# Models to be timed on a device

`manifest.json` lists the models, their inputs, how often to call them and what to report.
The first model is the reference: all others are compared with it.

## With Python 3.8 or later on the device

    python3 -m pip install {needed}
    python3 run.py "NAME OF THE DEVICE"

This takes some seconds per model and writes `RESULTS.json`. Do not use the device meanwhile.

## Without Python: a phone, a device farm

Run every program under `programs/` as `manifest.json` says under `run`; the inputs of each stage
are in the `inputs.npz` beside it. Write the milliseconds of each call to `RESULTS.json`, in the
format that `manifest.json` describes under `results`.

Let the device cool down first, keep it plugged in, and close all other programs.

## Import the results

    protege measure --import RESULTS.json MODEL...

or, in Python, `Latency(Imported("RESULTS.json"), workload)` with the same workload.
"""
