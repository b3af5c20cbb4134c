"""Check that students can be saved, before any of them is trained."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import GenerationConfig

from protege.spaces.checkpoints.muted import quiet
from protege.spaces.checkpoints.processors import with_tokenizer
from protege.spaces.errors import BadInput
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.students.config import configured
from protege.spaces.vocabulary.tokenizer import choose_tokens, shrunk

_MODES = ("do_sample", "num_beams")
"""Fields that select the generation mode; other fields apply only in some modes."""


def savable(config: GenerationConfig) -> GenerationConfig:
    """Return a generation config that generates the same text and can be saved.

    Transformers loads a config with fields that have no effect, such as a temperature with
    ``do_sample: false``, but refuses to save it after a change. Such fields are left out. A config
    that can be saved is returned unchanged.
    """
    with quiet():
        if not _refusal(config.save_pretrained):
            return config
        given = {name: value for name, value in config.to_dict().items() if value is not None}
        kept: dict[str, Any] = {}
        for name in sorted(given, key=lambda name: name not in _MODES):
            if _is_valid(type(config), {**kept, name: given[name]}):
                kept[name] = given[name]
        return type(config)(**kept)


def check_saves(teacher: LaidOutModel, vocab_size: int) -> None:
    """Save a student's files except its weights to a temporary folder.

    Args:
        teacher: The teacher of the student.
        vocab_size: Number of tokens that the student keeps.

    Raises:
        BadInput: Transformers refuses to save the configuration, the generation config or the
            tokenizer.
    """
    own, vocab, processor = teacher.architecture, None, teacher.processor
    if vocab_size < own.vocab_size:
        importance = torch.ones(own.vocab_size)
        vocab = choose_tokens(teacher.tokenizer, importance, vocab_size)
        processor = with_tokenizer(processor, shrunk(teacher.tokenizer, vocab))
    student = replace(own, vocab_size=vocab_size)
    parts: dict[str, Any] = {
        "configuration": configured(teacher.layout, teacher.config, student, vocab),
        "generation config": teacher.generation_config(vocab) if teacher.can_generate else None,
        type(processor).__name__: processor,
    }
    for part, content in parts.items():
        with quiet():
            refusal = "" if content is None else _refusal(content.save_pretrained)
        if refusal:
            raise BadInput(
                f"the teacher's {part} cannot be saved, so no student could be: {refusal}; fix it "
                "in the teacher's folder"
            )


def _refusal(save: Callable[[Path], object]) -> str:
    """Return why saving fails, in one line; empty if it succeeds."""
    try:
        with TemporaryDirectory() as name:
            save(Path(name))
    except Exception as error:  # noqa: BLE001 - a tokenizer may run custom code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _is_valid(kind: type[GenerationConfig], fields: Mapping[str, Any]) -> bool:
    try:
        kind(**fields).validate(strict=True)
    except (ValueError, TypeError):
        return False
    return True
