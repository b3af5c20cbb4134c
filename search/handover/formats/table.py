"""The deployment formats: what each supports and what it needs."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput

FormatName = Literal["onnx", "openvino", "gguf", "executorch"]
WeightPrecision = Literal["float32", "float16", "bfloat16", "int8", "int4"]

_VECTORS = frozenset({Task.FEATURES, Task.SENTENCES})
_ONE_PASS = frozenset(
    {
        *(*_VECTORS, Task.FILL_MASK, Task.TEXTS, Task.TOKENS, Task.QUESTIONS),
        *(Task.IMAGE_FEATURES, Task.IMAGES),
    }
)
"""Tasks whose answer takes one pass of the model."""

GGUF_DECODERS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
GGUF_ENCODERS = frozenset({"bert"})


@dataclass(frozen=True)
class Format:
    """A deployment format.

    Attributes:
        name: Its name.
        files: The file name for each supported precision, inside the student's folder.
        tasks: The tasks that it supports.
        modules: The pip package of each module that writing and checking need.
        also: The pip package of each further module, by the precision that needs it.
        model_types: The supported model types; empty if all are.
    """

    name: FormatName
    files: Mapping[str, str]
    tasks: frozenset[Task]
    modules: Mapping[str, str]
    also: Mapping[str, Mapping[str, str]]
    model_types: frozenset[str] = frozenset()

    def needed(self, precision: str) -> dict[str, str]:
        """Return the pip package of each module that a precision needs."""
        return {**self.modules, **self.also.get(precision, {})}

    def supports(self, task: Task, model_type: str) -> bool:
        """Return whether the format supports a model; encoder-decoders are excluded elsewhere."""
        known = not self.model_types or model_type in self.model_types
        return known and task in self.tasks and not (self.model_types and _head(task, model_type))


def _head(task: Task, model_type: str) -> bool:
    """Return whether GGUF has no place for the head of a model."""
    return (task is Task.GENERATION) is (model_type in GGUF_ENCODERS)


_NNCF = {"nncf": "nncf"}

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "onnx",
            {
                "float32": "onnx/model.onnx",
                "float16": "onnx/model_fp16.onnx",
                "int8": "onnx/model_int8.onnx",
                "int4": "onnx/model_q4.onnx",
            },
            _ONE_PASS | {Task.GENERATION},
            {"onnx": "onnx", "onnxscript": "onnxscript", "onnxruntime": "onnxruntime"},
            {},
        ),
        Format(
            "openvino",
            {
                "float32": "openvino/openvino_model.xml",
                "float16": "openvino/openvino_model_fp16.xml",
                "int8": "openvino/openvino_model_int8.xml",
                "int4": "openvino/openvino_model_int4.xml",
            },
            _ONE_PASS | {Task.GENERATION},
            {"openvino": "openvino"},
            {"int8": _NNCF, "int4": _NNCF},
        ),
        Format(
            "gguf",
            {
                "float32": "gguf/model-F32.gguf",
                "float16": "gguf/model-F16.gguf",
                "bfloat16": "gguf/model-BF16.gguf",
                "int8": "gguf/model-Q8_0.gguf",
                "int4": "gguf/model-Q4_0.gguf",
            },
            _VECTORS | {Task.GENERATION},
            {"gguf": "gguf", "xllamacpp": "xllamacpp"},
            {},
            GGUF_DECODERS | GGUF_ENCODERS,
        ),
        Format(
            "executorch",
            {"float32": "executorch/model.pte"},
            _ONE_PASS,
            {"executorch": "executorch"},
            {},
        ),
    )
}


def checked_format(
    name: str, precision: str, task: Task, config: Mapping[str, object], python: str = ""
) -> Format:
    """Return a format after checking that it can be written for a model.

    Args:
        name: The format's name.
        precision: The precision of the weights.
        task: The model's task.
        config: The model's configuration.
        python: The interpreter that has the runtime; the current one if empty.

    Raises:
        BadInput: The format or precision is unknown, the model is not supported, or the runtime is
            not installed.
    """
    found = FORMATS.get(name)
    if found is None:
        raise BadInput(f"format {name!r}: expected one of {', '.join(FORMATS)}")
    model_type = str(config.get("model_type"))
    is_pair = bool(config.get("is_encoder_decoder"))
    if is_pair or not found.supports(task, model_type):
        able = [one.name for one in FORMATS.values() if one.supports(task, model_type)]
        kind = "an encoder-decoder" if is_pair else task.value
        other = "none does yet" if is_pair or not able else f"{', '.join(able)} can"
        raise BadInput(f"format {name}: does not support {model_type} for {kind}; {other}")
    if precision not in found.files:
        raise BadInput(
            f"precision {precision!r}: expected one of {', '.join(found.files)} for {name}"
        )
    needed = found.needed(precision)
    missing = [needed[module] for module in _missing(tuple(needed), python)]
    if missing:
        raise BadInput(
            f"format {name} in {precision} needs {', '.join(missing)}, not installed "
            f"{f'for {python}' if python else 'here'}: {python or sys.executable} -m pip install "
            f"{' '.join(missing)}"
        )
    return found


def _missing(modules: tuple[str, ...], python: str) -> list[str]:
    """Return the modules that an interpreter does not find.

    Raises:
        BadInput: The interpreter does not answer, or has no protege.
    """
    if not python:
        return [name for name in modules if find_spec(name) is None]
    ask = (
        "import json, sys; from importlib.util import find_spec; import protege.spaces; "
        "print(json.dumps([one for one in sys.argv[1:] if find_spec(one) is None]))"
    )
    try:
        done = subprocess.run(
            [python, "-P", "-c", ask, *modules], capture_output=True, text=True, check=False
        )
        found: list[str] = json.loads(done.stdout)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"--python {python}: expected the path of an interpreter that has protege"
        ) from error
    return found
