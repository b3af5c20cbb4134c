"""Which of its teacher's tokens a student keeps, and the tokenizer that knows only those.

Text that the teacher encodes with kept tokens only is encoded into the very same pieces by the
small tokenizer. WordPiece and WordLevel: the longest match is still there, and no longer one has
come. Unigram: so is the best path, and the penalty of an unknown character, ten below the lowest
score, stays since the piece of that score is always kept. BPE: so is every merge that led to the
pieces, since a token is chosen together with what it is built from (`vocabulary.merges`).
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

from protege.spaces.checkpoints.muted import quiet
from protege.spaces.errors import BadInput, Infeasible, Unsupported
from protege.spaces.vocabulary.merges import Merges, characters, speller, surviving

State = dict[str, Any]  # a tokenizer as the library `tokenizers` writes it to JSON

_ALGORITHMS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
_AROUND_THE_MODEL = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
# can be set on a tokenizer after it was made, and is then not saved with it
_SETTINGS = ("padding_side", "truncation_side", "model_input_names")


def must_keep(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Ids every student keeps.

    They are the special and added tokens, the byte tokens, the unknown token and the pieces of one
    printable ASCII character, at any place in a word; of Unigram also the piece of the lowest
    score. With them any text of kept characters can be encoded, and the tokenizer's own parts find
    the tokens that they refer to.

    Raises:
        Unsupported: It is not one of the `tokenizers` library.
    """
    return _must_keep(tokenizer, _state(tokenizer))


