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

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import logging

from protege.objectives.latency.device.programs import MANIFEST, PLAIN, hush_openvino
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
    export(model, workload, job["runtime"], job["precision"], Path(job["folder"]))


def export(
    model: PreTrainedModel, workload: Workload, runtime: str, precision: str, folder: Path
) -> None:
    """Export a model into an empty folder and check it.

    Raises:
        WrongAnswer: The program's output differs from the model's.
    """
    files, errors = {}, {}
    for name, given in stages(model, workload).items():
        place = folder / name
        place.mkdir()
        with torch.no_grad():
            expected = _first(model(**copy.deepcopy(given)))
        answer, files[name] = _EXPORTERS[runtime](model, given, place, precision)
        errors[name] = _error(answer, expected)
        if not errors[name] <= TOLERANCE[precision]:
            raise WrongAnswer(
                f"its {name} differs by {errors[name]:.2g} of its norm; expected at most "
                f"{TOLERANCE[precision]:g}"
            )
    manifest = {"runtime": runtime, "precision": precision, "stages": files, "errors": errors}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


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


Exporter = Callable[[nn.Module, dict[str, Any], Path, str], tuple[Tensor, str]]


def _onnx(model: Any, given: dict[str, Any], place: Path, precision: str) -> tuple[Tensor, str]:
    import onnxruntime
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.utils import onnx_feed

    OnnxExporter().export(model, copy.deepcopy(given), OnnxConfig()).save_pretrained(place)
    file = "model.onnx"
    if precision == "int8":
        file = _quantized(place)
    session = onnxruntime.InferenceSession(str(place / file), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    feed = onnx_feed(names, given)
    _write(place, feed)
    return torch.from_numpy(session.run(None, feed)[0]), file


def _quantized(place: Path) -> str:
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
    hint = {"bfloat16": "bf16", "float16": "f16"}.get(precision, "f32")
    compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": hint})
    _write(place, feed)
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
    _write(place, dict(_numbered(leaf, number) for number, leaf in enumerate(fed)))
    return method.execute(fed)[0], "model.pte"


def _numbered(leaf: Any, number: int) -> tuple[str, Any]:
    """Return the name and value of an input; plain numbers get the suffix `PLAIN`."""
    if isinstance(leaf, Tensor):
        return f"{number:04d}", leaf.numpy()
    return f"{number:04d}{PLAIN}", leaf


_EXPORTERS: dict[str, Exporter] = {
    "onnxruntime": _onnx,
    "openvino": _openvino,
    "executorch": _executorch,
}


def _write(place: Path, arrays: Mapping[str, Any]) -> None:
    import numpy as np

    np.savez(place / "inputs.npz", **arrays)


def _first(output: Any) -> Tensor:
    found: Tensor = output[0]
    return found


def _error(found: Tensor, expected: Tensor) -> float:
    """Return the norm of the error relative to the norm of the expected output."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found.float() - expected.float()).norm() / expected.float().norm())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - the parent reports the last line
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
