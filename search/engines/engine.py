"""The engine protocol: jobs that a study submits, and the events it receives."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from protege.objectives import Measurement
from protege.search.records.trial import Trial
from protege.spaces import Architecture

if TYPE_CHECKING:
    from protege.search.engines.task import Task


@dataclass(frozen=True)
class Job:
    """One candidate to be evaluated.

    Attributes:
        number: The number of its trial.
        architecture: Its sizes and policies.
        known: Measurements made elsewhere, by objective name.
        seconds: Their cost, by phase.
    """

    number: int
    architecture: Architecture
    known: Mapping[str, Measurement] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AtRung:
    """Event: a job reached a rung and waits for the decision.

    Attributes:
        number: The job's trial number.
        step: Training step of the rung.
        measurements: Measurements so far, by objective name.
        held_bytes: Bytes of its weights in memory.
    """

    number: int
    step: int
    measurements: Mapping[str, Measurement]
    held_bytes: int


@dataclass(frozen=True)
class Done:
    """Event: a job is done; its record, and weights that may join the front, are on disk."""

    trial: Trial

    @property
    def number(self) -> int:
        """The job's trial number."""
        return self.trial.number


@dataclass(frozen=True)
class Died:
    """Event: the worker that had a job is gone.

    Attributes:
        number: The job's trial number.
        reason: Why the worker ended; empty if it was not working on this job.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class Warned:
    """Event: a worker logged a warning, which the study logs too."""

    text: str


Event = AtRung | Done | Died


class Engine(Protocol):
    """Runs the jobs of one study at a time."""

    @property
    def jobs(self) -> int:
        """Number of jobs that run at once."""

    @property
    def synchronous(self) -> bool:
        """Whether all running jobs halt before any of them goes on."""

    def start(self, task: "Task", announce: Callable[[str], None]) -> None:
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
