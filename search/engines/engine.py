"""What a study asks of whoever does its jobs, and what it hears of them."""

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
        known: What somebody else has measured of it already, by the objectives' names.
        seconds: What that took, by phase.
    """

    number: int
    architecture: Architecture
    known: Mapping[str, Measurement] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AtRung:
    """A job has halted at a rung, and waits to be told whether it goes on.

    Attributes:
        number: The job's.
        step: The rung.
        measurements: All that is known of its candidate, by the objectives' names.
        held_bytes: Of the weights that are held for it.
    """

    number: int
    step: int
    measurements: Mapping[str, Measurement]
    held_bytes: int


@dataclass(frozen=True)
class Done:
    """A job is done; its record, and its weights if they may be wanted, are on disk."""

    trial: Trial

    @property
    def number(self) -> int:
        """The job's."""
        return self.trial.number


@dataclass(frozen=True)
class Died:
    """The process that had a job is gone.

    Attributes:
        number: The job's.
        reason: What became of the process; empty if it was not at work on this job.
    """

    number: int
    reason: str


@dataclass(frozen=True)
class Warned:
    """A line that a worker has logged, which the study logs in its turn."""

    text: str


Event = AtRung | Done | Died


class Engine(Protocol):
    """Does the jobs of one study at a time."""

    @property
    def jobs(self) -> int:
        """How many are worked on at once."""

    @property
    def synchronous(self) -> bool:
        """Whether all that are worked on come to a halt before any is gone on with."""

    def start(self, task: "Task", announce: Callable[[str], None]) -> None:
        """Get ready for the jobs of a study; `announce` is told what is going on.

        Raises:
            BadInput: It cannot be done here.
        """

    def free(self, number: int | None = None) -> bool:
        """Whether a job could be begun now, or that one gone on with."""

    def submit(self, job: Job) -> None:
        """Begin a job."""

    def answer(self, number: int, *, goes_on: bool) -> None:
        """Go on with a job that has halted at a rung, or end it there."""

    def wait_any(self) -> Event:
        """What happens next to any job that is worked on; blocks until something does.

        Raises:
            BadInput: What the user gave cannot be used; no other candidate would fare better.
            DiskFull: There is no room for what is to be kept.
        """

    def close(self) -> None:
        """End whatever is worked on, and all that was started."""
