"""Load and save processors: tokenizers, image processors and feature extractors."""

import contextlib
import copy
import shutil
from pathlib import Path
from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput, Unsupported


def read_processor(
    place: str, config: PretrainedConfig, task: Task, options: dict[str, Any]
) -> Any:
    """Load the tokenizer, image processor, or feature extractor with a tokenizer for a task.

    Raises:
        BadInput: The tokenizer has no tokens.
    """
    auto_class = getattr(transformers, task.auto_processor)
    if task.auto_processor != "AutoTokenizer":
        return auto_class.from_pretrained(place, **options)
    # pass the configuration, because reading it again from GGUF takes seconds
    found = auto_class.from_pretrained(place, config=config, **options)
    if len(found) <= len(set(found.all_special_tokens)):  # transformers loads it without files
        raise BadInput(
            f"{place}: {type(found).__name__} has no tokens; expected tokenizer.json, or the "
            "vocabulary that the tokenizer reads, beside config.json"
        )
    return found


def tokenizer_in(processor: Any) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that a processor is or contains, or None."""
    if isinstance(processor, PreTrainedTokenizerBase):
        return processor
    found: PreTrainedTokenizerBase | None = getattr(processor, "tokenizer", None)
    return found


def tokenizer_of(processor: Any) -> PreTrainedTokenizerBase:
    """Return the tokenizer that a processor is or contains.

    Raises:
        Unsupported: The processor reads only images.
    """
    found = tokenizer_in(processor)
    if found is None:
        raise Unsupported(f"{type(processor).__name__}: it reads no text and has no tokenizer")
    return found


def save_processor(processor: Any, folder: Path) -> None:
    """Write the processor's files to a folder.

    The original files of pure Python tokenizers are copied if they still exist, because some save
    a format that they cannot read (the merges of `BertweetTokenizer` lack a column).
    """
    processor.save_pretrained(folder)
    tokenizer = tokenizer_in(processor)
    if tokenizer is None or tokenizer.is_fast:
        return
    for attribute, name in tokenizer.vocab_files_names.items():
        original = getattr(tokenizer, attribute, None)
        if isinstance(original, str) and Path(original).is_file():
            with contextlib.suppress(shutil.SameFileError):
                shutil.copyfile(original, folder / name)


def with_tokenizer(processor: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """Return the processor with another tokenizer."""
    if isinstance(processor, PreTrainedTokenizerBase):
        return tokenizer
    changed = copy.copy(processor)
    changed.tokenizer = tokenizer
    return changed
