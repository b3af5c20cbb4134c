"""The engine protocol, and what all jobs of a study share, which other processes can load."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from protege.objectives import Candidate, Objective, Stopwatch
from protege.objectives.candidate import Prepared
from protege.objectives.machine.pickling import read_pickle, write_pickle
from protege.search.engines.evaluating import Evaluation
from protege.search.engines.events import Announce, Event, Job
from protege.search.planning.calibrating import with_calibration
from protege.search.records.results import checkpoint_file
from protege.spaces import SearchSpace
from protege.spaces.files.atomic import remove_abandoned
from protege.spaces.files.private import made_own

FOLDER, FILE = "workers", "task.pt"
"""The folder of the task and of worker logs in a run folder, and the name of the task file."""


@dataclass(frozen=True)
class StudyTask:
    """A study as its jobs see it.

    Attributes:
        prepared: What all candidates share.
        objectives: The objectives of the study.
        space: The search space.
        folder: The run folder.
        races: Whether candidates halt at rungs.
        private: Whether files of workers are readable by their owner only.
    """

    prepared: Prepared
    objectives: Sequence[Objective]
    space: SearchSpace
    folder: Path
    races: bool
    private: bool = True

    def evaluation(self, job: Job) -> Evaluation:
        """Return the evaluation of a job, not yet begun, with a stopwatch of its own."""
        watch = Stopwatch(clock=self.prepared.stopwatch.clock)
        return Evaluation(
            number=job.number,
            candidate=Candidate(replace(self.prepared, stopwatch=watch), job.architecture),
            objectives=self.objectives,
            checkpoint=checkpoint_file(self.folder, job.number),
            halts=self.races,
            measurements=dict(job.known),
            seconds=dict(job.seconds),
        )

    def save(self, path: Path) -> None:
        """Write the task to a file from which `load` memory-maps the teacher's weights.

        Raises:
            BadInput: Something in it cannot be pickled.
            DiskFull: The disk is full.
        """
        advice = "define it without open files, locks and connections, or run it "
        write_pickle(self, path, "the study", advice + "with one job")

    @staticmethod
    def load(path: Path) -> "StudyTask":
        """Load a saved task; its tensors are private memory maps of the file."""
        loaded: StudyTask = read_pickle(path)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        return loaded.with_calibration()

    def with_calibration(self) -> "StudyTask":
        """Return the task with what the study has written to the cache."""
        return replace(self, prepared=with_calibration(self.prepared, self.space))


class Engine(Protocol):
    """Runs the jobs of one study at a time."""

    @property
    def synchronous(self) -> bool:
        """Whether all running jobs halt before any of them goes on."""

    def start(self, task: StudyTask, announce: Announce) -> None:
        """Prepare for the jobs of a study.

        Args:
            task: What all jobs share.
            announce: Called with the current phase.

        Raises:
            BadInput: The engine cannot run here.
        """

    def free(self, number: int | None = None) -> bool:
        """Return whether a new job can begin now, or a given halted one go on."""

    def submit(self, job: Job) -> None:
        """Begin a job."""

    def answer(self, number: int, *, goes_on: bool) -> None:
        """Continue a job that halted at a rung, or end it there."""

    def wait_any(self) -> Event:
        """Wait for the next event of any running job.

        Raises:
            BadInput: An input is unusable for every candidate.
            DiskFull: The disk is full.
        """

    def close(self) -> None:
        """End all running jobs and workers."""


def task_file(folder: Path) -> Path:
    """Return the task file of a run."""
    return folder / FOLDER / FILE


def prepare(folder: Path) -> Path:
    """Make the folder for the task and the logs of a run, readable by its owner only.

    Files that protege did not write stay in it.

    Returns:
        The path of the task file.

    Raises:
        BadInput: Something else is in its place, such as a symbolic link.
    """
    path = task_file(folder)
    remove_task(folder)
    made_own(path.parent, "give another Search(folder=...)")
    return path


def remove_task(folder: Path) -> None:
    """Remove the task file, complete or partial, of a killed process."""
    path = task_file(folder)
    if path.parent.is_symlink():
        return  # not made by protege
    if path.is_file() and not path.is_symlink():
        path.unlink(missing_ok=True)
    remove_abandoned(path.parent, {FILE})
