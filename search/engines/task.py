"""What all jobs of a study have in common, in a form that can be sent to another process."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from pickle import PicklingError

import cloudpickle
import torch

from protege.objectives import Candidate, Objective
from protege.search.engines.engine import Job
from protege.search.evaluating import Evaluation
from protege.search.results import checkpoint
from protege.search.warm import warm
from protege.spaces import Architecture, BadInput, SearchSpace
from protege.spaces.cache import atomic


@dataclass(frozen=True)
class Task:
    """A study as its jobs see it.

    Attributes:
        candidate: An architecture as the study would try it.
        objectives: What candidates are judged by.
        space: What they are members of.
        folder: The run folder.
        races: Whether candidates halt at rungs.
    """

    candidate: Callable[[Architecture], Candidate]
    objectives: Sequence[Objective]
    space: SearchSpace
    folder: Path
    races: bool

    def evaluation(self, job: Job) -> Evaluation:
        """The evaluation of a job, not begun."""
        candidate = replace(
            self.candidate(job.architecture), checkpoint=checkpoint(self.folder, job.number)
        )
        if job.stored:
            inherit = partial(warm, candidate.teacher, self.space, job.stored)
            candidate = replace(candidate, inherit=inherit)
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

        Classes and functions that were defined in a script or a notebook go along.

        Raises:
            BadInput: Something in it cannot leave this process.
            DiskFull: There is no room for it.
        """
        try:
            # a file of Python's own: one that torch has opened does not say that the disk is full
            with atomic(path) as scratch, scratch.open("wb") as file:
                torch.save(self, file, pickle_module=cloudpickle)
        except (PicklingError, TypeError, AttributeError, ValueError) as error:
            raise BadInput(
                f"the study cannot be sent to another process ({error}); define what it is made "
                "of without open files, locks and connections, or run it with one job"
            ) from error

    @staticmethod
    def load(path: Path) -> "Task":
        """The task that was saved there, its tensors mapped from the file, each process's own."""
        # written by this study in its own run folder
        loaded: Task = torch.load(path, mmap=True, weights_only=False)
        logging.getLogger("transformers").setLevel(logging.ERROR)
        return loaded
