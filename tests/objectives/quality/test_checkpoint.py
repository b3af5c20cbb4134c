"""A student whose process is killed goes on from the last rung it was at."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import pytest
import torch

from protege.objectives import Distillation, Measurement, Objective, Retention, Stopwatch
from protege.objectives.quality.checkpoint import Checkpoint, Rung
from protege.objectives.quality.rungs import CandidateDistillation
from protege.spaces import Cache, Teacher
from tests.objectives.candidates import half
from tests.objectives.quality.scripted import Scripted, state
from tests.search.toys import distillation
from tests.tiny import CASES

NINE = distillation(steps=9, checkpoint_every_s=0.0)
"""Rungs after 0, 1, 3 and 9 steps; stored at every halt."""

RARELY = replace(NINE, checkpoint_every_s=60.0)

QUICK = {"bert-sentences-dense", "bert-tokens", "llama-causal-tied"}
every_task = pytest.mark.parametrize(
    "case",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in CASES],
    indirect=True,
)
one_task = pytest.mark.parametrize("case", ["bert-sentences"], indirect=True)

PASSED = [(0, 2), (1, 3), (3, 5)]
"""Rungs, and a later step that a process is killed in."""


class Killed(BaseException):
    """The process is killed."""


@dataclass
class Trial:
    """A trial of one student, begun again and again as by one process after the other.

    Attributes:
        teacher: The teacher.
        folder: Where the checkpoint and the cache are.
        steps: The steps that all of the processes have made.
        killed_at: The step after which the process is killed; 0 for none.
        now: The time.
    """

    teacher: Teacher
    folder: Path
    steps: list[int] = field(default_factory=list)
    killed_at: int = 0
    now: float = 1000.0

    @property
    def path(self) -> Path:
        return self.folder / "trial.safetensors"

    def again(
        self, settings: Distillation = NINE, judges: Sequence[Objective] = (Retention(),)
    ) -> CandidateDistillation:
        """The distillation as a process that starts now finds it."""
        given = half(self.teacher, Cache(self.folder / "cache"), settings)
        watch = Stopwatch(announce=self.announced, clock=lambda: self.now)
        prepared = replace(given.prepared, stopwatch=watch)
        return CandidateDistillation(replace(given, prepared=prepared), judges, self.path)

    def announced(self, what: str) -> None:
        """Note a step; this is where the process is killed."""
        word, _, step = what.partition(" ")
        if word == "distil" and step:
            self.steps.append(int(step.partition("/")[0]))
            if self.steps[-1] == self.killed_at:
                raise Killed


@pytest.fixture
def trial(teacher: Teacher, tmp_path: Path) -> Trial:
    return Trial(teacher, tmp_path)


def climbed(run: CandidateDistillation, until: int) -> list[Rung]:
    """The rungs up to a step, where the process is killed."""
    found = []
    for rung in run.rungs():
        found.append(rung)
        if rung.step == until:
            break
    return found


def same(one: CandidateDistillation, other: CandidateDistillation) -> None:
    """Both publish one student, bit by bit, and say the same of how it was made."""
    mine, theirs = (state(run.published.candidate) for run in (one, other))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert one.published.measurements == other.published.measurements
    assert one.record == other.record


@every_task
@pytest.mark.parametrize("until", [1, 3])
def test_only_what_is_left_is_trained_and_all_is_as_it_would_have_been(
    trial: Trial, until: int
) -> None:
    climbed(trial.again(), until)
    trial.steps.clear()
    resumed = trial.again()
    found = list(resumed.rungs())
    assert trial.steps == [*range(until + 1, 10)]
    trial.path.unlink()
    whole = trial.again()
    assert found == list(whole.rungs())
    same(resumed, whole)


@every_task
def test_between_rungs_it_is_stored_too(trial: Trial) -> None:
    whole = trial.again()
    rungs = list(whole.rungs())
    trial.path.unlink()
    trial.killed_at = 7
    with pytest.raises(Killed):
        trial.again().last()
    trial.killed_at = 0
    trial.steps.clear()
    resumed = trial.again()
    assert list(resumed.rungs()) == rungs
    assert trial.steps == [7, 8, 9]
    same(resumed, whole)


@one_task
@pytest.mark.parametrize(
    ("best_at", "killed_at"),
    [
        pytest.param(best, killed, marks=[] if (best, killed) in PASSED else pytest.mark.slow)
        for best, killed in product([0, 1, 3], [2, 3, 5])
    ],
)
def test_the_best_rung_survives_a_kill(trial: Trial, best_at: int, killed_at: int) -> None:
    scores = [1.0 if step == best_at else 0.5 for step in (0, 1, 3, 9)]
    # the step in which it is killed is not stored
    passed = 2 if killed_at <= 3 else 3
    trial.killed_at = killed_at
    with pytest.raises(Killed):
        trial.again(judges=[Scripted(scores)]).last()
    trial.killed_at = 0
    judge = Scripted(scores[passed:])
    resumed = trial.again(judges=[judge])
    found = list(resumed.rungs())
    # a student that has passed its rungs is not judged there again
    assert len(judge.seen) == len(scores) - passed
    trial.path.unlink()
    whole = trial.again(judges=[Scripted(scores)])
    assert found == list(whole.rungs())
    assert resumed.published.step == best_at
    same(resumed, whole)


@one_task
@pytest.mark.parametrize("best_at", [0, 1, 3])
def test_one_that_is_stopped_at_a_rung_of_its_past_has_a_student_and_a_record(
    trial: Trial, best_at: int
) -> None:
    scores = [1.0 if step == best_at else 0.5 for step in (0, 1, 3)]
    first = trial.again(judges=[Scripted(scores)])
    climbed(first, 3)
    resumed = trial.again(judges=[Scripted([])])
    rungs = resumed.rungs()
    assert [next(rungs).step for _ in range(3)] == [0, 1, 3]
    del rungs
    assert resumed.published.step == best_at
    assert resumed.record is not None
    assert (resumed.record.steps, resumed.record.best_step) == (3, best_at)
    same(resumed, first)


@one_task
def test_a_training_that_ended_is_stored_no_more(trial: Trial) -> None:
    trial.again().last()
    written = trial.path.stat().st_mtime_ns
    resumed = trial.again()
    trial.steps.clear()
    resumed.last()
    assert trial.steps == [9]  # the last checkpoint is that of step 8
    assert trial.path.stat().st_mtime_ns == written


@one_task
@pytest.mark.parametrize("harm", ["cut", "flipped", "empty", "gone"])
def test_a_file_that_is_not_whole_is_not_read(trial: Trial, harm: str) -> None:
    climbed(trial.again(), 3)
    content = bytearray(trial.path.read_bytes())
    content[-1] ^= 1
    kept = {"cut": content[: len(content) // 2], "flipped": content}
    trial.path.write_bytes(kept.get(harm, b""))
    if harm == "gone":
        trial.path.unlink()
    trial.steps.clear()
    assert [rung.step for rung in trial.again().rungs()] == [0, 1, 3, 9]
    assert trial.steps == [*range(1, 10)]


@one_task
@pytest.mark.parametrize("steps", [9, 18])
def test_another_training_does_not_go_on_from_it(trial: Trial, steps: int) -> None:
    climbed(trial.again(), 3)
    trial.steps.clear()
    judges: list[Objective] = [Retention()] if steps > 9 else [Retention(), Scripted([0.0] * 4)]
    found = trial.again(replace(NINE, steps=steps), judges).rungs()
    assert [rung.step for rung in found] == [0, steps // 9, steps // 3, steps]
    assert trial.steps == [*range(1, steps + 1)]


@one_task
def test_the_same_training_goes_on_from_it_however_often_it_is_stored(trial: Trial) -> None:
    climbed(trial.again(), 3)
    trial.steps.clear()
    trial.again(RARELY).last()
    assert trial.steps == [*range(4, 10)]


@one_task
def test_what_is_soon_retrained_is_not_written(trial: Trial) -> None:
    climbed(trial.again(RARELY), 3)
    assert not trial.path.exists()
    rungs = trial.again(RARELY).rungs()
    assert [next(rungs).step, next(rungs).step] == [0, 1]
    trial.now += 60
    assert next(rungs).step == 3
    assert trial.path.exists()


@one_task
def test_waiting_for_its_training_is_no_loss(trial: Trial) -> None:
    rungs = trial.again(RARELY).rungs()
    assert next(rungs).step == 0
    trial.now += 3600  # others are looked at, and trained
    assert [rung.step for rung in rungs] == [1, 3, 9]
    assert not trial.path.exists()


@one_task
def test_without_a_place_nothing_is_kept(teacher: Teacher, tmp_path: Path) -> None:
    run = CandidateDistillation(half(teacher, Cache(tmp_path / "cache"), NINE), [Retention()])
    assert [rung.step for rung in run.rungs()] == [0, 1, 3, 9]
    assert list(tmp_path.rglob("trial*")) == []


def test_rungs_come_back_as_they_were_stored(tmp_path: Path) -> None:
    path, weights = tmp_path / "trial.safetensors", {"a": torch.arange(3.0)}
    found = Measurement(0.1, 0.2, (1.0, 2.0), {"low": 0.05, "kind": "cosine"}, (0.3,))
    rungs = [Rung(0, {"a": found}, {"a": found}), Rung(9, {"a": found}, {"a": found}, is_last=True)]
    Checkpoint(path, "key", every_s=0.0, rungs=rungs).save(lambda: weights)
    again, another = Checkpoint(path, "key", 0.0), Checkpoint(path, "another", 0.0)
    assert torch.equal(again.read()["a"], weights["a"])
    assert again.rungs == rungs
    assert another.read() == {}
    assert another.rungs == []
