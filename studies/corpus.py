"""English text available on every machine: the documentation of Python's standard library."""

import ast
import random
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from pydoc_data.topics import topics

from protege.objectives import Texts

Pair = dict[str, str | float]

SHORTEST, LONGEST = 40, 400
"""Length of a paragraph in characters, which excludes headings and long tables."""


def standard_library() -> Texts:
    """Return paragraphs of the language reference and of module docstrings, in a fixed order."""
    return Texts.of(_texts())


@cache
def _texts() -> list[str]:
    found = [*_paragraphs("\n\n".join(topics[name] for name in sorted(topics)))]
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        found += [text for texts in _by_docstring(path) for text in texts]
    return found


def related_paragraphs(count: int = 600, seed: int = 0) -> list[Pair]:
    """Return pairs of paragraphs that `standard_library` does not have, with their relatedness.

    They come from docstrings of the library's packages. The score is 2 for two paragraphs of one
    docstring, 1 for two docstrings of one module, 0 for two packages.

    Args:
        count: Number of pairs, a third of each score.
        seed: Seed of the choice.
    """
    known, packages = {*_texts()}, dict[str, list[list[list[str]]]]()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*/*.py")):
        if "test" in path.parent.name or path.parent.name == "site-packages":
            continue
        distinct = ([*{*texts} - known] for texts in _by_docstring(path))
        found = [sorted(texts) for texts in distinct if len(texts) > 1]
        if len(found) > 1:
            packages.setdefault(path.parent.name, []).append(found)
    chance, names = random.Random(seed), list(packages)
    pairs: list[Pair] = []
    while len(pairs) < count:
        score = len(pairs) % 3
        here, there = chance.sample(names, 2)
        module = chance.choice(packages[here])
        one, other = chance.sample(module, 2)
        if score == 2:
            first, second = chance.sample(one, 2)
        else:
            far = other if score else chance.choice(chance.choice(packages[there]))
            first, second = chance.choice(one), chance.choice(far)
        pairs.append({"sentence1": first, "sentence2": second, "score": float(score)})
    return pairs


def _by_docstring(path: Path) -> Iterator[list[str]]:
    """Yield the paragraphs of each docstring."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield [*_paragraphs(ast.get_docstring(node) or "")]


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        # skip interactive examples and grammar rules
        if ">>>" in block or "::=" in block:
            continue
        paragraph = " ".join(block.split())
        if SHORTEST <= len(paragraph) <= LONGEST and re.match(r"[A-Z]", paragraph):
            yield paragraph
