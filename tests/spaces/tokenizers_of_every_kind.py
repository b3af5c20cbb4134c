"""Tokenizers of every kind, trained on the spot, of the classes that checkpoints come with."""

import json
from collections.abc import Callable
from functools import cache
from pydoc_data.topics import topics
from typing import Any

import pytest
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    BertTokenizer,
    CamembertTokenizer,
    CLIPTokenizer,
    DebertaV2Tokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    MBartTokenizer,
    MPNetTokenizer,
    NllbTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    RobertaTokenizer,
    T5Tokenizer,
    WhisperTokenizer,
    XLMRobertaTokenizer,
)

CORPUS = "\n".join(topics.values())[:150_000]
LINES = [*CORPUS.splitlines(), *["naïve café Zürich façade Ελλάδα привет 日本語"] * 20]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
FAIRSEQ = ["<s>", "<pad>", "</s>", "<unk>"]
WORDS = sorted({word for line in LINES for word in line.split()})
TEXTS = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=12).map(" ".join)


@cache
def trained(algorithm: str) -> dict[str, Any]:
    """What the library makes of the corpus, without any special token."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer: Any = trainers.UnigramTrainer(vocab_size=700, show_progress=False)
    if algorithm == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=700, show_progress=False)
    elif algorithm != "unigram":
        tokenizer = Tokenizer(models.BPE())
        options: dict[str, Any] = {"end_of_word_suffix": "</w>"} if algorithm == "ending" else {}
        if algorithm == "metaspace":
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(split=True)
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            options["initial_alphabet"] = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, **options)
    tokenizer.train_from_iterator(LINES, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def scored(*special: str) -> list[tuple[str, float]]:
    pieces = [(piece, score) for piece, score in trained("unigram")["vocab"] if piece != "<unk>"]
    return [*((token, 0.0) for token in special), *pieces]


def numbered(algorithm: str, *special: str) -> dict[str, int]:
    return {token: id_ for id_, token in enumerate([*special, *trained(algorithm)["vocab"]])}


def merged(algorithm: str, *special: str) -> dict[str, Any]:
    merges = [tuple(pair) for pair in trained(algorithm)["merges"]]
    return {"vocab": numbered(algorithm, *special), "merges": merges}


def spoken() -> PreTrainedTokenizerBase:
    tokenizer = WhisperTokenizer(**merged("bytes", "<|endoftext|>"))
    marks = ["<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens({"extra_special_tokens": marks})
    tokenizer.set_prefix_tokens(language="english", task="transcribe")
    return tokenizer


def with_bytes() -> PreTrainedTokenizerBase:
    unigram = models.Unigram(scored("<unk>", *BYTES), unk_id=0, byte_fallback=True)
    backend = Tokenizer(unigram)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def in_words() -> PreTrainedTokenizerBase:
    vocabulary = {word: id_ for id_, word in enumerate(["[UNK]", "[PAD]", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]")


def whole_words_first() -> PreTrainedTokenizerBase:
    backend = Tokenizer(models.BPE(**merged("bytes", "<|end|>"), ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>")


NOT_USED = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
KINDS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "bert": lambda: BertTokenizer(
        numbered("wordpiece", "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ),
    "mpnet": lambda: MPNetTokenizer(numbered("wordpiece", *FAIRSEQ[:3], "[UNK]", "<mask>")),
    "words": in_words,
    "gpt2": lambda: GPT2Tokenizer(**merged("bytes", "<|endoftext|>")),
    "roberta": lambda: RobertaTokenizer(**merged("bytes", *FAIRSEQ, "<mask>")),
    "whisper": spoken,
    "llama-3": whole_words_first,
    "clip": lambda: CLIPTokenizer(**merged("ending", "<|startoftext|>", "<|endoftext|>")),
    "llama-2": lambda: LlamaTokenizer(**merged("metaspace", "<unk>", "<s>", "</s>", *BYTES)),
    "gemma": lambda: GemmaTokenizer(
        **merged("metaspace", "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *BYTES)
    ),
    "t5": lambda: T5Tokenizer(scored("<pad>", "</s>", "<unk>")),
    "xlm-roberta": lambda: XLMRobertaTokenizer([*scored(*FAIRSEQ), ("<mask>", 0.0)]),
    "camembert": lambda: CamembertTokenizer(vocab=[*scored(*NOT_USED), ("<mask>", 0.0)]),
    "mbart": lambda: MBartTokenizer(scored(*FAIRSEQ), src_lang="de_DE"),
    "nllb": lambda: NllbTokenizer(**merged("metaspace", *FAIRSEQ), src_lang="deu_Latn"),
    "deberta": lambda: DebertaV2Tokenizer(scored("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")),
    "unigram with bytes": with_bytes,
}
BYTE_LEVEL = ["gpt2", "roberta", "whisper", "llama-3"]
ALIKE = {
    "mpnet",
    "roberta",
    "whisper",
    "gemma",
    "xlm-roberta",
    "camembert",
    "mbart",
    "nllb",
    "deberta",
}
"""Kinds with the algorithm of another one."""

kinds = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in ALIKE else []) for kind in KINDS]
)


@cache
def teacher(kind: str) -> PreTrainedTokenizerBase:
    tokenizer = KINDS[kind]()
    tokenizer.add_tokens([AddedToken("<|user|>", special=True), AddedToken("qqq", lstrip=True)])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "left"
    tokenizer.model_max_length = 77
    tokenizer.chat_template = "{{ messages }}"
    return tokenizer
