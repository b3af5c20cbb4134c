"""How a model puts text together: the merges behind a token of BPE, the pieces of a dropped one."""

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer

# a code point that Unicode leaves to programs for their own use: no text has it
_MARK = "\U0010ffff"


@dataclass(frozen=True)
class Merges:
    """The merges of a model as `tokenizers` writes it to JSON; none if it is not a BPE.

    Attributes:
        ids: Id of each token.
        ranks: For a pair of ids, the rank of its merge and the id it makes.
        prefix: What pieces that continue a word begin with.
        suffix: What pieces that end a word end with.
    """

    ids: Mapping[str, int]
    ranks: Mapping[tuple[int, int], tuple[int, int]]
    prefix: str
    suffix: str

    @classmethod
    def of(cls, model: Mapping[str, Any]) -> "Merges":
        """The merges of the model."""
        merges = model.get("merges", [])
        ids = model["vocab"] if merges else {}
        prefix, suffix = _affixes(model)
        # a pair listed twice has its last rank, as in the library
        ranks = {
            (ids[left], ids[right]): (rank, ids[_joined(left, right, prefix)])
            for rank, (left, right) in enumerate(merges)
        }
        return cls(ids, ranks, prefix, suffix)

    def ancestors(self, token: str) -> frozenset[int]:
        """Ids of the pieces that the token is built from when it is encoded alone.

        In a word that holds the token, the merges inside its span are these, in this order: pairs
        across its borders are never merged, or the token would not come out. So of the several
        merges that a file may list for a token, only the ones run here count. A token that its own
        text does not lead to (a special token; one reached by `ignore_merges`) needs no pieces.
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
        """The characters a word begins as, each with the marks of its place in the word."""
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
    """The merges of which both parts and the result are among the tokens, in their order."""
    prefix, _ = _affixes(model)
    return [
        [left, right]
        for left, right in model["merges"]
        if left in tokens and right in tokens and _joined(left, right, prefix) in tokens
    ]


def speller(model: Mapping[str, Any]) -> Callable[[str], list[int]]:
    """What the model makes of a token's text, at its place in a word; nothing if it cannot.

    A piece that continues a word is spelt behind a mark, one that does not end it before a mark.
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
    """One printable ASCII character as it is written at any place in a word, and the metaspace."""
    return _anywhere({"\u2581", *map(chr, range(32, 127))}, model)


def _marked(model: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The model that also knows the mark, and an unknown token of its own; ids from the size up."""
    unknown = _MARK + _MARK
    if isinstance(model["vocab"], list):
        return {**model, "vocab": [*model["vocab"], [unknown, 0.0]], "unk_id": size}
    own = [unknown, *_anywhere({_MARK}, model)]
    vocabulary = model["vocab"] | {token: size + at for at, token in enumerate(own)}
    marked = {**model, "vocab": vocabulary, "unk_token": unknown}
    # whole tokens are spelt, however long; only WordPiece has a limit
    return marked | ({"max_input_chars_per_word": 1 << 20} if model["type"] == "WordPiece" else {})


def _anywhere(pieces: set[str], model: Mapping[str, Any]) -> set[str]:
    """The pieces as they are written at any place in a word."""
    prefix, suffix = _affixes(model)
    placed = pieces | {prefix + piece for piece in pieces}
    return placed | {piece + suffix for piece in placed}


def _affixes(model: Mapping[str, Any]) -> tuple[str, str]:
    """What a piece begins with that continues a word, and what one ends with that ends it."""
    return model.get("continuing_subword_prefix") or "", model.get("end_of_word_suffix") or ""


def _joined(left: str, right: str, prefix: str) -> str:
    return left + right[len(prefix) :]
