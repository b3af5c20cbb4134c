"""Tiny teachers that read real text, in pieces of words as published tokenizers do."""

from dataclasses import replace
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from protege.spaces import Teacher
from protege.spaces.vocabulary.tokenizer import choose_tokens
from tests.tiny import CASES, SPECIAL

LINES = [line.strip() for text in topics.values() for line in text.splitlines()][:4000]
TEXTS = [line for line in dict.fromkeys(LINES) if 20 < len(line) < 60][:240]
"""Short lines, none twice."""

SIZES = {"wordpiece": 500, "bytes": 600}


@cache
def tokenizer(kind: str) -> PreTrainedTokenizerBase:
    """A tokenizer trained on the text: ``wordpiece`` as BERT's, ``bytes`` as GPT-2's."""
    special: dict[str, Any] = {"vocab_size": SIZES[kind], "show_progress": False}
    special |= {"special_tokens": list(SPECIAL)}
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.train_from_iterator(LINES, trainers.WordPieceTrainer(**special))
        return BertTokenizer(vocab=backend.get_vocab(), do_lower_case=False)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(LINES, trainers.BpeTrainer(initial_alphabet=alphabet, **special))
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", eos_token="[SEP]", padding_side="right"
    )


def teacher(name: str, **fields: Any) -> Teacher:
    """The tiny teacher of that name in `CASES`, with a tokenizer of pieces of words."""
    case = CASES[name]
    kind = "wordpiece" if case.model_type == "bert" else "bytes"
    changed = {"vocab_size": SIZES[kind], "max_position_embeddings": 96, **fields}
    with_pieces = replace(case, fields={**case.fields, **changed})
    return replace(with_pieces.teacher(), processor=tokenizer(kind))


def chosen(kind: str, ratio: float, seed: int = 0) -> tuple[int, ...]:
    """Tokens kept at random beside those that have to be."""
    importance = torch.rand(SIZES[kind], generator=torch.Generator().manual_seed(seed))
    return choose_tokens(tokenizer(kind), importance, round(ratio * SIZES[kind]))
