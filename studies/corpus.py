"""English text available on every machine: the documentation of Python's standard library."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from protege.objectives import Texts

SHORTEST, LONGEST = 40, 400
"""Length of a paragraph in characters, which excludes headings and long tables."""


def standard_library() -> Texts:
    """Return paragraphs of the language reference and of library docstrings, in a fixed order."""
    found = [*_paragraphs("\n\n".join(topics[name] for name in sorted(topics)))]
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        found += _docstrings(path)
    return Texts.of(found)


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield from _paragraphs(ast.get_docstring(node) or "")


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        # skip interactive examples and grammar rules
        if ">>>" in block or "::=" in block:
            continue
        paragraph = " ".join(block.split())
        if SHORTEST <= len(paragraph) <= LONGEST and re.match(r"[A-Z]", paragraph):
            yield paragraph
