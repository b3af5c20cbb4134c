"""Checkpoints that are damaged, newer or configured oddly: each loads, or is one line."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from protege.spaces import BadInput, Task, Teacher, Unsupported
from protege.spaces.checkpoints.missing import check_finite
from tests.tiny import CASES, ZOO, answer, batch, save

POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 90868376\n"
)
WEIGHTS = "model.safetensors"


def changed(**fields: Any) -> Callable[[Path], object]:
    """Change fields of the configuration."""

    def change(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields), encoding="utf-8")

    return change


def written(name: str, text: str = POINTER) -> Callable[[Path], object]:
    """Write a file."""
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


def cut(name: str, end: int) -> Callable[[Path], object]:
    """Leave a file's first bytes."""

    def change(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:end])

    return change


def removed(*patterns: str) -> Callable[[Path], object]:
    """Remove files."""

    def change(folder: Path) -> None:
        for path in [path for one in patterns for path in folder.glob(one)]:
            path.unlink()

    return change


def weights(change: Callable[[dict[str, Tensor]], object]) -> Callable[[Path], object]:
    """Change tensors of the weights."""

    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})

    return rewrite


def longer(end: str, rows: int = 1) -> Callable[[Path], object]:
    """Give a tensor more rows."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(end))
        tensors[name] = torch.cat([tensors[name], tensors[name][:rows]])

    return weights(change)


def holding(end: str, value: float) -> Callable[[Path], object]:
    """Write a value into a tensor."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(end))
        tensors[name].view(-1)[3] = value

    return weights(change)


def in_halves(folder: Path) -> None:
    """Tell of two shards, of which one is there."""
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    names = {name: shards[at % 2] for at, name in enumerate(tensors)}
    first = {name: tensors[name] for name, shard in names.items() if shard == shards[0]}
    save_file(first, folder / shards[0], metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": names}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index), encoding="utf-8")


def pickled(content: Any, end: int | None = None) -> Callable[[Path], object]:
    """Keep the weights in a pickle alone."""

    def change(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        path = folder / "pytorch_model.bin"
        torch.save(content, path)
        path.write_bytes(path.read_bytes()[:end])

    return change


def tokenizer(**parts: Any) -> Callable[[Path], object]:
    """Change parts of tokenizer.json."""

    def change(folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | parts), encoding="utf-8")

    return change


NEWER = r"tokenizer\.json: .*tokenizers \d.* cannot read it, so a newer version wrote it .* pip"
AT_FAULT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a row more": (longer("word_embeddings.weight"), r"\(97, 24\) .* \(96, 24\) .*: vocab_size\)"),
    "wider norms": (longer("LayerNorm.bias", 2), r"\(26,\) in the weights, .*json: hidden_size\)"),
    "fewer layers": (
        changed(num_hidden_layers=2),
        r"weights contain .*layer\.3.* has fewer layers",
    ),
    "more layers": (changed(num_hidden_layers=5), r"no weights for encoder\.layer\.4"),
    "pointer weights": (written(WEIGHTS), r"/model\.safetensors: a Git LFS pointer.* git lfs pull"),
    "pointer tokenizer": (written("tokenizer.json"), r"/tokenizer\.json: a Git LFS pointer"),
    "pointer config": (written("config.json"), r"/config\.json: a Git LFS pointer"),
    "pointer vocabulary": (written("vocab.txt"), r"/vocab\.txt: a Git LFS pointer"),
    "pointer pooling": (written("1_Pooling/config.json"), r"1_Pooling/config\.json: a Git LFS"),
    "newer model": (tokenizer(model={"type": "HyperBPE", "vocab": {}}), NEWER),
    "newer part": (tokenizer(pre_tokenizer={"type": "Quantum"}), NEWER),
    "newer version": (tokenizer(version="2.0"), NEWER),
    "tokenizer cut": (cut("tokenizer.json", 900), r"/tokenizer\.json: .*; expected JSON that is"),
    "weights cut": (cut(WEIGHTS, 30_000), r"/model\.safetensors: .*; cut short or damaged, so dow"),
    "header cut": (cut(WEIGHTS, 50), r"/model\.safetensors: .*; cut short or damaged"),
    "no bytes": (cut(WEIGHTS, 0), r"/model\.safetensors: .*; cut short or damaged"),
    "a shard less": (
        in_halves,
        r"/model-00002-of-00002\.safetensors: .*; the index of the weights",
    ),
    "pickle cut": (pickled({"a": torch.ones(99)}, 400), r"model\.bin: it is cut short, or holds"),
    "pickled code": (pickled(argparse.Namespace(a=1)), r"model\.bin: .*holds more than tensors"),
    "empty config": (cut("config.json", 0), r"/config\.json: .*; expected JSON that is whole"),
    "no fields": (written("config.json", "{}"), r"/config\.json: it names no model_type; give"),
    "a list": (written("config.json", "[]"), r"/config\.json: it names no model_type"),
    "unknown type": (changed(model_type="superbert"), r"config\.json: model_type 'superbert' is n"),
    "odd modules": (written("modules.json", "["), r"/modules\.json: .*; expected JSON"),
    "no config": (removed("config.json"), r"expected a folder with config\.json and weights"),
    "no tokenizer": (removed("token*", "spec*"), r"has no tokens; expected tokenizer\.json"),
    "text for a number": (changed(hidden_size="24"), r"Field 'hidden_size' expected int, got str"),
    "odd heads": (changed(num_attention_heads=5), r"not a multiple of the number of attention"),
    "no such type": (changed(dtype="float7"), r"no attribute 'float7'"),
    "GPTQ": (
        changed(quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128}),
        r"config\.json: the weights are quantised \(gptq\) .* GGUF file",
    ),
    "AWQ": (
        changed(quantization_config={"quant_method": "awq", "bits": 4}),
        r"the weights are quantised \(awq\)",
    ),
    "NaN": (holding("word_embeddings.weight", float("nan")), r"word_embeddings\.weight has 1 val"),
    "infinity": (
        holding("intermediate.dense.weight", float("inf")),
        r"layer\.\d\.intermediate\.dense\.weight has 1 values .* the first is inf; give a checkp",
    ),
    "-infinity": (holding("output.dense.bias", -float("inf")), r"output\.dense\.bias .* is -inf"),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str], Path]:
    """Copy a checkpoint as its authors published it."""
    saved: dict[str, dict[Path, bytes]] = {}

    def copy(to: Path, name: str = "bert-sentences") -> Path:
        if name not in saved:
            first = save(ZOO[name].teacher(), tmp_path_factory.mktemp("published"))
            files = [path for path in first.rglob("*") if path.is_file()]
            saved[name] = {path.relative_to(first): path.read_bytes() for path in files}
        for path, content in saved[name].items():
            (to / path).parent.mkdir(parents=True, exist_ok=True)
            (to / path).write_bytes(content)
        return to

    return copy


