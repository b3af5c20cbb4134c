"""What jobs leave in a run folder, and what is left of it."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from protege.search import Trial
from protege.search.records.results import (
    SUMS,
    checkpoint_file,
    remove_finished,
    remove_leftovers,
    remove_weights,
    replacing_weights,
    store_trial,
    stored_files,
    stored_trial,
    weights_folder,
    write_checksums,
)
from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic
from protege.spaces.files.manifest import write_manifest
from tests.search import toys


def stored(folder: Path, number: int) -> Path:
    """Weights, a training and a record of a trial; its weights."""
    path = weights_folder(folder, number)
    with replacing_weights(path) as scratch:
        (scratch / "1_Pooling").mkdir(parents=True)
        (scratch / "1_Pooling" / "config.json").write_text("{}")
        (scratch / "model.safetensors").write_bytes(b"weights")
        write_manifest(scratch, {"kept": {}})
        write_checksums(scratch)
    checkpoint_file(folder, number).parent.mkdir(exist_ok=True)
    checkpoint_file(folder, number).write_bytes(b"")
    store_trial(folder, found(number))
    return path


def scratch_of(path: Path, pid: int) -> Path:
    """Return the scratch path of a file in another process."""
    own = atomic(path).scratch
    return own.with_name(own.name.replace(f".{os.getpid()}", f".{pid}"))


@pytest.fixture
def dead() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def found(number: int) -> Trial:
    return toys.worth(number, toys.OWN)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def test_of_trials_that_have_ended_only_the_weights_of_the_front_are_left(folder: Path) -> None:
    for number in (1, 2, 3):
        stored(folder, number)
    remove_finished(folder, front=[1], ended=[1, 2])
    assert files(folder) == [
        "artifacts/trial-00001",
        "artifacts/trial-00003",
        "checkpoints/trial-00003.safetensors",
        "records/trial-00003.json",
    ]


def test_a_student_that_has_left_the_front_is_swept_away(folder: Path) -> None:
    stored(folder, 1)
    remove_finished(folder, front=[1], ended=[1])
    remove_finished(folder, front=[2], ended=[1, 2])
    assert files(folder) == []


def test_what_processes_died_over_is_cleared_away_by_its_exact_name(
    folder: Path, dead: int
) -> None:
    whole, passed = stored(folder, 3), stored(folder, 2)
    record_file = folder / "records" / "trial-00002.json"
    written = [whole, passed, checkpoint_file(folder, 2), record_file]
    for path in written:
        scratch_of(path, dead).mkdir()
    others = [
        folder / f".env.{dead}",
        scratch_of(folder / "artifacts" / "trial-00004", dead),  # of no trial of this study
        scratch_of(whole, os.getpid()),
        folder / "artifacts" / ".trial-00003.20260101120000",
        folder / "artifacts" / ".trial-00003.007",
        folder / "records" / f".x.json.{dead}",
        folder / "records" / f".trial-00003.json.{dead}.bak",
        scratch_of(folder / "notes" / "trial-00003", dead),
    ]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    remove_leftovers(folder, [3], range(4))
    assert not passed.exists()
    assert whole.is_dir()
    assert all(path.exists() for path in others)
    left = {path.name for path in (folder / "artifacts").iterdir()} - {p.name for p in others}
    assert left == {whole.name}


def test_whoever_writes_a_file_removes_what_died_over_it_and_nothing_else(
    folder: Path, dead: int
) -> None:
    left = scratch_of(folder / "cache.json", dead).name
    others = [scratch_of(folder / "other.json", dead).name, ".cache.json.lock", left[1:]]
    for name in [left, *others]:
        (folder / name).touch()
    with atomic(folder / "cache.json") as scratch:
        scratch.touch()
    assert {path.name for path in folder.iterdir()} == {"cache.json", *others}


def test_there_may_be_nothing_to_sweep(folder: Path) -> None:
    remove_finished(folder, [3], [3])
    remove_leftovers(folder, [3], [3])
    assert not (folder / "artifacts").exists()


def test_what_others_have_put_among_the_weights_stays(folder: Path) -> None:
    weights = stored(folder, 1)
    for name in ("notes.txt", "1_Pooling/mine.json", "more/weights.bin"):
        (weights / name).parent.mkdir(exist_ok=True)
        (weights / name).write_text("mine")
    stored(folder, 1)  # trained once more
    assert (weights / "model.safetensors").read_bytes() == b"weights"
    assert (weights / "notes.txt").read_text() == "mine"
    remove_weights(weights)
    left = sorted(str(p.relative_to(weights)) for p in weights.rglob("*") if p.is_file())
    assert left == ["1_Pooling/mine.json", "more/weights.bin", "notes.txt"]


@pytest.mark.parametrize(
    "names",
    [["../../mine.txt"], ["/etc/hostname"], ["link/mine.txt"], ["."], [""], [7], "mine", None],
    ids=str,
)
def test_a_manifest_that_lists_what_is_elsewhere_removes_nothing(
    folder: Path, names: object
) -> None:
    (folder / "elsewhere").mkdir()
    mine = [folder / "mine.txt", folder / "elsewhere" / "mine.txt"]
    for path in mine:
        path.write_text("mine")
    weights = stored(folder, 1)
    (weights / "link").symlink_to(folder / "elsewhere")
    (weights / SUMS).write_text(json.dumps({"files": names}))
    remove_weights(weights)
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert Path("/etc/hostname").exists()


def test_a_manifest_that_is_damaged_removes_nothing(folder: Path) -> None:
    weights = stored(folder, 1)
    (weights / SUMS).write_bytes(b"\x00{")
    assert stored_files(weights) == []
    remove_weights(weights)
    assert (weights / "model.safetensors").exists()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_weights_do_not_take_the_place_of_what_is_no_folder(folder: Path, kind: str) -> None:
    (folder / "mine").mkdir()
    (folder / "artifacts").mkdir()
    if kind == "link":
        weights_folder(folder, 1).symlink_to(folder / "mine")
    else:
        weights_folder(folder, 1).write_text("mine")
    with pytest.raises(BadInput, match="trial-00001: in the place of a student's weights; move it"):
        stored(folder, 1)
    remove_weights(weights_folder(folder, 1))
    assert (weights_folder(folder, 1).is_symlink(), [*(folder / "mine").iterdir()]) == (
        kind == "link",
        [],
    )


def test_what_was_found_is_read_as_it_was(folder: Path) -> None:
    trial = found(7)
    store_trial(folder, trial)
    assert stored_trial(folder, 7, trial.key) == trial


@pytest.mark.parametrize("number", [6, 8])
def test_of_another_trial_nothing_is_read(folder: Path, number: int) -> None:
    store_trial(folder, found(7))
    assert stored_trial(folder, number, found(7).key) is None
    assert stored_trial(folder, 7, "another") is None


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_record_that_was_altered_or_cut_short_is_none(folder: Path, at: float) -> None:
    store_trial(folder, found(7))
    (path,) = (folder / "records").iterdir()
    whole = path.read_bytes()
    cut = int(len(whole) * at)
    path.write_bytes(whole[:cut])
    assert stored_trial(folder, 7, found(7).key) is None
    path.write_bytes(whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :])
    assert stored_trial(folder, 7, found(7).key) is None
    path.write_bytes(whole)
    assert stored_trial(folder, 7, found(7).key) == found(7)
