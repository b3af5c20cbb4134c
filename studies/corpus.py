"""English text that is on every machine: the documentation of Python's standard library."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics

from protege.objectives import Texts

SHORTEST, LONGEST = 40, 400
"""Characters of a paragraph that is taken: no headings, no tables of a page."""


def standard_library() -> Texts:
    """Paragraphs of the language reference and of the library's docstrings, in a fixed order."""
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
        # a lone prompt or a grammar rule is no prose
        if ">>>" in block or "::=" in block:
            continue
        paragraph = " ".join(block.split())
        if SHORTEST <= len(paragraph) <= LONGEST and re.match(r"[A-Z]", paragraph):
            yield paragraph