@pytest.mark.parametrize("fault", AT_FAULT)
def test_what_cannot_be_loaded_is_one_line_that_names_it(
    published: Any, fault: str, tmp_path: Path
) -> None:
    folder = published(tmp_path)
    change, expected = AT_FAULT[fault]
    change(folder)
    with pytest.raises(BadInput, match=f"^{folder}.*{expected}") as caught:
        Teacher.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fault", "expected"),
    [
        ("llama-causal-grouped", longer("embed_tokens.weight", 3), r"\(99, 24\) .*: vocab_size\)"),
        ("llama-causal-grouped", removed("token*"), r"no tokenizer is in it; expected tokenizer"),
        ("llama-causal-grouped", changed(num_attention_heads=5), r"not a multiple of the number"),
        ("llama-texts", holding("score.weight", float("nan")), r"score\.weight has 1 values"),
        ("t5-text2text-generation", longer("shared.weight"), r"\(97, 24\) .* \(96, 24\)"),
        ("vit-image-classification", removed("preproc*"), r"^.*no teacher can be loaded"),
        ("vit-image-classification", written("preprocessor_config.json"), r"config\.json: a Git"),
    ],
)
def test_other_families_and_tasks_name_it_too(
    published: Any, name: str, fault: Any, expected: str, tmp_path: Path
) -> None:
    folder = published(tmp_path, name)
    fault(folder)
    with pytest.raises(BadInput, match=expected):
        Teacher.load(folder)


@pytest.mark.parametrize(
    "files",
    [["pytorch_model.bin", "tf_model.h5"], ["onnx/model.onnx"], ["README.md", "runs/log.json"]],
    ids=lambda names: names[0],
)
def test_a_pointer_that_nothing_reads_does_no_harm(
    published: Any, files: list[str], tmp_path: Path
) -> None:
    folder = published(tmp_path)
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        written(name)(folder)
    assert Teacher.load(folder).task is Task.SENTENCES


