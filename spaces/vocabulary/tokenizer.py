"""Choose the tokens that a student keeps, and reduce the teacher's tokenizer to them.

If the teacher encodes a text with kept tokens only, the reduced tokenizer gives the same pieces.
WordPiece and WordLevel: the longest match is kept and no longer one appears. Unigram: the best path
is kept, and the penalty of unknown characters stays the same because the piece with the lowest
score is always kept. BPE: all merges that lead to a kept token are kept, because a token is chosen
together with the pieces that it is built from (`vocabulary.merges`).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from protege.spaces.checkpoints.source import quiet
from protege.spaces.errors import BadInput, Infeasible, Unsupported
from protege.spaces.vocabulary.merges import Merges, characters, speller, surviving
from protege.spaces.vocabulary.renumbering import places_of

State = dict[str, Any]  # a tokenizer as the library `tokenizers` writes it to JSON

_ALGORITHMS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
_AROUND_THE_MODEL = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# settings that tokenizers do not save if they were changed after loading
_SETTINGS = ("padding_side", "truncation_side", "model_input_names")


def must_keep(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the ids that every student keeps.

    These are special and added tokens, byte tokens, the unknown token, pieces of one printable
    ASCII character at any place in a word, and for Unigram the piece with the lowest score. They
    let any text of kept characters be encoded, and include all tokens that the tokenizer's
    pre- and post-processors refer to.

    Raises:
        Unsupported: The tokenizer is not one of the `tokenizers` library.
    """
    return _must_keep(tokenizer, _state(tokenizer))


def choose_tokens(
    tokenizer: PreTrainedTokenizerBase, importance: Tensor, count: int
) -> tuple[int, ...]:
    """Choose the tokens that a student keeps, by importance.

    Required tokens come first (see `must_keep`), then the most important; ties go to the lower id.
    A BPE token is added together with the pieces that it is built from, if they all fit. Ids
    without a token, such as padding rows of the embedding, come last.

    Args:
        tokenizer: The teacher's tokenizer.
        importance: Importance of every row of the teacher's embedding, ``(rows,)``.
        count: Number of tokens to keep; all rows if there are fewer.

    Returns:
        The ids, ascending.

    Raises:
        BadInput: The embedding has fewer rows than the tokenizer has ids.
        Infeasible: More than ``count`` tokens are required.
        Unsupported: The tokenizer is not one of the `tokenizers` library.
    """
    state = _state(tokenizer)
    tokens = {id_: token for token, id_ in _ids(state).items()}
    if max(tokens) >= len(importance):
        raise BadInput(
            f"{len(importance)} rows of importance for a tokenizer with ids up to {max(tokens)}; "
            "give one value for each row of the embedding, and resize an embedding that lacks rows"
        )
    chosen = set(_must_keep(tokenizer, state))
    if count < len(chosen):
        raise Infeasible(
            f"{count} tokens: the special tokens, the bytes and the single characters, which "
            f"every student keeps, are {len(chosen)}; keep at least that many"
        )
    ranked = importance.argsort(descending=True, stable=True).tolist()
    merges = Merges.of(state["model"])
    for group in ([i for i in ranked if i in tokens], [i for i in ranked if i not in tokens]):
        _fill(chosen, group, count, lambda i: merges.ancestors(tokens.get(i, "")))
    return tuple(sorted(chosen))


def shrunk(tokenizer: PreTrainedTokenizerBase, kept: Sequence[int]) -> PreTrainedTokenizerBase:
    """Reduce a tokenizer to the kept tokens; the id of a token becomes its index among them.

    The result has the teacher's class if that class loads the reduced files correctly (some rebuild
    parts of themselves), else `PreTrainedTokenizerFast`.

    Raises:
        BadInput: The ids are not ascending, or required ids are missing.
        Unsupported: The tokenizer is not one of the `tokenizers` library.
    """
    state = _state(tokenizer)
    if list(kept) != sorted(set(kept)) or (kept and kept[0] < 0):
        raise BadInput("the ids of the kept tokens are not ascending; give each once, from zero up")
    missing = sorted(_must_keep(tokenizer, state) - set(kept))
    if missing:
        raise BadInput(
            f"{len(missing)} tokens that every student keeps are not among the {len(kept)} kept, "
            f"the first is {missing[0]}; choose them with choose_tokens"
        )
    return _loaded(tokenizer, _pruned(state, places_of(kept)))


def expansions(
    tokenizer: PreTrainedTokenizerBase, small: PreTrainedTokenizerBase, kept: Sequence[int]
) -> list[list[int]]:
    """Map each id of the teacher to the small tokenizer's ids for the same text.

    A kept token maps to one id; a dropped token to the small model's encoding of its text at the
    same place in a word. Tokens that cannot be encoded, and ids without a token, map to the unknown
    token, or to id 0 if there is none. The list covers all ids of tokens and all kept ids.
    """
    ids = _ids(_state(tokenizer))
    unknown = [small.unk_token_id or 0]
    spelt = [unknown] * (max([*ids.values(), *kept]) + 1)
    spell = speller(_state(small)["model"])
    for token, id_ in ids.items():
        spelt[id_] = spell(token) or unknown
    for place, id_ in enumerate(kept):
        spelt[id_] = [place]
    return spelt


