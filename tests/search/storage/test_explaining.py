"""A study that is damaged, foreign or of another version ends in one line, and leads nowhere."""

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from protege.objectives import Memory
from protege.search import Front
from protege.search.cli.main import guarded, main
from protege.search.storage.explaining import explained, is_away
from protege.search.storage.format import FORMAT
from protege.spaces import BadInput, Teacher
from tests.search.toys import PLAIN, toy


@pytest.fixture
def copy(run_folder: Path, folder: Path) -> Path:
    """A copy of a run, to be damaged."""
    shutil.copytree(run_folder, folder / "run")
    return folder / "run"


def changed(run: Path, statement: str, *given: object) -> None:
    """Change the database of a run."""
    database = sqlite3.connect(run / "study.db")
    with database:
        database.execute(statement, given)
    database.close()


def attribute(run: Path, table: str, key: str, change: Callable[[Any], Any]) -> None:
    """Change an attribute of the study or of its second trial."""
    database = sqlite3.connect(run / "study.db")
    where = " AND trial_id = 2" if table.startswith("trial") else ""
    with database:
        chosen = f"FROM {table} WHERE key = ?{where}"
        (text,) = database.execute(f"SELECT value_json {chosen}", (key,)).fetchone()
        value = json.dumps(change(json.loads(text)))
        database.execute(f"UPDATE {table} SET value_json = ? WHERE key = ?{where}", (value, key))
    database.close()


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of a command that is refused."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("protege: error: ")
    assert said.count("\n") == 1
    return said


VERSIONS = {
    "newer": (
        {"format": 7, "protege": "3.1.0"},
        r'written by protege 3.1.0 in format 7; protege \S+ reads .*: install "protege>=3.1.0"',
    ),
    "older": (
        {"format": FORMAT - 1, "protege": "0.1.0"},
        rf"in format {FORMAT - 1}; protege \S+ reads format {FORMAT} only: run the study again",
    ),
    "damaged": ("seven", "its format is recorded as 'seven'; the record is damaged"),
}


@pytest.mark.parametrize("kind", VERSIONS)
def test_a_study_of_another_version_says_how_to_read_it(
    kind: str, copy: Path, teacher: Teacher, capsys: pytest.CaptureFixture[str]
) -> None:
    found, message = VERSIONS[kind]
    attribute(copy, "study_user_attributes", "format", lambda _: found)
    with pytest.raises(BadInput, match=message):
        Front.read(copy)
    with pytest.raises(BadInput, match=message):
        toy(copy, teacher=teacher).run(trials=10)
    refused(capsys, "pick", copy, "--budget", "memory_mb=1")


def test_a_study_from_before_formats_were_recorded_says_so(copy: Path, teacher: Teacher) -> None:
    changed(copy, "DELETE FROM study_user_attributes WHERE key = 'run'")
    changed(copy, "UPDATE study_user_attributes SET key = 'about' WHERE key = 'format'")
    message = "study 'toy': written by protege before 0.1 in format 0; .*: run the study again"
    with pytest.raises(BadInput, match=message):
        Front.read(copy)
    with pytest.raises(BadInput, match=message):
        toy(copy, teacher=teacher).run(trials=10)


