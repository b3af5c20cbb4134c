"""What all jobs of a study have in common, in a form that can be sent to another process."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from protege.objectives import Candidate, Objective
from protege.objectives.parcel import hand_over, unpacked
from protege.search.engines.engine import Job
from protege.search.engines.evaluating import Evaluation
from protege.search.records.results import checkpoint
from protege.spaces import Architecture, SearchSpace
from protege.spaces.files.atomic import remove_abandoned
from protege.spaces.files.private import made_own

FOLDER, FILE = "workers", "task.pt"
"""Where in a run folder the task and what workers print are, and what the task is called there."""


@dataclass(frozen=True)
class Task:
    """A study as its jobs see it.

    Attributes:
        candidate: An architecture as the study would try it.
        objectives: What candidates are judged by.
        space: What they are members of.
        folder: The run folder.
        races: Whether candidates halt at rungs.
        private: Whether what its workers write is for its owner alone.
    """

    candidate: Callable[[Architecture], Candidate]
    objectives: Sequence[Objective]
    space: SearchSpace
    folder: Path
    races: bool
    private: bool = True

    def evaluation(self, job: Job) -> Evaluation:
        """The evaluation of a job, not begun."""
        candidate = replace(
            self.candidate(job.architecture), checkpoint=checkpoint(self.folder, job.number)
        )
        return Evaluation(
            number=job.number,
            candidate=candidate,
            objectives=self.objectives,
            halts=self.races,
            measurements=dict(job.known),
            seconds=dict(job.seconds),
        )

    def save(self, path: Path) -> None:
        """Write it to a file that `load` reads without copying the teacher's weights.

        Raises:
            BadInput: Something in it cannot leave this process.
            DiskFull: There is no room for it.
        """
        advice = "define what it is made of without open files, locks and connections, or run it "
        hand_over(self, path, "the study", advice + "with one job")

    @staticmethod
    def load(path: Path) -> "Task":
        """The task that was saved there, its tensors mapped from the file, each process's own."""
        loaded: Task = unpacked(path)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        return loaded


def task_file(folder: Path) -> Path:
    """Return where engines write the task of a run."""
    return folder / FOLDER / FILE


def prepare(folder: Path) -> Path:
    """Make the folder for the task and the logs of a run, for its owner alone.

    Files that protege did not write stay in it.

    Returns:
        Where the task goes.

    Raises:
        BadInput: There is something else in its place, such as a symbolic link.
    """
    path = task_file(folder)
    remove_task(folder)
    made_own(path.parent, "give another Search(folder=...)")
    return path


def remove_task(folder: Path) -> None:
    """Remove the task of a process that was killed, whole or half written."""
    path = task_file(folder)
    if path.parent.is_symlink():
        return  # another program's
    if path.is_file() and not path.is_symlink():
        path.unlink(missing_ok=True)
    remove_abandoned(path.parent, {FILE})
