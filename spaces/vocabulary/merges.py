"""The merges that build a BPE token, and the pieces that spell a dropped token."""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

# a noncharacter, which no text contains
_MARK = "\U0010ffff"


@dataclass(frozen=True)
class Merges:
    """The merges of a BPE model; empty for other models.

    Attributes:
        ids: Id of each token.
        ranks: For a pair of ids, the rank of its merge and the id of the result.
        prefix: Prefix of pieces that continue a word.
        suffix: Suffix of pieces that end a word.
    """

    ids: Mapping[str, int]
    ranks: Mapping[tuple[int, int], tuple[int, int]]
    prefix: str
    suffix: str

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "Merges":
        """Read the merges of a model in the JSON form of `tokenizers`."""
        merges = model.get("merges", [])
        ids = model["vocab"] if merges else {}
        prefix, suffix = _affixes(model)
        # of a pair listed twice the last rank counts, as in `tokenizers`
        ranks = {
            (ids[left], ids[right]): (rank, ids[_joined(left, right, prefix)])
            for rank, (left, right) in enumerate(merges)
        }
        return cls(ids, ranks, prefix, suffix)

    def ancestors(self, token: str) -> frozenset[int]:
        """Return the ids of the pieces that the token is built from when it is encoded alone.

        In any word that yields the token, the same merges run in the same order inside its span,
        because a merge across its borders would prevent the token. So only these of a token's
        possible merges matter. A token that its own text does not yield (a special token, or one
        reached by `ignore_merges`) needs no pieces.
        """
        symbols = [self.ids.get(atom, -1) for atom in self._atoms(token)]
        passed = set(symbols)
        while len(symbols) > 1:
            pairs = enumerate(pairwise(symbols))
            found = [(self.ranks[pair], at) for at, pair in pairs if pair in self.ranks]
            if not found:
                return frozenset()
            (_, made), at = min(found)  # the lowest rank; of equal ones the leftmost
            symbols[at : at + 2] = [made]
            passed.add(made)
        if symbols != [self.ids.get(token)]:
            return frozenset()
        return frozenset(passed - set(symbols))

    def _atoms(self, token: str) -> list[str]:
        """Split a token into characters, with the prefix and suffix of their place in a word."""
        continues = bool(self.prefix) and token.startswith(self.prefix)
        ends = bool(self.suffix) and token.endswith(self.suffix)
        body = token.removeprefix(self.prefix) if continues else token
        atoms = list(body.removesuffix(self.suffix) if ends else body)
        first = 0 if continues else 1
        atoms[first:] = [self.prefix + atom for atom in atoms[first:]]
        if ends and atoms:
            atoms[-1] += self.suffix
        return atoms


def surviving(model: Mapping[str, Any], tokens: Container[str]) -> list[list[str]]:
    """Return the merges whose parts and result are among the tokens, in order."""
    prefix, _ = _affixes(model)
    return [
        [left, right]
        for left, right in model["merges"]
        if left in tokens and right in tokens and _joined(left, right, prefix) in tokens
    ]


def speller(model: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """Return a function that encodes a token's text as it occurs in a word.

    A marker character before or after the text stands for the rest of the word. The function
    returns an empty list for text that the model cannot encode.
    """
    prefix, suffix = _affixes(model)
    vocabulary = model["vocab"]
    size = len(vocabulary) if isinstance(vocabulary, list) else max(vocabulary.values()) + 1
    tokenize = Tokenizer.from_str(json.dumps({"model": _marked(model, size)})).model.tokenize

    def spell(token: str) -> list[int]:
        continues = bool(prefix) and token.startswith(prefix)
        ends = not suffix or token.endswith(suffix)
        body = token.removeprefix(prefix).removesuffix(suffix)
        pieces = tokenize(_MARK * continues + body + _MARK * (not ends))
        ids = [piece.id for piece in pieces[int(continues) : len(pieces) - (not ends)]]
        return [] if any(id_ >= size for id_ in ids) else ids

    return spell


def characters(model: Mapping[str, Any]) -> set[str]:
    """Return all spellings of single printable ASCII characters and of the metaspace in a word."""
    return _anywhere({"\u2581", *map(chr, range(32, 127))}, model)


def _marked(model: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Add the marker and an unknown token of its own to the model, with ids from ``size`` up."""
    unknown = _MARK + _MARK
    if isinstance(model["vocab"], list):
        return {**model, "vocab": [*model["vocab"], [unknown, 0.0]], "unk_id": size}
    own = [unknown, *_anywhere({_MARK}, model)]
    vocabulary = model["vocab"] | {token: size + at for at, token in enumerate(own)}
    marked = {**model, "vocab": vocabulary, "unk_token": unknown}
    # tokens may be longer than WordPiece's limit for words
    return marked | ({"max_input_chars_per_word": 1 << 20} if model["type"] == "WordPiece" else {})


def _anywhere(pieces: set[str], model: Mapping[str, Any]) -> set[str]:
    """Return pieces with all combinations of prefix and suffix."""
    prefix, suffix = _affixes(model)
    placed = pieces | {prefix + piece for piece in pieces}
    return placed | {piece + suffix for piece in placed}


def _affixes(model: Mapping[str, Any]) -> tuple[str, str]:
    """Return the prefix of continuing pieces and the suffix of final pieces."""
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


def _joined(left: str, right: str, prefix: str) -> str:
    return left + right[len(prefix) :]
