"""Write a model as ONNX and run it in ONNX Runtime."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protege.search.handover.formats.agreement import Array, Feed, Generate, Step, Written, greedy
from protege.search.handover.formats.samples import ends_of, traced
from protege.spaces import Task, Teacher

LARGEST = 1_500_000_000
"""Bytes of weights that go into the file itself: protobuf ends at two gigabytes."""

BLOCK = 32
"""Weights that share a scale in int4."""


def write_onnx(teacher: Teacher, target: Path, precision: str) -> Written:
    """Write a model to a file, in a precision, and load it.

    Inputs and outputs of decoders have the names that optimum, Transformers.js and ONNX Runtime
    GenAI expect.
    """
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    exported = OnnxExporter().export(teacher.model, traced(teacher), OnnxConfig(dynamic=True))
    program: Any = exported.components["model"].program
    _rename(program.graph)
    _save(program, target)
    if precision != "float32":
        _CONVERSIONS[precision](target)
    session = _session(target)
    files = [target, *target.parent.glob(f"{target.name}.data")]
    if teacher.task is Task.GENERATION:
        return Written(files, generate=_generating(session, ends_of(teacher.model)))
    taken = [one.name for one in session.get_inputs()]

    def forward(given: dict[str, Tensor]) -> Tensor:
        answer = session.run(None, {name: given[name].numpy() for name in taken})
        return torch.from_numpy(answer[0])

    return Written(files, forward=forward)


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _save(program: Any, target: Path) -> None:
    import onnx_ir

    size = sum(
        one.const_value.nbytes
        for one in program.graph.initializers.values()
        if one.const_value is not None
    )
    onnx_ir.save(program, target, external_data=f"{target.name}.data" if size > LARGEST else None)


def _rename(graph: Any) -> None:
    """Give inputs, outputs and dynamic dimensions the names that other programs expect."""
    import onnx_ir

    names: dict[str, str] = {}
    for value in graph.inputs:
        value.name = _port(value.name, "past_key_values")
        axes = _AXES.get(value.name, ("batch_size", None, "past_sequence_length"))
        for axis, name in zip(value.shape, axes, strict=False):
            if name and isinstance(axis, onnx_ir.SymbolicDim) and axis.value is not None:
                names.setdefault(axis.value, name)
    for value in graph.outputs:
        value.name = _port(value.name, "present")
    values = [one for node in graph for one in node.outputs]
    for value in [*graph.inputs, *graph.outputs, *values]:
        if value.shape is not None:
            value.shape = onnx_ir.Shape([_axis(one, names) for one in value.shape])


_AXES: Mapping[str, tuple[str, ...]] = {
    "input_ids": ("batch_size", "sequence_length"),
    "token_type_ids": ("batch_size", "sequence_length"),
    "position_ids": ("batch_size", "sequence_length"),
    "pixel_values": ("batch_size",),
    "attention_mask": ("batch_size", "total_sequence_length"),
}


def _port(name: str, begin: str) -> str:
    """Return ``past_key_values.0.key`` for ``input.past_key_values.layers.0.keys``."""
    found = re.search(r"past_key_values\.layers\.(\d+)\.(key|value)s$", name)
    return f"{begin}.{found[1]}.{found[2]}" if found else name


def _axis(axis: Any, names: Mapping[str, str]) -> Any:
    if isinstance(axis, int) or axis.value is None:
        return axis
    if axis.value.isdigit():
        return int(axis.value)
    return re.sub(r"s\d+", lambda one: names.get(one[0], one[0]), axis.value)


def _to_float16(path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _replace(path, convert_float_to_float16(onnx.load(path), keep_io_types=True))


def _to_int8(path: Path) -> None:
    """Quantise the weights of linear layers, and their inputs as they come."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = path.with_name(f"plain-{path.name}")
    path.rename(plain)
    beside = path.with_name(f"{path.name}.data")
    quantize_dynamic(
        plain,
        path,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        use_external_data_format=beside.exists(),
    )
    plain.unlink()


def _to_int4(path: Path) -> None:
    """Quantise the weights of linear layers; activations stay in float32."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(onnx.load(path), bits=4, block_size=BLOCK, accuracy_level=4)
    quantizer.process()
    _replace(path, quantizer.model.model)


def _replace(path: Path, model: Any) -> None:
    import onnx

    beside = path.with_name(f"{path.name}.data")
    is_large = beside.exists()
    beside.unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=is_large, location=beside.name)


_CONVERSIONS = {"float16": _to_float16, "int8": _to_int8, "int4": _to_int4}


def _generating(session: Any, ends: frozenset[int]) -> Generate:
    """Return a function that writes tokens with the cache of keys and values."""
    caches = [one for one in session.get_inputs() if one.name.startswith("past_key_values")]
    taken = {one.name for one in session.get_inputs()}

    def begin() -> Step:
        past = {
            one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), dtype=np.float32)
            for one in caches
        }

        def step(feed: Feed) -> Array:
            answer = session.run(None, {n: v for n, v in feed.items() if n in taken} | past)
            past.update(zip(past, answer[1:], strict=True))
            logits: Array = answer[0]
            return logits

        return step

    return greedy(begin, ends)