@pytest.mark.parametrize("seed", range(24))
def test_a_database_with_wrong_bytes_is_read_or_refused_in_one_line(
    seed: int, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, path = random.Random(seed), copy / "study.db"
    content = bytearray(path.read_bytes())
    for _ in range(1 + seed % 3):
        begin = chance.randrange(len(content) - 64)
        content[begin : begin + 64] = chance.randbytes(64)
    if seed % 4 == 0:
        del content[chance.randrange(len(content)) :]
    path.write_bytes(content)
    code = main(["pick", str(copy), "--budget", "memory_mb=1"])
    said = capsys.readouterr().err
    assert (code, said.count("\n")) in {(0, 0), (2, 1)}, said


CUTS: dict[str, Callable[[str], str]] = {
    "no JSON": lambda text: text[: len(text) // 2],
    "another type": lambda _: "[1, 2]",
    "null": lambda _: "null",
    "nothing": lambda _: "{}",
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(
    ("table", "key"),
    [("study_system_attributes", "protege:about"), ("trial_system_attributes", "protege:trial")],
)
def test_a_record_that_is_not_whole_is_named(
    cut: str, table: str, key: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = (
        sqlite3.connect(copy / "study.db")
        .execute(f"SELECT value_json FROM {table} WHERE key = ?", (key,))
        .fetchone()
    )
    changed(copy, f"UPDATE {table} SET value_json = ? WHERE key = ?", CUTS[cut](text), key)
    said = refused(capsys, "pick", copy, "--budget", "memory_mb=1")
    assert "damaged" in said
    assert "study.db" in said or "trial 0" in said


def test_a_study_whose_record_was_lost_by_a_new_name_says_so(copy: Path, teacher: Teacher) -> None:
    changed(copy, "DELETE FROM study_system_attributes")
    message = "study 'toy': its record 'about' is missing; .* renamed in Optuna Dashboard"
    with pytest.raises(BadInput, match=message):
        Front.read(copy)
    with pytest.raises(BadInput, match="study 'toy': its record 'identity' is missing"):
        toy(copy, teacher=teacher).run(trials=10)


WAYS_OUT: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "a size": lambda r: r | {"architecture": r["architecture"] | {"hidden_size": "../../../x"}},
    "heads": lambda r: r | {"architecture": r["architecture"] | {"num_attention_heads": "/etc"}},
    "a fraction": lambda r: r | {"architecture": r["architecture"] | {"intermediate_size": 1.5}},
    "a number that is a path": lambda r: r | {"number": "../1"},
    "another trial's number": lambda r: r | {"number": 4},
    "no number": lambda r: r | {"number": None},
    "an architecture that is none": lambda r: r | {"architecture": ["../.."]},
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_labels_and_numbers_of_a_foreign_study_are_no_paths(
    way: str, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def altered(stored: dict[str, Any]) -> dict[str, Any]:
        return stored | {"record": WAYS_OUT[way](stored["record"])}

    attribute(copy, "trial_system_attributes", "protege:trial", altered)
    before = sorted(copy.parent.rglob("*"))
    said = refused(capsys, "export", copy, "--trial", 1)
    assert "study 'toy', trial 1: damaged" in said
    assert sorted(copy.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "recorded", ["../mine", "/etc", "../../..", "{folder}/mine", "run/../mine"]
)
def test_the_folder_that_a_foreign_study_names_is_not_written_to(
    recorded: str, run_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs, here = folder / "mine", folder / "theirs", folder / "here"
    for path in (mine, theirs, here):
        path.mkdir()
    (mine / "front.csv").write_text("mine")
    shutil.copy(run_folder / "study.db", theirs)
    named = recorded.format(folder=folder)
    leading_out = {"folder": named}
    attribute(theirs, "study_system_attributes", "protege:about", lambda about: about | leading_out)
    monkeypatch.chdir(here)
    front = Front.read(theirs / "study.db")
    assert front.folder == Path("runs/toy")
    front.save()
    assert [str(path.relative_to(folder)) for path in sorted(folder.rglob("front.csv"))] == [
        "here/runs/toy/front.csv",
        "mine/front.csv",
    ]
    assert (mine / "front.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["../../x", "/etc", "..", "a/b?c%2F"])
def test_the_name_of_a_foreign_study_does_not_lead_out_of_runs(
    name: str, copy: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(copy, "UPDATE studies SET study_name = ?", name)
    (copy / "study.db").rename(folder / "theirs.db")
    monkeypatch.chdir(folder)
    front = Front.read("theirs.db")
    assert front.folder.parent == Path("runs")
    path = front.save().resolve()
    assert path.parents[1] == folder / "runs"


def test_a_folder_that_is_not_the_study_s_is_not_written_to(
    run_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(run_folder / "study.db", folder)
    (folder / "runs" / "toy").mkdir(parents=True)
    (folder / "runs" / "toy" / "mine.txt").write_text("mine")
    monkeypatch.chdir(folder)
    with pytest.raises(BadInput, match=r"not empty .* and not a run folder of protege"):
        Front.read("study.db").save()


def test_figures_kept_of_other_places_are_checked_and_only_ours_are_read(copy: Path) -> None:
    front = Front.read(copy)
    label = front.members[0].label
    kept = front.keep("../../pi?%", {"models": {label: {"ms": 3.0}}})
    assert kept.parent == copy / "measured"
    (copy / "measured" / "notes.json").write_text("mine")
    assert Front.read(copy).measured == {"../../pi?%": {label: 3.0}}
    for text in ("", "[]", '{"label": 1}', '{"label": "x", "models": {"a": {"ms": "fast"}}}'):
        kept.write_text(text)
        with pytest.raises(BadInput, match=rf"{kept.name}: damaged .* remove the file, or measure"):
            Front.read(copy).measured  # noqa: B018 - computed when it is asked for


@pytest.mark.parametrize("text", ["", "nonsense", '{"times": 8}', '{"times": 8, "run": {}}'])
def test_a_long_run_that_is_damaged_is_named(text: str, copy: Path) -> None:
    (copy / "fidelity").mkdir()
    (copy / "fidelity" / "notes.json").write_text("mine")
    assert Front.read(copy).fidelity is None
    (copy / "fidelity" / "trial-00001-x8.json").write_text(text)
    with pytest.raises(BadInput, match=r"trial-00001-x8.json: damaged .* run protege fidelity"):
        Front.read(copy).fidelity  # noqa: B018 - computed when it is asked for


@pytest.mark.parametrize("line", ["nonsense", '{"op_code": 4, "stu', "[1]", '{"op_code": 99}'])
def test_a_journal_with_a_wrong_line_is_named(line: str, folder: Path, teacher: Teacher) -> None:
    path = folder / "study.log"
    plain: dict[str, Any] = {"space": PLAIN, "objectives": [Memory()], "teacher": teacher}
    search = toy(folder / "run", storage=f"journal:///{path}", **plain)
    search.run(trials=1)
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[:5], line + "\n", *lines[5:]]), encoding="utf-8")
    with pytest.raises(BadInput, match=r"study.log: damaged"):
        Front.read(path)
    with pytest.raises(BadInput, match=r"study.log: damaged"):
        search.run(trials=2)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("database disk image is malformed", "the database is damaged; restore a copy"),
        ("attempt to write a readonly database", "cannot be written, or was removed meanwhile"),
        ("unable to open database file", "cannot be opened; its folder must exist"),
        ("disk I/O error", "the disk failed to read or write"),
    ],
)
def test_what_a_file_says_is_explained_and_not_waited_for(said: str, told: str) -> None:
    cause = OperationalError("INSERT", {}, sqlite3.OperationalError(said))
    error = StorageInternalError("internal")
    error.__cause__ = cause
    assert not is_away(error)
    with pytest.raises(BadInput, match=f"study.db: .*{told}"), explained("sqlite:///study.db"):
        raise error


def test_a_server_that_stays_away_is_one_line_without_its_password() -> None:
    error = OperationalError("SELECT 1", {}, Exception("server closed the connection"))
    message = "the server is away .* run the same line again"
    with (
        pytest.raises(BadInput, match=message) as refusal,
        explained("postgresql://me:secret@host/name"),
    ):
        raise error
    assert "secret" not in str(refusal.value)


def test_what_the_system_refuses_is_one_line_with_its_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for path in (tmp_path / "none" / "x", tmp_path):
        assert guarded(lambda path=path: path.read_text()) == 2  # type: ignore[misc]
        assert f"protege: error: {path}: " in capsys.readouterr().err
