"""Find the missing, truncated or invalid file of a checkpoint."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import CONFIG_MAPPING

from protege.spaces.errors import BadInput, text_of

_POINTER = b"version https://git-lfs.github.com/spec/"
_SUFFIXES = {".json", ".txt", ".model", ".codes", ".bpe", ".spm", ".vocab", ".jinja", ".tiktoken"}
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_READ = (
    *("config", "generation_config", "tokenizer", "special_tokens", "added_tokens", "vocab"),
    *("modules", "sentence_bert_config", "preprocessor_config", "processor_config"),
)
_VOCABULARIES = ("tokenizer", "vocab", "merges", "spiece", "sentencepiece", "source", "bpe")
_AGAIN = "download it again"


def check_no_pointers(place: str, revision: str | None, gguf_file: str | None) -> None:
    """Raise BadInput if a file of a checkpoint is a Git LFS pointer.

    Some pointers load without an error: a ``vocab.txt`` would be a vocabulary of three words.
    """
    folder = _folder_of(place, revision)
    for path in [] if folder is None else _files(folder, gguf_file):
        if path.is_file() and _starts_with(path, _POINTER):
            raise BadInput(
                f"{path}: a Git LFS pointer, not the file that it stands for; run git lfs pull "
                f"in {folder}, or {_AGAIN}"
            )


def fault_in(place: str, revision: str | None, gguf_file: str | None) -> str:
    """Return the faulty file of a checkpoint, with the fault and advice; empty if there is none."""
    folder = _folder_of(place, revision)
    if folder is None:
        return ""
    checks = chain(
        _json_checks(folder),
        _weight_checks(folder, gguf_file),
        _tokenizer_checks(folder) if gguf_file is None else (),
    )
    for path, check, advice in checks:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - tokenizers and torch raise bare exceptions
            reason = " ".join(text_of(error).split())[:200] or type(error).__name__
            return f"{path}: {reason}; {advice}"
    return ""


Check = tuple[Path, Callable[[], object], str]
"""A file, a function that raises if it is faulty, and advice."""


def _json_checks(folder: Path) -> Iterator[Check]:
    read = (*folder.glob("*index.json"), *(p for n in _READ for p in folder.glob(f"{n}*.json")))
    for path in sorted({*read, *folder.glob("[0-9]*_*/config.json")}):
        advice = f"expected JSON that is whole, so {_AGAIN}"
        yield path, partial(_fields, path), advice
    path = folder / "config.json"
    if path.is_file():
        advice = f"give a checkpoint that transformers {transformers.__version__} knows, or update"
        yield path, lambda: _check_model_type(_fields(path)), advice
        advice = "give the checkpoint that was quantised, or a GGUF file"
        yield path, lambda: _check_whole(_fields(path)), advice


def _fields(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return content if isinstance(content, dict) else {}


def _check_model_type(fields: Mapping[str, Any]) -> None:
    if not fields.get("model_type"):
        raise ValueError("it names no model_type")
    if fields["model_type"] not in CONFIG_MAPPING and "auto_map" not in fields:
        raise ValueError(f"model_type {fields['model_type']!r} is not known")


def _check_whole(fields: Mapping[str, Any]) -> None:
    if fields.get("quantization_config"):
        method = fields["quantization_config"].get("quant_method")
        raise ValueError(f"the weights are quantised ({method}) and cannot be loaded here")


def _check_tokenizer(folder: Path) -> None:
    fields = _fields(folder / "config.json")
    if fields.get("vocab_size") and not any(
        path.name.startswith(_VOCABULARIES) for path in folder.iterdir()
    ):
        raise ValueError("no tokenizer is in it")


def _weight_checks(folder: Path, gguf_file: str | None) -> Iterator[Check]:
    for path in _weight_files(folder, gguf_file):
        if not path.exists():
            yield path, path.stat, f"the index of the weights names it, so {_AGAIN}"
        elif path.suffix == ".safetensors":
            yield path, partial(_open, path), f"cut short or damaged, so {_AGAIN}"
        elif path.suffix == ".bin":
            advice = f"{_AGAIN}, or convert it to safetensors where you trust it"
            yield path, partial(_read_bin, path), advice


def _open(path: Path) -> None:
    with safe_open(path, framework="pt"):
        pass


def _read_bin(path: Path) -> None:
    try:
        torch.load(path, map_location="meta", weights_only=True)
    except Exception as error:
        # replaces torch's long message on how to load unsafe files
        cause = "it is cut short, or holds more than tensors"
        raise ValueError(cause) from error


def _tokenizer_checks(folder: Path) -> Iterator[Check]:
    file = folder / "tokenizer.json"
    if file.is_file():
        advice = (
            f"tokenizers {tokenizers.__version__} cannot read it, so a newer version wrote it or "
            "it is damaged: pip install --upgrade tokenizers transformers"
        )
        yield file, lambda: Tokenizer.from_file(str(file)), advice
    if (folder / "config.json").is_file():
        advice = "expected tokenizer.json, or the vocabulary that the tokenizer reads"
        yield folder, lambda: _check_tokenizer(folder), advice


def _files(folder: Path, gguf_file: str | None) -> Iterator[Path]:
    """Yield the files that loading may read, without weights in other formats."""
    yield from (path for path in sorted(folder.iterdir()) if path.suffix in _SUFFIXES)
    yield from sorted(folder.glob("[0-9]*_*/*"))
    yield from _weight_files(folder, gguf_file)


def _weight_files(folder: Path, gguf_file: str | None) -> list[Path]:
    """Return the weight files that transformers reads, including missing shards."""
    if gguf_file is not None:
        return [folder / gguf_file]
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        index: Any = {}
        with suppress(OSError, ValueError):
            index = json.loads((folder / f"{name}.index.json").read_text(encoding="utf-8"))
        if isinstance(index, dict) and isinstance(index.get("weight_map"), dict):
            return [folder / str(shard) for shard in sorted({*index["weight_map"].values()})]
    return []


def _folder_of(place: str, revision: str | None) -> Path | None:
    """Return the folder of a checkpoint or of its copy in the hub's cache, or None."""
    if Path(place).is_dir():
        return Path(place)
    found = None
    with suppress(HFValidationError):
        found = try_to_load_from_cache(place, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def _starts_with(path: Path, mark: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(mark)) == mark
