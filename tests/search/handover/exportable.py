"""Folders of tiny students, as `protege export` writes them, with tokenizers that runtimes read."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from protege.search.handover.formats.samples import TEXTS
from tests.tiny import SPECIAL, ZOO, save


def student(case: str, folder: Path, *, reads: str = "words") -> Path:
    """A student's folder.

    Args:
        case: A case of the zoo.
        folder: The folder.
        reads: The kind of tokenizer: ``words`` of the zoo, ``bytes`` (BPE) or ``pieces``.
    """
    teacher = ZOO[case].teacher()
    save(teacher, folder)
    if reads != "words":
        tokenizer = _bytes() if reads == "bytes" else _pieces()
        model: Any = teacher.model
        generator = torch.Generator().manual_seed(3)
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        for rows in (model.get_input_embeddings(), model.get_output_embeddings()):
            if rows is not None:
                found = 0.3 * torch.randn(rows.weight.shape, generator=generator)
                rows.weight.data.copy_(found)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    record = {"teacher": {"task": teacher.task.value, "hub_id": None}, "kept": {}}
    (folder / "protege.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def exports(folder: Path) -> dict[str, Any]:
    """The records of a student's exports."""
    manifest = json.loads((folder / "protege.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = manifest["exports"]
    return found


def _bytes() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def _pieces() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=96, special_tokens=[*SPECIAL], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=32,
    )
