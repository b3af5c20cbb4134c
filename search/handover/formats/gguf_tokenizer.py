"""Write a tokenizer into a GGUF file."""

import json
from collections.abc import Mapping
from typing import Any

from protege.spaces.errors import Unsupported

LLAMA_3 = r"\p{N}{1,3}"
"""Part of the pattern by which Llama 3 and its relatives split texts."""

QWEN_2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
"""Start of Qwen 2's."""


def add_tokenizer(writer: Any, tokenizer: Any, rows: int) -> None:
    """Add a tokenizer's vocabulary and settings.

    Args:
        writer: A `gguf.GGUFWriter`.
        tokenizer: A fast tokenizer.
        rows: Rows of the embedding; those without a token get an unused one.

    Raises:
        Unsupported: llama.cpp has no such tokenizer.
    """
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    kind = kind_of(described)
    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    tokens = [by_id.get(number, f"[unused-{number}]") for number in range(rows)]
    writer.add_tokenizer_model(kind)
    if kind == "gpt2":
        writer.add_tokenizer_pre(splitting(described.get("pre_tokenizer") or {}))
        merges = described["model"]["merges"]
        writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    elif kind == "llama":
        # the order of the vocabulary is the order of the merges
        writer.add_token_scores([-float(number) for number in range(rows)])
        writer.add_add_space_prefix("Prepend" in json.dumps(described.get("normalizer")))
    types = _types(tokens, by_id, tokenizer, is_spm=kind == "llama")
    writer.add_token_list(_spelt(tokens, types) if kind == "bert" else tokens)
    writer.add_token_types(types)
    _add_special(writer, tokenizer)


def kind_of(described: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for a kind of tokenizer.

    Raises:
        Unsupported: It has none.
    """
    model = described["model"]
    if model["type"] == "WordPiece":
        return "bert"
    if model["type"] == "BPE":
        return "llama" if model.get("byte_fallback") else "gpt2"
    raise Unsupported(
        f"its tokenizer is of the kind {model['type']}; llama.cpp reads BPE and WordPiece"
    )


def splitting(pre_tokenizer: Mapping[str, Any]) -> str:
    """Return llama.cpp's name for the way in which a byte-level tokenizer splits a text.

    Raises:
        Unsupported: The way has no name here.
    """
    parts = pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    kinds = {part.get("type"): part for part in parts}
    pattern = str(kinds.get("Split", {}).get("pattern", {}).get("Regex", ""))
    if "ByteLevel" in kinds and not pattern:
        return "smollm" if kinds.get("Digits", {}).get("individual_digits") else "gpt-2"
    if LLAMA_3 in pattern:
        return "llama-bpe"
    if pattern.startswith(QWEN_2):
        return "qwen2"
    raise Unsupported(f"its tokenizer splits texts by a pattern that is unknown here: {pattern!r}")


def _types(tokens: list[str], by_id: Any, tokenizer: Any, *, is_spm: bool) -> list[int]:
    from gguf import TokenType

    special = {*tokenizer.all_special_ids}
    added = {number: one.special for number, one in tokenizer.added_tokens_decoder.items()}
    found = []
    for number, token in enumerate(tokens):
        kind = TokenType.NORMAL
        if number not in by_id:
            kind = TokenType.UNUSED
        elif number in special or added.get(number):
            kind = TokenType.CONTROL
        elif number in added:
            kind = TokenType.USER_DEFINED
        elif is_spm and len(token) == 6 and token.startswith("<0x"):
            kind = TokenType.BYTE
        if is_spm and number == tokenizer.unk_token_id:
            kind = TokenType.UNKNOWN
        found.append(int(kind))
    return found


def _spelt(tokens: list[str], types: list[int]) -> list[str]:
    """Return the tokens of BERT as llama.cpp spells them: marked at the start of a word."""
    from gguf import TokenType

    return [
        token
        if kind != TokenType.NORMAL
        else token.removeprefix("##")
        if token.startswith("##")
        else f"\u2581{token}"
        for token, kind in zip(tokens, types, strict=True)
    ]


def _add_special(writer: Any, tokenizer: Any) -> None:
    """Add the ids of special tokens, and which of them surround a text."""
    ids = {
        "bos": tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id,
        "eos": tokenizer.eos_token_id,
        "unk": tokenizer.unk_token_id,
        "sep": tokenizer.sep_token_id,
        "pad": tokenizer.pad_token_id,
        "mask": tokenizer.mask_token_id,
    }
    for name, number in ids.items():
        if number is not None:
            getattr(writer, f"add_{name}_token_id")(number)
    around = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(bool(around) and around[0] == ids["bos"])
    writer.add_add_eos_token(bool(around) and around[-1] in {ids["eos"], ids["sep"]} - {None})
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
