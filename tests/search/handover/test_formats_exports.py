"""Students run in other runtimes, and answer there as in PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from protege.search import Front
from protege.search.cli.main import main
from protege.search.handover.formats.exporting import Unexportable, export_formats
from protege.spaces import BadInput, Teacher
from tests.search.handover.exportable import exports, student
from tests.tiny import batch


@pytest.mark.slow
def test_an_encoder_as_onnx_takes_any_batch_and_is_recorded(
    front: Front, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    place = front.export(front.members[0], folder / "student", formats=["onnx"])
    assert main(["export", str(place), "--as", "onnx", "--precision", "int8"]) == 0
    assert f"{place}/onnx/model_int8.onnx: " in capsys.readouterr().out
    session = onnxruntime.InferenceSession(place / "onnx" / "model.onnx")
    given = batch(sequences=5, tokens=13)
    taken = {one.name: one.shape for one in session.get_inputs()}
    assert taken["input_ids"] == ["batch_size", "sequence_length"]
    feed = {name: given.get(name, torch.zeros(5, 13).long()).numpy() for name in taken}
    with torch.no_grad():
        expected = Teacher.load(place).model(**given)[0]
    answer = session.run(["last_hidden_state"], feed)[0]
    kept = given["attention_mask"].numpy() == 1
    assert np.abs(answer - expected.numpy())[kept].max() < 1e-4
    found = exports(place)
    assert found["onnx/model.onnx"]["agreement"]["difference"] <= 1e-4
    measured = found["onnx/model_int8.onnx"]["agreement"]
    assert measured["cosine"] > 0.9
    assert measured["difference"] > 1e-4
    assert "onnxruntime" in found["onnx/model.onnx"]["versions"]
    card = (place / "README.md").read_text(encoding="utf-8")
    assert "| `onnx/model_int8.onnx` | int8 | cosine " in card


@pytest.mark.slow
def test_a_decoder_as_onnx_generates_with_a_cache_of_the_usual_names(tmp_path: Path) -> None:
    import onnxruntime

    place = student("llama-causal-grouped", tmp_path, reads="bytes")
    (file,) = export_formats(place, ["onnx"])
    session = onnxruntime.InferenceSession(file)
    names = [one.name for one in (*session.get_inputs(), *session.get_outputs())]
    assert {"past_key_values.0.key", "past_key_values.3.value", "present.3.value"} <= {*names}
    assert exports(place)["onnx/model.onnx"]["agreement"]["equal"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "int4"])
def test_openvino_keeps_the_cache_of_a_decoder_itself(tmp_path: Path, precision: str) -> None:
    place = student("llama-causal-grouped", tmp_path, reads="bytes")
    (file,) = export_formats(place, ["openvino"], precision)
    found = exports(place)[file.relative_to(place).as_posix()]
    assert found["agreement"]["equal"] > (0.999 if precision == "float32" else 0)
    assert {one.name for one in file.parent.iterdir()} == {*found["files"]}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["modernbert-fill-mask", "vit-image-classification"])
def test_heads_of_texts_and_images_choose_the_same_classes(tmp_path: Path, case: str) -> None:
    place = student(case, tmp_path)
    export_formats(place, ["openvino"])
    (found,) = exports(place).values()
    assert found["agreement"]["same_class"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("case", ["llama-causal-grouped", "llama-causal-tied"])
def test_llama_cpp_writes_the_same_tokens_and_reads_texts_alike(tmp_path: Path, case: str) -> None:
    place = student(case, tmp_path, reads="bytes")
    export_formats(place, ["gguf"])
    agreement = exports(place)["gguf/model-F32.gguf"]["agreement"]
    assert agreement == {"prompts": 4, "tokens": 32, "equal": 1.0, "same_tokens": 1.0}


@pytest.mark.slow
def test_llama_cpp_embeds_sentences_alike(tmp_path: Path) -> None:
    place = student("bert-sentences", tmp_path, reads="pieces")
    export_formats(place, ["gguf"])
    agreement = exports(place)["gguf/model-F32.gguf"]["agreement"]
    assert agreement["same_tokens"] == 1
    assert agreement["cosine"] > 0.9999


@pytest.mark.slow
def test_widths_without_whole_blocks_are_not_called_quantised(tmp_path: Path) -> None:
    place = student("bert-sentences", tmp_path, reads="pieces")
    with pytest.raises(Unexportable, match="no width of it is a multiple of 32"):
        export_formats(place, ["gguf"], "int4")
    assert not [one for one in place.iterdir() if "gguf" in one.name]


@pytest.mark.slow
def test_a_tokenizer_that_llama_cpp_lacks_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = student("llama-causal-tied", tmp_path / "student")
    assert main(["export", str(place), "--as", "gguf", "--to", str(tmp_path / "new")]) == 2
    error = capsys.readouterr().err
    assert "its tokenizer is of the kind WordLevel; llama.cpp reads BPE and WordPiece" in error
    assert "Traceback" not in error


def test_folders_of_others_and_options_without_a_format_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match=r"no protege.json there; expected a folder that `protege"):
        export_formats(tmp_path, ["onnx"])
    place = student("bert", tmp_path / "student")
    assert main(["export", str(place)]) == 2
    assert "exported already; name a format, such as --as onnx" in capsys.readouterr().err
    assert main(["export", str(place), "--as", "onnx", "--trial", "3"]) == 2
    assert "budgets and --trial are for a run" in capsys.readouterr().err


EXECUTORCH = Path(__file__).parents[3] / ".venv" / "executorch" / "bin" / "python"


@pytest.mark.slow
@pytest.mark.skipif(not EXECUTORCH.exists(), reason="no ExecuTorch here: make executorch")
@pytest.mark.timeout(900)  # it took 160 s alone
def test_an_encoder_as_executorch_agrees(tmp_path: Path) -> None:
    place = student("bert-sentences", tmp_path)
    export_formats(place, ["executorch"], python=str(EXECUTORCH))
    assert exports(place)["executorch/model.pte"]["agreement"]["difference"] <= 1e-4


@pytest.mark.slow
def test_sentence_transformers_loads_the_onnx_folder(tmp_path: Path) -> None:
    pytest.importorskip("optimum.onnxruntime", reason="optimum-onnx needs transformers 4")
    from sentence_transformers import SentenceTransformer

    place = student("bert-sentences", tmp_path)
    export_formats(place, ["onnx"])
    texts = ["w1 w2 w3", "w4"]
    expected = SentenceTransformer(str(place)).encode(texts)
    answer = SentenceTransformer(str(place), backend="onnx").encode(texts)
    assert np.abs(expected - answer).max() < 1e-4