def _state(tokenizer: PreTrainedTokenizerBase) -> State:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: State = json.loads(backend.to_str()) if isinstance(backend, Tokenizer) else {}
    if state.get("model", {}).get("type") not in _ALGORITHMS:
        raise Unsupported(
            f"{type(tokenizer).__name__} is not a tokenizer of the tokenizers library with one of "
            f"the models {', '.join(sorted(_ALGORITHMS))}; its vocabulary cannot be pruned: "
            "leave out vocab, or give a teacher with a tokenizer.json"
        )
    return state


def _ids(state: State) -> dict[str, int]:
    """Return the id of every token, including added tokens."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pieces with scores; of duplicates the last counts
        vocabulary = {piece: id_ for id_, (piece, _) in enumerate(vocabulary)}
    return {**vocabulary, **{added["content"]: added["id"] for added in state["added_tokens"]}}


def _slots(state: State) -> Iterator[tuple[Any, int | str]]:
    """Yield every place outside the vocabulary that holds an id, as a container and its key."""
    yield from ((added, "id") for added in state["added_tokens"])
    if state["padding"] is not None:
        yield state["padding"], "pad_id"
    if state["model"].get("unk_id") is not None:
        yield state["model"], "unk_id"
    processor = state["post_processor"] or {}
    for part in [processor, *processor.get("processors", [])]:
        yield from ((part[name], 1) for name in ("sep", "cls") if name in part)
        for special in part.get("special_tokens", {}).values():
            yield from ((special["ids"], place) for place in range(len(special["ids"])))


def _must_keep(tokenizer: PreTrainedTokenizerBase, state: State) -> frozenset[int]:
    ids, model = _ids(state), state["model"]
    special = {str(model.get("unk_token")), *tokenizer.all_special_tokens}
    named = special | _bytes(state) | characters(model)
    kept = {ids[token] for token in named if token in ids}
    kept |= {container[key] for container, key in _slots(state)} & set(range(max(ids.values()) + 1))
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]]
        kept.add(scores.index(min(scores)))
    merges, tokens = Merges.of(model), {id_: token for token, id_ in ids.items()}
    return frozenset(kept.union(*(merges.ancestors(tokens.get(id_, "")) for id_ in kept)))


def _bytes(state: State) -> set[str]:
    parts = {name: state[name] for name in _AROUND_THE_MODEL if name != "post_processor"}
    alphabet = set(ByteLevel.alphabet()) if '"ByteLevel"' in json.dumps(parts) else set()
    return alphabet | {f"<0x{byte:02X}>" for byte in range(256)}


def _fill(
    chosen: set[int], ranked: Iterable[int], count: int, ancestors: Callable[[int], frozenset[int]]
) -> None:
    """Add ids by rank, each with its ancestors, up to ``count``.

    An id that does not fit is tried again in the next round, when its ancestors may be present. The
    shortest token always fits, so the loop fills all places while ids remain.
    """
    waiting = [id_ for id_ in ranked if id_ not in chosen]
    while waiting and len(chosen) < count:
        passed_over = []
        for id_ in waiting:
            if len(chosen) == count:
                return
            family = (ancestors(id_) | {id_}) - chosen
            if len(chosen) + len(family) <= count:
                chosen |= family
            else:
                passed_over.append(id_)
        waiting = passed_over


def _pruned(state: State, places: Mapping[int, int]) -> State:
    """Reduce the state to the tokens in ``places``, with their places as ids."""
    for container, key in _slots(state):
        container[key] = places.get(container[key], 0)
    model = state["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [entry for id_, entry in enumerate(vocabulary) if id_ in places]
        return state
    tokens = {token: places[id_] for token, id_ in vocabulary.items() if id_ in places}
    if max(tokens.values(), default=-1) >= len(tokens):
        # loading would number added tokens from the count of the others, into a gap of ids
        tokens |= {added["content"]: added["id"] for added in state["added_tokens"]}
    model["vocab"] = tokens
    if "merges" in model:
        model["merges"] = surviving(model, tokens)
    return state


def _loaded(tokenizer: PreTrainedTokenizerBase, state: State) -> PreTrainedTokenizerBase:
    """Load a tokenizer with a new state and all other settings of the given one."""
    with TemporaryDirectory() as name, quiet():
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {setting: getattr(tokenizer, setting) for setting in _SETTINGS}
        for stale in ("vocab", "merges"):  # present if they were passed as arguments
            config.pop(stale, None)
        file.write_text(json.dumps(config), encoding="utf-8")
        small: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder)
        if any(_state(small)[part] != state[part] for part in ("model", *_AROUND_THE_MODEL)):
            small = PreTrainedTokenizerFast.from_pretrained(folder)
    small.name_or_path = tokenizer.name_or_path
    return small
