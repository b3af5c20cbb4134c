"""Which model can be written in which format."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from protege.search.handover.formats.table import FORMATS, checked_format
from protege.spaces import BadInput, Task

BERT, LLAMA, BART = ({"model_type": name} for name in ("bert", "llama", "bart"))


def test_an_unknown_format_names_those_that_there_are() -> None:
    with pytest.raises(BadInput, match="'tflite': expected one of onnx, openvino, gguf"):
        checked_format("tflite", "float32", Task.FEATURES, BERT)


def test_a_head_that_gguf_has_no_place_for_names_the_formats_that_have() -> None:
    with pytest.raises(BadInput, match="gguf: does not support bert for text-classification; onnx"):
        checked_format("gguf", "float32", Task.TEXTS, BERT)


def test_an_encoder_decoder_is_refused_by_all() -> None:
    config = BART | {"is_encoder_decoder": True}
    for name in FORMATS:
        with pytest.raises(BadInput, match="bart for an encoder-decoder; none does yet"):
            checked_format(name, "float32", Task.TEXT_TO_TEXT, config)


def test_a_precision_that_a_format_lacks_names_those_that_it_has() -> None:
    with pytest.raises(BadInput, match="'bfloat16': expected one of float32, float16, int8, int4"):
        checked_format("onnx", "bfloat16", Task.FEATURES, BERT)


def test_a_runtime_that_is_missing_says_what_to_install() -> None:
    if find_spec("executorch"):
        pytest.skip("executorch is installed here")
    with pytest.raises(BadInput, match="needs executorch, not installed here"):
        checked_format("executorch", "float32", Task.FEATURES, BERT)


def test_an_interpreter_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="python9: expected the path of an interpreter"):
        checked_format("onnx", "float32", Task.FEATURES, BERT, str(tmp_path / "python9"))


@pytest.mark.parametrize(
    ("name", "task", "config"),
    [
        ("onnx", Task.GENERATION, LLAMA),
        ("openvino", Task.IMAGES, {"model_type": "vit"}),
        ("gguf", Task.GENERATION, LLAMA),
        ("gguf", Task.SENTENCES, BERT),
    ],
)
def test_what_is_supported_passes(name: str, task: Task, config: dict[str, str]) -> None:
    assert checked_format(name, "float32", task, config).name == name
