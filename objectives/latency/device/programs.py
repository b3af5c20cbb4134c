"""Exported programs: read from their folders and made ready to be called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protege.objectives.latency.device.loop import Clocks, sample_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from protege.objectives.latency.device.loop import Call, Sample

    Stage = Callable[[], object]

MANIFEST = "program.json"
"""Names a program's runtime and its stages; written last, so that with it a program is whole."""

PLAIN = "-plain"
"""Ends the name of what a program is given as a number and not as a tensor of one."""


class Program:
    """A model as one runtime takes it: a prompt's stage, and a step's where it generates tokens.

    A step reads one token behind the whole prompt, with the cache as the prompt left it; every step
    is the same one, so that a runtime with fixed shapes can run it too.

    Attributes:
        runtime: What runs it.
        prefill: Runs the prompt; the whole call of a model that generates nothing.
        step: Decodes one token; none where there are none.
    """

    def __init__(self, folder: str, threads: int) -> None:
        path = Path(folder)
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        self.runtime = str(manifest["runtime"])
        opened = _RUNTIMES[self.runtime]
        precision = str(manifest["precision"])
        stages: dict[str, Stage] = {
            name: opened(path / name, str(file), threads, precision)
            for name, file in manifest["stages"].items()
        }
        self.prefill = stages["prefill"]
        self.step = stages.get("step")

    def call(self, new_tokens: int) -> Call:
        """A call that reads the prompt and generates so many tokens."""
        prefill, step = self.prefill, self.step
        if new_tokens and step is None:
            raise ValueError("the program was exported without a step; it generates no tokens")

        def call() -> Sample:
            start = Clocks.now()
            prefill()
            prefilled = Clocks.now()
            if step is not None:
                for _ in range(new_tokens):
                    step()
            return sample_of(start, prefilled, Clocks.now())

        return call


def _onnxruntime(folder: Path, file: str, threads: int, _precision: str) -> Stage:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # the threads of the model that waits would otherwise spin on the cores of the one that runs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        str(folder / file), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    for name, array in inputs_of(folder).items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def hush_openvino() -> None:
    """Keep OpenVINO from reporting that it was imported, which it does by a fork that may hang."""
    # what cannot be imported it does without, by a stub of its own
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def _openvino(folder: Path, file: str, threads: int, precision: str) -> Stage:
    hush_openvino()
    import openvino

    hint = {"bfloat16": "bf16", "float16": "f16"}.get(precision, "f32")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": hint,
    }
    request = (
        openvino.Core().compile_model(str(folder / file), "CPU", settings).create_infer_request()
    )
    for name, array in inputs_of(folder).items():
        request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
    infer: Stage = request.infer
    return infer


def _executorch(folder: Path, file: str, _threads: int, _precision: str) -> Stage:
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(folder / file).load_method("forward")
    # in order: a program of ExecuTorch has no names for what it is given
    arrays = inputs_of(folder)
    given = [
        arrays[name].item() if name.endswith(PLAIN) else torch.from_numpy(arrays[name])
        for name in sorted(arrays)
    ]
    return lambda: method.execute(given)


_RUNTIMES: dict[str, Any] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
    "executorch": _executorch,
}


def inputs_of(folder: Path) -> dict[str, Any]:
    """What a stage is given, by name."""
    import numpy

    with numpy.load(folder / "inputs.npz") as stored:
        # not `ascontiguousarray`, which makes a row of a single number
        return {name: numpy.array(stored[name], order="C") for name in stored.files}
