"""Load exported programs from their folders and call them."""

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
"""The file with a program's runtime and stages; written last, so that it marks completeness."""

PLAIN = "-plain"
"""The suffix of inputs that are plain numbers, not tensors."""


class Program:
    """An exported model: a prefill, and a decoding step if it generates tokens.

    Every step decodes the same token after the whole prompt, with the KV cache as the prefill left
    it, so that runtimes with fixed shapes can run it.

    Attributes:
        runtime: The runtime's name.
        prefill: Runs the prompt, or the whole call of a model that generates no tokens.
        step: Decodes one token; None if no tokens are generated.
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
        """Return a call that reads the prompt and decodes `new_tokens` tokens.

        Raises:
            ValueError: Tokens are asked for and the program has no step.
        """
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
    # otherwise threads of the waiting model spin on the cores of the running one
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
    """Disable OpenVINO's telemetry, which forks on import and may hang."""
    # OpenVINO has a stub for when the module cannot be imported
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def hint_of(precision: str) -> str:
    """Return OpenVINO's name of a precision."""
    return {"bfloat16": "bf16", "float16": "f16"}.get(precision, "f32")


def _openvino(folder: Path, file: str, threads: int, precision: str) -> Stage:
    hush_openvino()
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": hint_of(precision),
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
    # by position: ExecuTorch inputs have no names
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
    """Return the inputs of a stage by name."""
    import numpy

    with numpy.load(folder / "inputs.npz") as stored:
        # not `ascontiguousarray`, which turns a scalar into a vector
        return {name: numpy.array(stored[name], order="C") for name in stored.files}
