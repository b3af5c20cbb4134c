"""Renumber token ids in the fields of configurations after tokens were dropped."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def places_of(kept: Sequence[int]) -> dict[int, int]:
    """Return the new id of each kept token: its index among them."""
    return {id_: place for place, id_ in enumerate(kept)}


def renumbered(fields: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """Renumber the token ids in fields of a configuration or generation config.

    A dropped token's id becomes None in a field of its own, and is removed from lists; a phrase
    that contains it is removed as a whole. Negative ids stay.
    """
    places = places_of(kept)
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
    """Renumber nested lists of ids; drop a phrase if one of its ids was dropped."""
    if not isinstance(value, (list, tuple)):
        return value
    if all(isinstance(entry, int) for entry in value):
        return [places[entry] for entry in value] if all(e in places for e in value) else None
    moved = [_phrases(entry, places) for entry in value]
    return [entry for entry in moved if entry is not None]


def _entries(value: Any, places: Mapping[int, int]) -> Any:
    """Renumber a mapping from names to ids, or pairs that end in an id."""
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
