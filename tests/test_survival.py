"""A study that is killed again and again, and started again by the same line, until it is done."""

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
import transformers

from protege.search import Front, State
from protege.search.cli.main import main
from protege.search.storage.storage import read_study
from protege.search.study.study import trials_of
from protege.spaces import BadInput
from studies.benchmarks import survival
from studies.benchmarks.lives import ForkServer, fork_server
from studies.benchmarks.survival import Ordeal, counted
from tests.study_files import write_study

pytestmark = pytest.mark.slow

TRIALS = 13
KILLS = 12
FEWEST_KILLS = 8
"""Of a machine so fast that the study is done before the last ones."""
PHASES = [
    "opening the study",
    "propose",
    "weight reconstruction",
    "distil",
    "evaluate",
    "store",
    "other",
]
"""What a process is at when it dies; each is entered once or more in the life of a trial."""


def killed_at(fork_server: ForkServer, words: list[str], phase: str, chance: random.Random) -> bool:
    """Live until the phase is entered for the n-th time and a moment longer; whether it died."""
    left = 1 if phase == "opening the study" else chance.randint(1, 2)  # that is done once a life
    pid, code = 0, None
    for word in fork_server.live(words):
        kind, _, value = word.partition(" ")
        if kind == "child":
            pid = int(value)
        elif kind == "exit":
            code = int(value)
        elif word == phase or word.startswith(f"{phase} "):
            left -= 1
            if left == 0:
                time.sleep(chance.uniform(0, 0.05))
                os.kill(pid, signal.SIGKILL)
    assert code in {None, 0}
    return code is None


def finished(run: Path) -> dict[int, object]:
    """Every trial that was told, by number: what must never change again."""
    try:
        return {trial.number: trial for trial in trials_of(read_study(f"sqlite:///{run}/study.db"))}
    except BadInput:  # killed before there was a study
        return {}


@pytest.fixture(scope="module")
def survivor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a study whose process was killed over and over before it was done."""
    folder = tmp_path_factory.mktemp("survival")
    chance = random.Random(0)
    words = ["run", str(write_study(folder)), "--trials", str(TRIALS)]
    kills, before = 0, finished(folder / "run")
    with fork_server(folder) as lives:
        while kills < KILLS and killed_at(lives, words, PHASES[kills % len(PHASES)], chance):
            kills += 1
            now = finished(folder / "run")
            assert {number: now[number] for number in before} == before
            before = now
        assert [word for word in lives.live(words) if word.startswith("exit")] == ["exit 0"]
    assert kills >= FEWEST_KILLS
    after = finished(folder / "run")
    assert {number: after[number] for number in before} == before
    return folder / "run"


def test_exactly_the_trials_asked_for_are_there_each_of_another_student(survivor: Path) -> None:
    trials = Front.read(survivor).trials
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert len({trial.key for trial in trials}) == TRIALS


def test_optuna_knows_every_trial_as_finished_under_its_own_parameters(survivor: Path) -> None:
    stored = read_study(f"sqlite:///{survivor}/study.db").trials
    stopped = [one.state is State.STOPPED for one in Front.read(survivor).trials]
    known = ["PRUNED" if is_stopped else "COMPLETE" for is_stopped in stopped]
    assert [trial.state.name for trial in stored] == known
    assert len({tuple(sorted(trial.params.items())) for trial in stored}) == TRIALS


def test_the_weights_of_the_front_are_there_and_whole(survivor: Path) -> None:
    front = Front.read(survivor)
    names = {f"trial-{trial.number:05d}" for trial in front.members}
    assert {path.name for path in (survivor / "artifacts").iterdir()} == names
    for trial in front.members:
        model = transformers.AutoModel.from_pretrained(
            survivor / "artifacts" / f"trial-{trial.number:05d}"
        )
        assert model.config.num_hidden_layers == trial.architecture["num_hidden_layers"]


def test_nothing_half_written_is_left(survivor: Path) -> None:
    assert list(survivor.rglob(".*")) == []


def test_what_was_measured_is_what_a_study_that_was_never_killed_measures(
    survivor: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)  # as every life above
    assert main(["run", str(write_study(tmp_path)), "--trials", "2"]) == 0
    anchors = Front.read(tmp_path / "run").trials
    for one, other in zip(anchors, Front.read(survivor).trials[:2], strict=True):
        assert one.key == other.key
        assert one.measurements == other.measurements


def test_of_two_jobs_whose_processes_are_killed_at_random_nothing_is_lost(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path}/run/study.db"
    study = survival.write_study(tmp_path, storage)
    words = ["run", str(study), "--trials", "4", "--jobs", "2"]
    with fork_server(tmp_path) as lives:
        ordeal = Ordeal(lives, words, storage, trials=4, kills=8, chance=random.Random(1))
        trials = ordeal.run()
    assert ordeal.exits == ["exit 0"]
    assert ordeal.count >= 2  # of a machine so fast that the study is done before the last ones
    assert counted(trials, 4, ordeal.changed) == (0, 0)
    assert list((tmp_path / "run").rglob(".*")) == []