def choose_tokens(
    tokenizer: PreTrainedTokenizerBase, importance: Tensor, count: int
) -> tuple[int, ...]:
    """Ascending ids of the ``count`` tokens that a student keeps, given the importance of each.

    Those it must keep come first, then the most important; ties go to the lower id. A BPE token
    comes together with the pieces it is built from, or not at all where these do not fit. Ids that
    no token has, such as the rows that pad an embedding to a round number, come last.

    Args:
        tokenizer: The teacher's.
        importance: Of every row of the teacher's embedding, ``(rows,)``.
        count: How many to keep; all rows if there are fewer.

    Raises:
        BadInput: There are fewer rows than the tokenizer has ids.
        Infeasible: The tokens that every student keeps are already more.
        Unsupported: The tokenizer is not one of the `tokenizers` library.
    """
    state = _state(tokenizer)
    tokens = {id_: token for token, id_ in _ids(state).items()}
    if max(tokens) >= len(importance):
        raise BadInput(
            f"{len(importance)} rows of importance for a tokenizer with ids up to {max(tokens)}; "
            "give one a row of the embedding, and resize an embedding that lacks rows"
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
    """The tokenizer that knows only these tokens; the one at place i of them has the id i.

    It is of the teacher's class where that class, which builds much of itself anew when it loads,
    comes out right; else of the class that takes everything from its file.

    Raises:
        BadInput: The ids are not ascending, or lack some that every student keeps.
        Unsupported: It is not one of the `tokenizers` library.
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
    return _loaded(tokenizer, _pruned(state, _places(kept)))


def expansions(
    tokenizer: PreTrainedTokenizerBase, small: PreTrainedTokenizerBase, kept: Sequence[int]
) -> list[list[int]]:
    """For each id of the teacher, the small tokenizer's ids that spell the same text.

    They are one id for a kept token, and for a dropped one what the small model makes of its text,
    at the same place in a word. A token that cannot be spelt, and an id that no token has, is the
    unknown token, or the first token where there is none. The list ends with the teacher's last
    token, or the last id kept if that is later.
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


def renumbered(fields: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Fields of a configuration, or of how text is generated, with the ids of the kept tokens.

    An id whose token was dropped leaves its list, with the whole phrase it is part of, and a field
    of its own becomes None. Negative numbers stand for no token and stay.
    """
    places = _places(kept)
    return {name: _renumbered(name, value, places) for name, value in fields.items()}


def _renumbered(name: object, value: Any, places: Mapping[int, int]) -> Any:
    rule = next((rule for end, rule in _RULES.items() if str(name).endswith(end)), None)
    if rule is not None:
        return rule(value, places)
    if isinstance(value, Mapping):
        return {key: _renumbered(key, entry, places) for key, entry in value.items()}
    return value


def _id_or_ids(value: Any, places: Mapping[int, int]) -> Any:
    if isinstance(value, (list, tuple)):
        moved = [_id_or_ids(entry, places) for entry in value]
        return [entry for entry in moved if entry is not None]
    if isinstance(value, int) and value >= 0:
        return places.get(value)
    return value


def _phrases(value: Any, places: Mapping[int, int]) -> Any:
    """Lists of ids, at any depth: without one of its ids a phrase is another phrase."""
    if not isinstance(value, (list, tuple)):
        return value
    if all(isinstance(entry, int) for entry in value):
        return [places[entry] for entry in value] if all(e in places for e in value) else None
    moved = [_phrases(entry, places) for entry in value]
    return [entry for entry in moved if entry is not None]


def _entries(value: Any, places: Mapping[int, int]) -> Any:
    """Names with the id of each, or pairs of something and an id."""
    if isinstance(value, Mapping):
        return {name: places[id_] for name, id_ in value.items() if id_ in places}
    if isinstance(value, (list, tuple)):
        kept = [[at, id_] for at, id_ in value if id_ is None or id_ in places]
        return [[at, None if id_ is None else places[id_]] for at, id_ in kept]
    return value


# by the end of the field's name
_RULES: Mapping[str, Callable[[Any, Mapping[int, int]], Any]] = {
    "_token_id": _id_or_ids,
    "_token_ids": _id_or_ids,
    "_token_index": _id_or_ids,
    "suppress_tokens": _id_or_ids,
    "bad_words_ids": _phrases,
    "force_words_ids": _phrases,
    "forced_decoder_ids": _entries,
    "lang_to_id": _entries,
    "task_to_id": _entries,
}


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
    """The id of every token, added ones as well."""
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pieces with scores; of equal ones the last counts
        vocabulary = {piece: id_ for id_, (piece, _) in enumerate(vocabulary)}
    return {**vocabulary, **{added["content"]: added["id"] for added in state["added_tokens"]}}


def _slots(state: State) -> Iterator[tuple[Any, int | str]]:
    """Every place outside of the vocabulary where an id is written: a container and its key."""
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
    """Add ids by rank, each with its ancestors, while there is room.

    One that does not fit waits for another round: by then others may have brought its ancestors.
    There is always one that fits, the shortest, so all the room is taken while there are ids.
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


def _places(kept: Sequence[int]) -> dict[int, int]:
    return {id_: place for place, id_ in enumerate(kept)}


def _pruned(state: State, places: Mapping[int, int]) -> State:
    """The state with the tokens that have a place, and their places for ids."""
    for container, key in _slots(state):
        container[key] = places.get(container[key], 0)
    model = state["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):
        model["vocab"] = [entry for id_, entry in enumerate(vocabulary) if id_ in places]
        return state
    tokens = {token: places[id_] for token, id_ in vocabulary.items() if id_ in places}
    if max(tokens.values(), default=-1) >= len(tokens):
        # loading numbers added tokens on from the count of the others: into a gap between these
        tokens |= {added["content"]: added["id"] for added in state["added_tokens"]}
    model["vocab"] = tokens
    if "merges" in model:
        model["merges"] = surviving(model, tokens)
    return state


def _loaded(tokenizer: PreTrainedTokenizerBase, state: State) -> PreTrainedTokenizerBase:
    """A tokenizer of that state with all else that the given one has, as loading makes it."""
    with TemporaryDirectory() as name, quiet():
        folder = Path(name)
        tokenizer.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
        file = folder / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8"))
        config |= {setting: getattr(tokenizer, setting) for setting in _SETTINGS}
        for stale in ("vocab", "merges"):  # there if the teacher's were given by hand
            config.pop(stale, None)
        file.write_text(json.dumps(config), encoding="utf-8")
        small: PreTrainedTokenizerBase = type(tokenizer).from_pretrained(folder)
        if any(_state(small)[part] != state[part] for part in ("model", *_AROUND_THE_MODEL)):
            small = PreTrainedTokenizerFast.from_pretrained(folder)
    small.name_or_path = tokenizer.name_or_path
    return small
