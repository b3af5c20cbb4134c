"""Jobs that a study submits to an engine, and what it hears about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protege.objectives import Measurement
from protege.search.records.trial import Trial
from protege.spaces import Architecture, ProtegeError


class Announce(Protocol):
    """Called with the current phase of the study, or of one of its trials."""

    def __call__(self, what: str, trial: int | None = None) -> None:
        """Show the phase."""


def unheard(what: str, trial: int | None = None) -> None:
    """Show no phase."""


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
class RungReached:
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
class JobFinished:
    """Event: a job is done; its record, and weights that may join the front, are on disk."""

    trial: Trial

    @property
    def number(self) -> int:
        """The job's trial number."""
        return self.trial.number


@dataclass(frozen=True)
class JobLost:
    """Event: the worker that had a job is gone.

    Attributes:
        number: The job's trial number.
        reason: Why the worker ended; empty if it was not working on this job.
    """

    number: int
    reason: str


Event = RungReached | JobFinished | JobLost


@dataclass(frozen=True)
class WorkerReady:
    """Message: a worker has loaded the task."""


@dataclass(frozen=True)
class Progress:
    """Message: a sign of life of a worker.

    Attributes:
        text: The current phase, or a warning.
        is_warning: Whether the study logs it as a warning.
    """

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class WorkerLost:
    """Message: a worker is gone.

    Attributes:
        reason: Why, in words.
        failed: Whether it ended with an error of its own; another one would too.
    """

    reason: str
    failed: bool = False


Message = WorkerReady | Progress | Job | RungReached | JobFinished | WorkerLost | ProtegeError
"""What a worker says: also a `Job` that is measured, and an error that ends the study."""
