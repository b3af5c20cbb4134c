"""README and docs: their code runs, and the files, names, links and commands in them exist."""

import ast
import builtins
import importlib
import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import wavfile

from protege.search.cli.main import main
from tests.test_imports import ORDER, ROOT
from tests.tiny import CASES, save, texts

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}
"""The text of each page, by its path from the root."""

PUBLIC = {
    name: getattr(importlib.import_module(f"protege.{room}"), name)
    for room in ("spaces", "objectives", "search")
    for name in importlib.import_module(f"protege.{room}").__all__
}
"""The public objects of the library, by name."""

TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
"""The hub id in the pages; the tests have a folder with a tiny teacher in its place."""

SMALLER = {
    "trials=40": "trials=6",
    "steps=200": "steps=2",
    "prompt_tokens=128": "prompt_tokens=16",
    "limit=0.001": "limit=-0.001",  # the tiny teacher knows none of the words
}
"""Arguments in the pages, and what they are replaced by."""

CONTINUED = {"docs/getting-started.md": ("docs/export.md", "docs/training.md")}
"""Pages whose run the code of other pages needs."""

FENCE = re.compile(r"^(<!-- not run: [^\n]+ -->\n)?```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]+))?\)")
PLACED = re.compile(r"`([A-Za-z_.]+)`\s+\(`([\w/]+\.py)`\)")
FOLDERS = ("spaces/", "objectives/", "search/", "studies/", "tests/", "docs/", ".ci/")


@dataclass(frozen=True)
class Block:
    """A block of code; `runs` is False below a comment ``<!-- not run: reason -->``."""

    language: str
    text: str
    runs: bool


def blocks(page: str) -> list[Block]:
    found = (match.groups() for match in FENCE.finditer(PAGES[page]))
    return [Block(language, text, reason is None) for reason, language, text in found]


def python(page: str) -> list[Block]:
    return [one for one in blocks(page) if one.language == "python"]


def inline(page: str) -> list[str]:
    """The inline code of a page."""
    return [" ".join(one.split()) for one in INLINE.findall(FENCE.sub("", PAGES[page]))]


def lines(page: str) -> list[str]:
    """Inline code, and the lines of blocks that are not Python, without comments."""
    plain = [one.text for one in blocks(page) if one.language != "python"]
    return [*inline(page), *(line.split("#")[0] for text in plain for line in text.splitlines())]


def commands(start: str) -> list[list[str]]:
    """The words of every line of any page that begins with the command."""
    found = [line.split() for page in PAGES for line in lines(page) if line.startswith(start)]
    assert len(found) > 3
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with a tiny teacher under its hub id, texts, images and clips."""
    save(CASES["bert-sentences"].teacher(), tmp_path / TEACHER)
    (tmp_path / "corpus.txt").write_text("\n".join(texts()), encoding="utf-8")
    rows = [json.dumps({"text": one, "label": n % 2}) for n, one in enumerate(texts())]
    (tmp_path / "reviews.jsonl").write_text("\n".join(rows), encoding="utf-8")
    for shade, name in enumerate(("cats", "dogs")):
        (tmp_path / "images" / name).mkdir(parents=True)
        Image.new("RGB", (4, 4), (shade, shade, shade)).save(tmp_path / "images" / name / "1.png")
    (tmp_path / "clips").mkdir()
    for name in "ab":
        wavfile.write(
            tmp_path / "clips" / f"{name}.wav", 16_000, np.array([0, ord(name) / 200], np.float32)
        )
    rows = ["file_name,transcription", "a.wav,one", "b.wav,two"]
    (tmp_path / "clips" / "metadata.csv").write_text("\n".join(rows), encoding="utf-8")
    monkeypatch.chdir(tmp_path)


FOLLOWING = [page for pages in CONTINUED.values() for page in pages]
STARTS = [page for page in PAGES if python(page) and page not in FOLLOWING]


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("page", STARTS)
def test_the_code_of_a_page_runs(page: str) -> None:
    known: dict[str, Any] = {"__name__": "page"}
    code = [one for part in (page, *CONTINUED.get(page, ())) for one in python(part)]
    for block in code:
        execute(block, page, known)
    for block in code:
        assert unknown_names(block, known) == set()
        assert wrong_keywords(ast.parse(block.text), known) == []


def execute(block: Block, page: str, known: dict[str, Any]) -> None:
    """Run a block in the namespace of its page, or only its imports if it cannot be run."""
    text = block.text
    for given, smaller in SMALLER.items():
        text = text.replace(given, smaller)
    tree = ast.parse(text)
    if not block.runs:
        tree.body = [one for one in tree.body if imports_protege(one)]
    exec(compile(tree, page, "exec"), known)


def imports_protege(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("protege")


def unknown_names(block: Block, known: Mapping[str, Any]) -> set[str]:
    """The names that a block uses and nothing defines."""
    defined = {*known, *vars(builtins)}
    used: set[str] = set()
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.alias):
            defined.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else defined).add(node.id)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
    return used - defined


def wrong_keywords(tree: ast.AST, known: Mapping[str, Any]) -> list[str]:
    """The calls of known objects with keywords that these do not take."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called: Any = resolved(node.func, known)
        names = [one.arg for one in node.keywords if one.arg]
        if called is not None and not takes(called, names):
            found.append(ast.unparse(node))
    return found


