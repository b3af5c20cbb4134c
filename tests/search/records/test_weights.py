"""Weights and records that are damaged, or another trial's, are never taken for good ones."""

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from protege.search import Front
from protege.search.cli.main import main
from protege.search.records.results import (
    SUMS,
    damage,
    files_in,
    store_trial,
    stored_trial,
    weights_folder,
    write_checksums,
)
from protege.search.storage.storage import read_study
from protege.search.study.artifacts import Artifacts
from protege.search.study.store import Store
from protege.spaces import BadInput, Teacher
from tests import s3
from tests.search.study.test_artifacts import declared
from tests.search.toys import toy


@pytest.fixture
def run(run_folder: Path, folder: Path) -> Path:
    """A finished study, to be damaged."""
    return Path(shutil.copytree(run_folder, folder / "run"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def one_bit(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-3] ^= 4
    path.write_bytes(whole)


def removed(path: Path) -> None:
    path.unlink()


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "weights cut short": (cut_short, "model.safetensors"),
    "a weight altered": (one_bit, "model.safetensors"),
    "a tokenizer cut short": (cut_short, "tokenizer.json"),
    "a configuration that is empty": (emptied, "config.json"),
    "a manifest cut short": (cut_short, "protege.json"),
    "pooling that is gone": (removed, "1_Pooling/config.json"),
    "the checksums themselves": (cut_short, SUMS),
    "no checksums": (removed, SUMS),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_student_is_not_exported_and_the_file_is_named(
    kind: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damages, name = DAMAGE[kind]
    front = Front.read(run)
    best, other = front.members[-1], front.members[0]
    damages(weights_folder(run, best.number) / name)
    assert main(["export", str(run), "--trial", str(best.number), "--to", str(folder / "to")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"trial {best.number} ({best.label}): {weights_folder(run, best.number) / name} " in told
    assert not (folder / "to").exists()
    front.export(other, folder / "to")


def test_the_weights_of_another_trial_or_study_are_not_taken_for_its_own(
    run: Path, folder: Path, teacher: Teacher
) -> None:
    front = Front.read(run)
    one, other = front.members[0], front.members[-1]
    stored = weights_folder(run, one.number)
    shutil.rmtree(stored)
    shutil.copytree(weights_folder(run, other.number), stored)
    with pytest.raises(BadInput, match="has the weights of another trial or study"):
        front.export(one, folder / "to")
    # another study of the same students, which were trained with another seed
    again = toy(folder / "again", teacher=teacher, seed=1).run(trials=1)
    shutil.rmtree(stored)
    shutil.copytree(weights_folder(again.folder, 0), stored)
    with pytest.raises(BadInput, match="has the weights of another trial or study"):
        front.weights(one)


def test_weights_that_are_gone_are_told_from_those_that_were_not_kept(
    run: Path, folder: Path
) -> None:
    front = Front.read(run)
    shutil.rmtree(weights_folder(run, front.members[0].number))
    with pytest.raises(BadInput, match=r"on the front, but its weights are not in .*; restore"):
        front.export(front.members[0], folder / "to")


def test_a_file_that_was_put_there_is_not_exported(run: Path, folder: Path) -> None:
    front = Front.read(run)
    best = front.members[-1]
    (weights_folder(run, best.number) / "pytorch_model.bin").write_bytes(b"a pickle")
    exported = front.export(best, folder / "to")
    names = {
        path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()
    }
    assert names == {*files_in(weights_folder(run, best.number)), "README.md"}
    assert not names & {"pytorch_model.bin", SUMS}


def test_the_checksum_of_the_whole_follows_from_every_file(tmp_path: Path) -> None:
    for name, content in (("protege.json", "{}"), ("a/b.bin", "1")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    first = write_checksums(tmp_path)
    assert damage(tmp_path, first) == ""
    (tmp_path / "a/b.bin").write_text("2")
    (tmp_path / SUMS).unlink()
    assert write_checksums(tmp_path) != first


@pytest.mark.parametrize("kind", ["weights cut short", "no checksums"])
def test_a_recorded_trial_whose_weights_are_damaged_is_done_again(kind: str, run: Path) -> None:
    damages, name = DAMAGE[kind]
    trial = Front.read(run).members[-1]
    store_trial(run, trial)
    assert stored_trial(run, trial.number, trial.key) == trial
    damages(weights_folder(run, trial.number) / name)
    assert stored_trial(run, trial.number, trial.key) is None


def test_the_record_of_another_trial_is_not_taken(folder: Path, run: Path) -> None:
    trial = Front.read(run).trials[-1]
    store_trial(folder, trial)
    path = folder / "records" / f"trial-{trial.number:05d}.json"
    path.rename(path.with_name("trial-00042.json"))
    assert stored_trial(folder, 42, trial.key) is None


def altered(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of trial 1 in the database by hand."""
    with closing(connect(run / "study.db")) as database, database:
        query = (
            "SELECT trial_system_attribute_id, value_json FROM trial_system_attributes "
            "JOIN trials USING (trial_id) WHERE number = 1 AND key = 'protege:trial'"
        )
        row, value = database.execute(query).fetchone()
        content = json.loads(value)
        change(content["record"])
        where = "WHERE trial_system_attribute_id = ?"
        update = f"UPDATE trial_system_attributes SET value_json = ? {where}"
        database.execute(update, (json.dumps(content), row))


def of_another_number(content: dict[str, Any]) -> None:
    content["number"] = 2


def with_a_better_figure(content: dict[str, Any]) -> None:
    content["measurements"]["retention"]["value"] = 2.0


def without_its_state(content: dict[str, Any]) -> None:
    del content["state"]


def of_no_measurements(content: dict[str, Any]) -> None:
    content["measurements"] = [1, 2]


@pytest.mark.parametrize(
    "change", [of_another_number, with_a_better_figure, without_its_state, of_no_measurements]
)
def test_a_record_that_was_altered_in_the_database_is_one_line(
    change: Callable[[dict[str, Any]], None], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    altered(run, change)
    assert main(["report", str(run)]) == 2
    assert "trial 1: damaged (ValueError: altered after it was written)" in (
        capsys.readouterr().err
    )


def test_a_database_without_a_checksum_is_damaged(run: Path) -> None:
    with closing(connect(run / "study.db")) as database, database:
        remove = (
            "UPDATE trial_system_attributes SET value_json = json_remove(value_json, '$.checksum')"
        )
        database.execute(f"{remove} WHERE key = 'protege:trial'")
    with pytest.raises(BadInput, match="trial 0: damaged"):
        Front.read(run)


@pytest.fixture
def sent(server: s3.Server, folder: Path, teacher: Teacher) -> Front:
    """A study whose front is in a store as well."""
    url = f"s3://{server.bucket}/runs/toy"
    return toy(folder, teacher=teacher, artifacts=url, race=None).run(trials=2)


def test_damaged_weights_are_fetched_again_from_the_store(sent: Front, folder: Path) -> None:
    stored = weights_folder(sent.folder, sent.members[0].number)
    cut_short(stored / "model.safetensors")
    sent.export(sent.members[0], folder / "to")
    assert damage(stored, sent.members[0].weights) == ""


def test_damaged_weights_are_not_sent_to_the_store(sent: Front, server: s3.Server) -> None:
    study = read_study(f"sqlite:///{sent.folder}/study.db")
    store = Artifacts(study, Store.at(f"s3://{server.bucket}/runs/toy"))
    stored = weights_folder(sent.folder, sent.members[0].number)
    before = declared(study)
    one_bit(stored / "model.safetensors")
    store.put(stored)
    store.sync(weights_folder(sent.folder, trial.number) for trial in sent.members)
    assert declared(study) == before
    assert len(server.names()) == len(sent.members)


def test_the_weights_of_another_trial_in_the_store_are_refused(
    sent: Front, server: s3.Server, folder: Path
) -> None:
    one, other = sent.members[0], sent.members[-1]
    own, theirs = (
        next(name for name in server.names() if f"-{trial.number:05d}-" in name)
        for trial in (one, other)
    )
    content = server.client.get_object(Bucket=server.bucket, Key=theirs)["Body"].read()
    server.client.put_object(Bucket=server.bucket, Key=own, Body=content)
    elsewhere = replace(sent, folder=folder / "here")
    with pytest.raises(BadInput, match="not what was sent; remove it"):
        elsewhere.weights(one)


def test_a_trial_has_its_checksum_wherever_it_is_told(run: Path) -> None:
    front = Front.read(run)
    for trial in front.members:
        assert len(trial.weights) == 16
        assert damage(weights_folder(run, trial.number), trial.weights) == ""
