"""Who may import whom: the rooms go one way, and each large dependency has one home."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest


def requirement(declared: str) -> str:
    """The module that a declared dependency is imported as."""
    return re.split(r"[^\w-]", declared, maxsplit=1)[0].lower().replace("-", "_")


ROOT = Path(__file__).parents[1]
ROOMS = ("spaces", "objectives", "search", "studies")
"""Each may import the ones before it."""

ORDER = {
    "spaces": (
        "errors",
        "arguments",
        "plain_text",
        "remaining",
        "files",
        "families",
        "architecture",
        "checkpoints",
        "models",
        "others",
        "residual",
        "calibration",
        "vocabulary",
        "space",
        "students",
        "teacher",
    ),
    "objectives": (
        "machine",
        "measurement",
        "data",
        "distillation",
        "baselines",
        "candidate",
        "objective",
        "quality",
        "scores",
        "latency",
        "resources",
    ),
    "search": (
        "records",
        "display",
        "progress",
        "storage",
        "planning",
        "engines",
        "study",
        "running",
        "analysis",
        "report",
        "handover",
        "front",
        "session",
        "search",
        "cli",
    ),
    "objectives/latency": (
        "workload",
        "device",
        "models",
        "job",
        "local",
        "runtimes",
        "targets",
        "timing",
        "predictor",
        "latency",
    ),
}
"""The parts of a folder in order: each may import the ones before it, for typing too."""

LONGEST = 12
"""Maximum number of modules of a room that import each other in a chain."""

HOMES = {
    "optuna": {"search/storage/", "search/study/"},
    "optuna_dashboard": {"search/study/"},
    "sqlalchemy": {"search/storage/"},
    "cyclopts": {"search/cli/"},
    "fsspec": {"search/study/"},
    "plotly": {"search/report/"},
    "ray": {"search/engines/"},
    "datasets": {"objectives/data/"},
    "pyarrow": {"objectives/data/", "search/handover/scripts/"},
    "pandas": {
        "search/analysis/",
        "search/planning/heads.py",
        "search/records/heads.py",
        "search/report/",
    },
}
"""The only places of the library that may import each of the large dependencies."""

with (ROOT / "pyproject.toml").open("rb") as _file:
    _declared = tomllib.load(_file)["project"]
EXTRAS = [one for extra in _declared["optional-dependencies"].values() for one in extra]
REQUIRED = {requirement(one) for one in _declared["dependencies"]}
DEPENDENCIES = REQUIRED | {requirement(one) for one in EXTRAS}

FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
LIBRARY = [path for path in FILES if path.relative_to(ROOT).parts[0] != "studies"]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    own = parts[:-1] if parts[-1] == "__init__" else parts
    return ".".join(own if parts[0] == "studies" else ("protege", *own))


def files_in(folder: str) -> list[Path]:
    return [path for path in FILES if path.is_relative_to(ROOT / folder)]


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Modules that the file imports anywhere, as dotted names."""
    return tuple(imported(ast.parse(path.read_text(encoding="utf-8"))))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def room_of(module: str) -> str | None:
    """The room that an imported module belongs to, if it is one of ours."""
    parts = module.split(".")
    if parts[0] == "protege":
        return parts[1]
    return "studies" if parts[0] == "studies" else None


def test_there_are_files_to_look_at() -> None:
    assert {name_of(path).split("/")[0] for path in FILES} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    allowed = {None, *ROOMS[: ROOMS.index(room) + 1]}
    for path in files_in(room):
        assert {room_of(module) for module in imports(path)} <= allowed, name_of(path)


@pytest.mark.parametrize("folder", ORDER)
def test_the_parts_of_a_folder_import_one_way(folder: str) -> None:
    order, own = ORDER[folder], f"protege.{folder.replace('/', '.')}"
    for path in files_in(folder):
        first = path.relative_to(ROOT / folder).with_suffix("").parts[0]
        inside = [module for module in imports(path) if f"{module}.".startswith(f"{own}.")]
        assert own not in inside, f"{name_of(path)}: import from the module that defines the name"
        above = () if first == "__init__" else order[order.index(first) + 1 :]
        parts = {module.removeprefix(f"{own}.").split(".")[0] for module in inside}
        assert parts.isdisjoint(above), name_of(path)


@pytest.mark.parametrize("folder", ORDER)
def test_the_order_names_every_part(folder: str) -> None:
    found = {path.stem for path in (ROOT / folder).glob("*.py")}
    found |= {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}
    assert found - {"__init__", "__main__"} == set(ORDER[folder])


@pytest.mark.parametrize("room", ROOMS)
def test_chains_of_imports_are_short_and_end(room: str) -> None:
    files = {module_of(path): path for path in files_in(room)}
    graph = {module: {*imports(path)} & files.keys() for module, path in files.items()}
    length: dict[str, int] = {}
    for module in TopologicalSorter(graph).static_order():  # raises an error if there is a cycle
        length[module] = 1 + max((length[one] for one in graph[module]), default=0)
    longest = max(length, key=lambda module: length[module])
    assert length[longest] <= LONGEST, longest


@pytest.mark.parametrize("room", ROOMS)
def test_imports_are_absolute_and_never_of_a_bare_folder(room: str) -> None:
    relative_or_bare = {"", "search", "objectives", "spaces", "tests"}
    for path in files_in(room):
        firsts = {module.split(".")[0] for module in imports(path)}
        assert firsts.isdisjoint(relative_or_bare), name_of(path)


@pytest.mark.parametrize("dependency", HOMES)
def test_each_large_dependency_has_one_home(dependency: str) -> None:
    users = {
        name_of(path)
        for path in LIBRARY
        for module in imports(path)
        if module.split(".")[0] == dependency
    }
    homes = tuple(HOMES[dependency])
    assert [user for user in users if not user.startswith(homes)] == []


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "studies"])
def test_what_is_imported_at_the_top_is_a_declared_dependency(room: str) -> None:
    for path in files_in(room):
        top = ast.parse(path.read_text(encoding="utf-8")).body
        module = ast.Module(
            body=[n for n in top if isinstance(n, ast.Import | ast.ImportFrom)], type_ignores=[]
        )
        outside = {name.split(".")[0] for name in imported(module)} - set(sys.stdlib_module_names)
        assert outside - {"protege"} <= REQUIRED, name_of(path)


def test_no_module_hides_the_standard_library_or_a_dependency() -> None:
    # a script puts its own folder first on the path: its neighbours would be found instead
    taken = {*sys.stdlib_module_names, *DEPENDENCIES} - {"__main__"}
    assert [name_of(path) for path in FILES if path.stem in taken] == []


def test_every_package_says_what_it_is() -> None:
    for path in LIBRARY:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), name_of(path)