@pytest.mark.parametrize("name", ["bert-masked", "llama-causal-grouped"])
@pytest.mark.parametrize(
    "fields",
    [
        {"return_dict": False},
        {"torchscript": True},
        {"use_cache": False},
        {"output_hidden_states": True, "output_attentions": True},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_options_of_how_a_model_is_called_change_nothing(
    published: Any, name: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    plain = Teacher.load(published(tmp_path, name), task=CASES[name].task.value)
    changed(**fields)(tmp_path)
    teacher = Teacher.load(tmp_path, task=CASES[name].task.value)
    with torch.inference_mode():
        found, expected = (one.model(**batch()) for one in (teacher, plain))
    assert torch.equal(found.logits, expected.logits)
    assert found.get("hidden_states") is found.get("attentions") is None
    student = teacher.student(teacher.architecture.scaled(layers=0.5))
    student.save(tmp_path / "student")
    again = Teacher.load(tmp_path / "student", task=CASES[name].task.value)
    assert torch.equal(answer(again), answer(student))


@pytest.mark.parametrize("asked", ["flash_attention_2", "flash_attention_3", "flex_attention"])
@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped"])
def test_an_attention_for_other_devices_is_replaced_which_is_said(
    published: Any, name: str, asked: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed(attn_implementation=asked)(published(tmp_path, name))
    teacher = Teacher.load(tmp_path)
    assert teacher.config._attn_implementation == "sdpa"
    (said,) = [record.getMessage() for record in caplog.records if record.name == "protege"]
    assert said == (
        f"protege: {tmp_path} asks for {asked}, which takes no 32-bit weights; sdpa is used instead"
    )


def test_an_attention_that_is_there_is_kept(
    published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed(attn_implementation="eager")(published(tmp_path))
    assert Teacher.load(tmp_path).config._attn_implementation == "eager"
    assert "protege" not in {record.name for record in caplog.records}


def test_weights_that_are_large_but_finite_are_loaded(published: Any, tmp_path: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        tensors["embeddings.word_embeddings.weight"][:20] = 3e38  # the sum is infinite

    weights(change)(published(tmp_path))
    rows = Teacher.load(tmp_path).model.get_parameter("embeddings.word_embeddings.weight")
    assert rows[0, 0] > 1e38


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_that_overflowed_is_named(
    published: Any, dtype: torch.dtype, tmp_path: Path
) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            tensors[name] = tensor.to(dtype)
        tensors["encoder.layer.2.output.dense.weight"].mul_(1e30).mul_(1e30)

    weights(change)(published(tmp_path))
    with pytest.raises(BadInput, match=r"encoder\.layer\.2\.output\.dense\.weight has \d+ values"):
        Teacher.load(tmp_path)


def test_weights_on_disk_are_checked_when_they_are_read(published: Any, tmp_path: Path) -> None:
    folder = published(tmp_path, "llama-causal-grouped")
    holding("layers.3.mlp.up_proj.weight", float("nan"))(folder)
    places = {"model.layers": "disk", "model.embed_tokens": "cpu", "model.norm": "cpu"}
    places |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}
    teacher = Teacher.load(folder, device_map=places, offload_folder=tmp_path / "offloaded")
    with pytest.raises(BadInput, match=r"layers\.3\.mlp\.up_proj\.weight has 1 values"):
        _ = teacher.fingerprint


def test_a_buffer_that_is_not_finite_is_named() -> None:
    teacher = CASES["bert"].teacher()
    teacher.model.register_buffer("scale", torch.tensor([1.0, float("nan")]))
    with pytest.raises(BadInput, match="scale has 1 values"):
        check_finite(teacher.model, teacher.model.state_dict())


def test_weights_that_stay_quantised_are_refused(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = transformers.AutoModel.from_pretrained

    def quantised(*given: Any, **named: Any) -> Any:
        model, loading = loads(*given, **named)
        model.register_buffer("qweight", torch.zeros(3, dtype=torch.int32))  # as GPTQ packs them
        return model, loading

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", quantised)
    with pytest.raises(Unsupported, match="its weights are quantised"):
        Teacher.load(published(tmp_path))
