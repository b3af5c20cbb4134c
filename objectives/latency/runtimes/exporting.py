"""Export one model for one runtime and check its outputs against PyTorch.

Run as ``python -m protege.objectives.latency.runtimes.exporting`` with a job as JSON on standard
input.
"""

import copy
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from protege.objectives.latency.device.programs import MANIFEST, PLAIN, hint_of, hush_openvino
from protege.objectives.latency.local.inputs import example_inputs
from protege.objectives.latency.models import built, model_from
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import ProtegeError

TOLERANCE = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2, "int8": 0.3}
"""Maximum error of a stage's first output by precision, relative to the output's norm."""


class WrongAnswer(ProtegeError):
    """A program's output differs from that of the model it was exported from."""


def main() -> None:
    """Run the export job on standard input."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    job = json.load(sys.stdin)
    torch.manual_seed(0)  # for a blueprint's random weights
    model = built(model_from(job["model"]))
    workload = Workload(**job["workload"])
    folder = Path(job["folder"])
    manifest = export(model, workload, EXPORTERS[job["runtime"]], job["precision"], folder)
    manifest |= {"runtime": job["runtime"]}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


Exporter = Callable[[Any, dict[str, Any], Path, str], tuple[Tensor, str]]
"""Exports a stage of a model, given its inputs, into a folder with a precision; returns the first
output of the program and the program's file name."""


def export(
    model: PreTrainedModel, workload: Workload, exporter: Exporter, precision: str, folder: Path
) -> dict[str, Any]:
    """Export all stages of a model into an empty folder and check them; return the manifest.

    Raises:
        WrongAnswer: The program's output differs from the model's.
    """
    files, errors = {}, {}
    for name, given in stages(model, workload).items():
        place = folder / name
        place.mkdir()
        with torch.no_grad():
            expected: Tensor = model(**copy.deepcopy(given))[0]
        answer, files[name] = exporter(model, given, place, precision)
        errors[name] = float("inf")
        if answer.shape == expected.shape:
            difference = (answer.float() - expected.float()).norm()
            errors[name] = float(difference / expected.float().norm())
        if not errors[name] <= TOLERANCE[precision]:
            raise WrongAnswer(
                f"its {name} differs by {errors[name]:.2g} of its norm; expected at most "
                f"{TOLERANCE[precision]:g}"
            )
    return {"precision": precision, "stages": files, "errors": errors}


def stages(model: PreTrainedModel, workload: Workload) -> dict[str, dict[str, Any]]:
    """Return the inputs of each stage: ``prefill``, and ``step`` if tokens are generated."""
    given: dict[str, Any] = dict(example_inputs(model, workload))
    if not workload.new_tokens:
        # no cache and no `logits_to_keep`: a call without new tokens uses neither
        return {"prefill": given | ({"use_cache": False} if model.can_generate() else {})}
    rows = len(next(iter(given.values())))
    if model.config.is_encoder_decoder:
        begin = model.config.decoder_start_token_id or 0
        given["decoder_input_ids"] = torch.full((rows, 1), begin, dtype=torch.int64)
        given |= {"use_cache": True}
        return {"prefill": given, "step": _paired_step(model, given)}
    given |= {"use_cache": True, "logits_to_keep": 1}
    return {"prefill": given, "step": _step(model, given)}


def _step(model: PreTrainedModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a decoder's inputs for one token after the whole prompt."""
    # DynamicCache keeps the whole prompt and the mask hides what is outside a sliding window. An
    # exported sliding cache would have lost the length of the prompt.
    with torch.no_grad():
        seen: Any = model(**given, past_key_values=DynamicCache())
    mask = given["attention_mask"]
    return {
        "input_ids": seen.logits[:, -1].argmax(-1, keepdim=True),
        "attention_mask": torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
        "past_key_values": seen.past_key_values,
        "use_cache": True,
    }


def _paired_step(model: PreTrainedModel, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoder-decoder's inputs for the second decoder token, given encoder outputs."""
    with torch.no_grad():
        seen: Any = model(**given)
    masks = {name: mask for name, mask in given.items() if name == "attention_mask"}
    return {
        "encoder_outputs": BaseModelOutput(seen.encoder_last_hidden_state),
        "decoder_input_ids": seen.logits[:, -1].argmax(-1, keepdim=True),
        "past_key_values": seen.past_key_values,
        "use_cache": True,
        **masks,
    }


def _onnx(model: Any, given: dict[str, Any], place: Path, precision: str) -> tuple[Tensor, str]:
    import onnxruntime
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.utils import onnx_feed

    OnnxExporter().export(model, copy.deepcopy(given), OnnxConfig()).save_pretrained(place)
    file = "model.onnx"
    if precision == "int8":
        file = quantized(place)
    session = onnxruntime.InferenceSession(str(place / file), providers=["CPUExecutionProvider"])
    feed: Any = onnx_feed([one.name for one in session.get_inputs()], given)
    np.savez(place / "inputs.npz", **feed)
    return torch.from_numpy(session.run(None, feed)[0]), file


def quantized(place: Path) -> str:
    """Quantise the weights of linear layers to int8, activations dynamically; return the file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    file = "model.int8.onnx"
    quantize_dynamic(
        place / "model.onnx",
        place / file,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )
    for stale in ("model.onnx", "model.onnx.data"):
        (place / stale).unlink(missing_ok=True)
    return file


def _openvino(model: Any, given: dict[str, Any], place: Path, precision: str) -> tuple[Tensor, str]:
    hush_openvino()
    import openvino
    from transformers.exporters.configs import OpenVINOConfig
    from transformers.exporters.exporter_openvino import OpenVINOExporter
    from transformers.exporters.utils import openvino_feed

    config = OpenVINOConfig(stateful=False, compress_to_fp16=precision != "float32")
    OpenVINOExporter().export(model, copy.deepcopy(given), config).save_pretrained(place)
    file = "openvino_model.xml"
    core = openvino.Core()
    graph = core.read_model(place / file)
    feed = openvino_feed(graph, given)
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint_of(precision)})
    np.savez(place / "inputs.npz", **feed)
    answer = compiled.create_infer_request().infer(feed)
    return torch.from_numpy(answer[compiled.outputs[0]].copy()).float(), file


def _executorch(
    model: Any, given: dict[str, Any], place: Path, _precision: str
) -> tuple[Tensor, str]:
    import torch.fx._pytree as fx_pytree
    from executorch.runtime import Runtime
    from transformers.exporters.configs import ExecutorchConfig
    from transformers.exporters.exporter_executorch import ExecutorchExporter
    from transformers.exporters.metadata import load_treespec

    exported = ExecutorchExporter().export(model, copy.deepcopy(given), ExecutorchConfig())
    exported.save_pretrained(place)
    metadata = exported.components["model"].metadata
    spec = load_treespec(metadata.in_spec or "")
    leaves = fx_pytree.tree_flatten_spec(((), {**metadata.in_constants, **given}), spec)
    method = Runtime.get().load_program(place / "model.pte").load_method("forward")
    fed = [leaf.contiguous() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    numbered: dict[str, Any] = {
        f"{number:04d}{'' if isinstance(leaf, Tensor) else PLAIN}": leaf
        for number, leaf in enumerate(fed)
    }
    np.savez(place / "inputs.npz", **numbered)
    return method.execute(fed)[0], "model.pte"


EXPORTERS: dict[str, Exporter] = {
    "onnxruntime": _onnx,
    "openvino": _openvino,
    "executorch": _executorch,
}


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - the parent reports the last line
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
