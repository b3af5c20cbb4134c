"""Storages of another Optuna, and journals whose last write was cut short."""

import sqlite3
from pathlib import Path

import pytest

from protege.search.storage.storage import open_storage, read_study, repair_journal
from protege.spaces import BadInput
from tests.search.toys import go_on, opened


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("v3.0.0.d", r"optuna storage upgrade --storage"),
        ("v2.4.0.a", r"optuna storage upgrade --storage"),
        ("v99.0.0", r"pip install -U optuna"),
    ],
)
def test_a_database_of_another_optuna_is_one_line_with_what_to_do(
    folder: Path, version: str, advice: str
) -> None:
    storage = f"sqlite:///{folder}/study.db"
    go_on(opened(storage), 1)
    with sqlite3.connect(folder / "study.db") as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
    database.close()
    for reads in (open_storage, read_study):
        with pytest.raises(BadInput, match=rf"study\.db: .*set up by optuna .*{advice}") as caught:
            reads(storage)
        assert "\n" not in str(caught.value)


CUTS = {
    "no end": lambda line: line[:-1],
    "half": lambda line: line[: len(line) // 2],
    "one byte": lambda line: line[:1],
    "zeros": lambda line: line[: len(line) // 2] + b"\0" * 4096,
    "part of a character": lambda line: line[: len(line) // 2] + "é".encode()[:1],
}
"""What a killed process, or a machine without power, leaves of a journal's last line."""


@pytest.mark.parametrize("cut", CUTS)
def test_a_study_goes_on_in_a_journal_whose_last_line_was_cut(folder: Path, cut: str) -> None:
    path = folder / "study.log"
    storage = f"journal:///{path}"
    before = go_on(opened(storage), 3)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines, CUTS[cut](lines[-1])]))
    study = opened(storage)
    assert study.trials() == before
    go_on(study, 2)
    assert len(opened(storage).trials()) == 5
    assert path.read_bytes().count(b"\0") == 0


def test_a_journal_that_is_whole_empty_or_not_there_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    repair_journal(path)
    assert not path.exists()
    for content in (b"", b'{"a":1}\n', b'{"a":1}\n{"b":2}\n' * 20_000):
        path.write_bytes(content)
        repair_journal(path)
        assert path.read_bytes() == content
    assert [*tmp_path.iterdir()] == [path]


def test_a_cut_line_longer_than_a_block_is_removed_whole(tmp_path: Path) -> None:
    path = tmp_path / "study.log"
    path.write_bytes(b'{"a":1}\n{"b":"' + b"x" * 200_000)
    repair_journal(path)
    assert path.read_bytes() == b'{"a":1}\n'
