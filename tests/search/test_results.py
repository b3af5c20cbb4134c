"""What jobs leave in a run folder, and what is left of it."""

import os
import subprocess
from pathlib import Path

import pytest

from protege.search import Trial
from protege.search.results import artifact, checkpoint, clear, record, recorded, sweep
from protege.spaces.cache import atomic
from tests.search import toys


def stored(folder: Path, number: int) -> Path:
    """Weights, a training and a record of a trial; its weights."""
    path = artifact(folder, number)
    path.mkdir(parents=True)
    (path / "model.safetensors").write_bytes(b"")
    checkpoint(folder, number).parent.mkdir(exist_ok=True)
    checkpoint(folder, number).write_bytes(b"")
    record(folder, found(number))
    return path


def found(number: int) -> Trial:
    return toys.worth(number, toys.OWN)


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*"))


def test_of_trials_that_have_ended_only_the_weights_of_the_front_are_left(folder: Path) -> None:
    for number in (1, 2, 3):
        stored(folder, number)
    sweep(folder, front=[1], ended=[1, 2])
    assert files(folder) == [
        "artifacts/trial-00001",
        "artifacts/trial-00003",
        "checkpoints/trial-00003.safetensors",
        "records/trial-00003.json",
    ]


def test_a_student_that_has_left_the_front_is_swept_away(folder: Path) -> None:
    stored(folder, 1)
    sweep(folder, front=[1], ended=[1])
    sweep(folder, front=[2], ended=[1, 2])
    assert files(folder) == []


def test_what_a_process_had_begun_to_store_is_cleared_away(folder: Path) -> None:
    whole, passed = stored(folder, 3), stored(folder, 2)
    begun = whole.with_name(f".{whole.name}.4711")
    begun.mkdir()
    clear(folder, [3])
    assert not passed.exists()
    assert list((folder / "artifacts").iterdir()) == [whole]


def test_what_a_process_died_over_as_it_wrote_is_cleared_away(folder: Path) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    (folder / "cache").mkdir()
    ours = atomic(folder / "cache" / "under-way.json").scratch.name
    left = ours.replace(f".{os.getpid()}.", f".{dead.pid}.")
    for name in (left, ours, ".a.lock", "b.4711"):
        (folder / "cache" / name).touch()
    clear(folder, [])
    assert {path.name for path in (folder / "cache").iterdir()} == {ours, ".a.lock", "b.4711"}


def test_there_may_be_nothing_to_sweep(folder: Path) -> None:
    sweep(folder, [3], [3])
    clear(folder, [3])
    assert not (folder / "artifacts").exists()


def test_what_was_found_is_read_as_it_was(folder: Path) -> None:
    trial = found(7)
    record(folder, trial)
    assert recorded(folder, 7, trial.key) == trial


@pytest.mark.parametrize("number", [6, 8])
def test_of_another_trial_nothing_is_read(folder: Path, number: int) -> None:
    record(folder, found(7))
    assert recorded(folder, number, found(7).key) is None
    assert recorded(folder, 7, "another") is None


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_a_record_that_was_altered_or_cut_short_is_none(folder: Path, at: float) -> None:
    record(folder, found(7))
    (path,) = (folder / "records").iterdir()
    whole = path.read_bytes()
    cut = int(len(whole) * at)
    path.write_bytes(whole[:cut])
    assert recorded(folder, 7, found(7).key) is None
    path.write_bytes(whole[:cut] + bytes([whole[cut] ^ 1]) + whole[cut + 1 :])
    assert recorded(folder, 7, found(7).key) is None
    path.write_bytes(whole)
    assert recorded(folder, 7, found(7).key) == found(7)
