"""The student as it is deployed: run by its target's runtime, in its precision."""

import tempfile
import warnings
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.objectives.candidate import Candidate
from protege.objectives.distillation.inputs.batches import Batch
from protege.objectives.latency.device.programs import hint_of, hush_openvino
from protege.objectives.latency.runtimes.exporting import quantized
from protege.objectives.machine.lock import shared_machine
from protege.objectives.machine.precision import Deployment
from protege.spaces import Embedder, ProtegeError, Student
from protege.spaces.checkpoints.source import quiet

TRACED = 2
"""Sequences that a graph is traced with; other numbers and lengths run as well."""

Run = Callable[[Mapping[str, Tensor]], list[Tensor]]
"""Runs a graph; returns its outputs in order."""


def deployed(candidate: Candidate, how: Deployment) -> Candidate:
    """Return a candidate whose student answers as it does when it is deployed.

    Its weights cannot be trained, and it generates no text.

    Args:
        candidate: The candidate with its student.
        how: Runtime and precision.

    Raises:
        ProtegeError: The student cannot be exported.
    """
    student = candidate.student
    batch = _batch(candidate)
    with candidate.stopwatch.phase("export"), shared_machine():
        run = _runner(student.model, batch, how)
        model: Any = _Deployed(student.model, run, *_outputs(student.model, batch))
    embedder = student.embedder
    if embedder is not None:
        embedder = Embedder(model, embedder.pooling, embedder.projection).eval()
    found = Student(
        model=model,
        processor=student.processor,
        architecture=student.architecture,
        kept=student.kept,
        embedder=embedder,
        is_sentence_transformer=student.is_sentence_transformer,
    )
    return replace(candidate, made=found)


class _Deployed(nn.Module):
    """A model whose forward pass is another program's.

    Args:
        model: The model that was exported, which tells the names of inputs and outputs.
        run: Runs the program.
        names: The names of its outputs.
        kind: The class that holds the model's outputs.
    """

    def __init__(self, model: PreTrainedModel, run: Run, names: list[str], kind: type[Any]) -> None:
        super().__init__()
        self.config = model.config
        self.main_input_name = model.main_input_name
        # readers of a model look for the device of its parameters
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

        def forward(**given: Any) -> Any:
            known = {name: one for name, one in given.items() if isinstance(one, Tensor)}
            return kind(**dict(zip(names, run(known), strict=False)))

        # not registered as a part: it is only asked for its size
        self.__dict__["_embedding"] = model.get_input_embeddings
        vars(forward)["__signature__"] = signature(model.forward)
        self.forward = forward

    def get_input_embeddings(self) -> Any:
        return self.__dict__["_embedding"]()

    def can_generate(self) -> bool:
        return False


def _outputs(model: PreTrainedModel, batch: Batch) -> tuple[list[str], type[Any]]:
    """Return the names of a model's outputs, and the class that holds them."""
    with torch.no_grad():
        found: Any = model(**batch.inputs)
    names = [name for name, one in found.items() if isinstance(one, Tensor)]
    return names, type(found)


def _batch(candidate: Candidate) -> Batch:
    """Return two inputs of the student, padded."""
    data = candidate.prepared.data
    inputs, _ = candidate.inputs_and_targets(data, data.selected, data.task)
    return inputs.batch(list(range(min(TRACED, len(inputs)))))


def _runner(model: PreTrainedModel, batch: Batch, how: Deployment) -> Run:
    if how.runtime in {"eager", "compile"}:
        return _half(model, getattr(torch, how.precision))
    given: dict[str, Any] = dict(batch.inputs)
    if model.can_generate():
        given["use_cache"] = False
    try:
        with (
            tempfile.TemporaryDirectory(prefix="protege-") as folder,
            warnings.catch_warnings(),
            quiet(),
        ):
            warnings.simplefilter("ignore")  # of the exporters about themselves
            return _RUNNERS[how.runtime](model, given, Path(folder), how.precision)
    except Exception as error:
        raise ProtegeError(
            f"{type(model).__name__} could not be exported to be judged in {how} "
            f"({type(error).__name__}: {' '.join(str(error).split())[:200]}); judge it in float32: "
            "judged_as='float32'"
        ) from error


def _half(model: PreTrainedModel, dtype: torch.dtype) -> Run:
    """Run a copy of the model in half precision."""
    copy: Any = deepcopy(model)
    copy.to(dtype)

    def run(given: Mapping[str, Tensor]) -> list[Tensor]:
        cast = {n: one.to(dtype) if one.is_floating_point() else one for n, one in given.items()}
        answer = copy(**cast)
        return [one.float() for one in answer.to_tuple() if isinstance(one, Tensor)]

    return run


def _onnx(model: PreTrainedModel, given: dict[str, Any], folder: Path, precision: str) -> Run:
    import onnxruntime
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    OnnxExporter().export(model, deepcopy(given), OnnxConfig(dynamic=True)).save_pretrained(folder)
    file = quantized(folder) if precision == "int8" else "model.onnx"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / file), options, providers=["CPUExecutionProvider"]
    )
    taken = [one.name for one in session.get_inputs()]

    def run(fed: Mapping[str, Tensor]) -> list[Tensor]:
        answer = session.run(None, {name: fed[name].numpy() for name in taken})
        return [torch.from_numpy(one) for one in answer]

    return run


def _openvino(model: PreTrainedModel, given: dict[str, Any], _: Path, precision: str) -> Run:
    hush_openvino()
    import openvino
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter

    half = precision != "float32"
    config = OpenVINOConfig(dynamic=True, stateful=False, compress_to_fp16=half)
    exported: Any = OpenVINOExporter().export(model, deepcopy(given), config)
    graph = exported.components["model"].program
    hint = {"INFERENCE_PRECISION_HINT": hint_of(precision)}
    compiled = openvino.Core().compile_model(graph, "CPU", hint)
    taken = [one.get_any_name() for one in compiled.inputs]

    def run(fed: Mapping[str, Tensor]) -> list[Tensor]:
        answer = compiled({name: fed[name].numpy() for name in taken})
        return [torch.from_numpy(answer[one].copy()).float() for one in compiled.outputs]

    return run


_RUNNERS: dict[str, Callable[[PreTrainedModel, dict[str, Any], Path, str], Run]] = {
    "onnxruntime": _onnx,
    "openvino": _openvino,
}

RUNTIMES = ("eager", "compile", *_RUNNERS)
"""The runtimes that students can be judged on."""
