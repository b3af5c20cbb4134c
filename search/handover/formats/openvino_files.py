"""Write a model as OpenVINO IR and run it there."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protege.objectives.latency.device.programs import hush_openvino
from protege.search.handover.formats.agreement import Array, Feed, Generate, Step, Written, greedy
from protege.search.handover.formats.samples import ends_of, traced
from protege.spaces import Task, Teacher

GROUP = 64
"""Weights that share a scale in int4, or fewer where a layer's width is no multiple."""


def write_openvino(teacher: Teacher, target: Path, precision: str) -> Written:
    """Write a model to a file, in a precision, and load it; decoders keep their cache inside."""
    hush_openvino()
    import openvino
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter

    exported = OpenVINOExporter().export(
        teacher.model, traced(teacher), OpenVINOConfig(dynamic=True)
    )
    graph = exported.components["model"].program
    if precision in {"int8", "int4"}:
        graph = _compressed(graph, precision)
    openvino.save_model(graph, target, compress_to_fp16=precision == "float16")
    core = openvino.Core()
    # float16 is how weights are stored: a processor without it computes in float32
    compiled = core.compile_model(target, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    files = [target, target.with_suffix(".bin")]
    if teacher.task is Task.GENERATION:
        return Written(files, generate=_generating(compiled, ends_of(teacher.model)))
    taken = [one.get_any_name() for one in compiled.inputs]

    def forward(given: dict[str, Tensor]) -> Tensor:
        answer = compiled({name: given[name].numpy() for name in taken})
        return torch.from_numpy(answer[compiled.outputs[0]].copy())

    return Written(files, forward=forward)


def _compressed(graph: Any, precision: str) -> Any:
    """Quantise the weights; activations stay in float32."""
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedCompressionParameters,
        GroupSizeFallbackMode,
    )

    if precision == "int8":
        return nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_ASYM)
    adjusted = AdvancedCompressionParameters(
        group_size_fallback_mode=GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=8
    )
    return nncf.compress_weights(
        graph,
        mode=nncf.CompressWeightsMode.INT4_ASYM,
        group_size=GROUP,
        ratio=1.0,
        advanced_parameters=adjusted,
    )


def _generating(compiled: Any, ends: frozenset[int]) -> Generate:
    """Return a function that writes tokens; the model itself keeps keys and values."""
    taken = {one.get_any_name() for one in compiled.inputs}

    def begin() -> Step:
        request = compiled.create_infer_request()

        def step(feed: Feed) -> Array:
            known = feed | {"beam_idx": np.zeros(1, dtype=np.int32)}
            answer = request.infer({name: one for name, one in known.items() if name in taken})
            logits: Array = answer[compiled.outputs[0]]
            return logits

        return step

    return greedy(begin, ends)