def resolved(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """The object of a dotted name; None if it is not known."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        return getattr(resolved(node.value, known), node.attr, None)
    return None


def takes(called: Callable[..., Any], names: list[str]) -> bool:
    try:
        signature = inspect.signature(called)
    except ValueError:  # a built-in without one
        return True
    with suppress(TypeError):
        signature.bind_partial(**dict.fromkeys(names))
        return True
    return False


@pytest.mark.parametrize("page", PAGES)
def test_calls_in_inline_code_have_keywords_that_exist(page: str) -> None:
    # what was changed since is history
    given = [one.replace("…", "...") for one in inline(page) if page != "CHANGELOG.md"]
    wrong = [wrong_keywords(tree, PUBLIC) for one in given for tree in parsed(one)]
    assert [one for found in wrong for one in found] == []


def parsed(text: str) -> Iterator[ast.AST]:
    with suppress(SyntaxError):
        yield ast.parse(text, mode="eval")


def test_wrong_code_is_found() -> None:
    block = Block("python", "front = Search(nme='x').go(trials)", runs=False)
    assert unknown_names(block, PUBLIC) == {"trials"}
    assert wrong_keywords(ast.parse(block.text), PUBLIC) == ["Search(nme='x')"]


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page: str) -> None:
    named = [one for one in inline(page) if one.startswith(FOLDERS)]
    assert [one for one in named if not (ROOT / one).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_resolve(page: str) -> None:
    for target, anchor in LINK.findall(FENCE.sub("", PAGES[page])):
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        if anchor and "reference" not in target:  # whose anchors the site makes
            assert anchor in anchors(path.resolve().relative_to(ROOT).as_posix()), anchor


@cache
def anchors(page: str) -> set[str]:
    """The anchors that headings of a page have."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", PAGES[page]), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", one).strip().lower()) for one in titles}


@cache
def placed(section: str) -> tuple[tuple[str, str], ...]:
    """The names and files of `Name` (`file`) in a section of the architecture page."""
    text = PAGES["docs/architecture.md"].split(f"## {section}\n")[1].split("\n## ")[0]
    return tuple(PLACED.findall(text))


def test_the_walk_of_a_trial_names_what_exists() -> None:
    walk = placed("One trial, from ask to tell")
    assert len(walk) > 25
    missing = [(name, path) for name, path in walk if name not in defined(ROOT / path)]
    assert missing == []


def defined(path: Path) -> set[str]:
    """The functions, classes and methods of a module."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
            inside = (one for one in ast.walk(node) if isinstance(one, ast.FunctionDef))
            found |= {f"{node.name}.{one.name}" for one in inside}
    return found


@pytest.mark.parametrize("folder", ORDER)
def test_the_page_of_the_architecture_lists_parts_in_order(folder: str) -> None:
    table = PAGES["docs/architecture.md"].split(f"### `{folder}/`\n")[1].split("\n#")[0]
    assert re.findall(r"^\| `(\w+)/?` \|", table, re.MULTILINE) == list(ORDER[folder])


def test_make_targets_exist() -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {words[1] for words in commands("make ")} <= set(targets)


def test_commands_and_their_options_exist(capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands("protege "):
        assert main([words[1], "--help"]) == 0, words
        help_text = capsys.readouterr().out
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        assert [one for one in options if one not in help_text] == [], words


def test_modules_that_are_run_and_their_parts_exist() -> None:
    for words in commands("python -m studies"):
        path = ROOT / f"{words[2].replace('.', '/')}.py"
        assert path.is_file(), words
        if "--only" in words:
            assert f'"{words[words.index("--only") + 1]}"' in path.read_text(), words


def test_extras_exist() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    named = {
        name.strip()
        for text in PAGES.values()
        for group in re.findall(r'"(?:protege|\.)\[([\w,]+)\]"', text)
        for name in group.split(",")
    }
    assert len(named) > 3
    assert named <= set(extras)
