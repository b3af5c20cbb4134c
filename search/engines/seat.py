"""An actor of a Ray cluster, seen from the study."""

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protege.search.engines.actor import Actor
from protege.search.engines.engine import Died
from protege.spaces import ProtegeError

STARTS = 3
"""Consecutive actors that may die before they are loaded."""


@dataclass
class Seat:
    """A Ray actor with its jobs and its pending remote call.

    Attributes:
        options: Placement options of `ray.remote`.
        task: The task file.
        threads: Number of compute threads.
        at: Number of the running job, or None.
        held: Numbers of its halted jobs.
        heard: Time of its last sign of life, in seconds of the monotonic clock.
        awaited: The Ray reference of the pending call.
        is_loaded: Whether the actor has loaded its task.
    """

    options: dict[str, Any]
    task: Path
    threads: int
    at: int | None = field(default=None, init=False)
    held: set[int] = field(default_factory=set, init=False)
    heard: float = field(default_factory=time.monotonic, init=False)
    awaited: Any = field(init=False)
    is_loaded: bool = field(default=False, init=False)
    _failures: int = field(default=0, init=False)
    _actor: Any = field(init=False)
    _asked: Any = field(default=None, init=False)
    _times: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Request a new actor in place of the old one."""
        import ray

        if self.is_loaded:
            self.kill()
        self.at, self.is_loaded, self._asked, self._times = None, False, None, 0
        self.held.clear()
        placed: Any = ray.remote(Actor)  # its options are known at run time only
        # two threads: one runs jobs, the other reports progress
        options = {"max_concurrency": 2, "max_restarts": 0, **self.options}
        self._actor = placed.options(**options).remote(sys.path, self.task, self.threads)
        self.awaited = self._actor.load.remote()

    @property
    def is_idle(self) -> bool:
        """Whether it is loaded and runs no job."""
        return self.is_loaded and self.at is None

    def tell(self, number: int, verb: str, *given: Any) -> None:
        """Start a remote call that runs a job."""
        self.at, self.heard = number, time.monotonic()
        self.held.discard(number)
        self.awaited = getattr(self._actor, verb).remote(*given)

    def collect(self) -> Any:
        """Return the result of the pending call.

        Raises:
            ProtegeError: The call failed for a reason that concerns all trials.
            ray.exceptions.RayError: The actor is gone.
        """
        import ray

        awaited, self.awaited = self.awaited, None
        found = ray.get(awaited)
        if isinstance(found, ProtegeError):
            raise found
        self.is_loaded, self.at = True, None
        return found

    def says(self) -> str:
        """Return the current phase, or an empty string, and query it again."""
        import ray

        said = ""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            try:
                times, said = ray.get(self._asked)
            except ray.exceptions.RayError:
                return ""  # it is gone; `collect` will raise
            if times != self._times:
                self._times, self.heard = times, time.monotonic()
            self._asked = None
        if self._asked is None:
            self._asked = self._actor.doing.remote()
        return f"trial {self.at}: {said}" if said else ""

    def failed_to_load(self) -> bool:
        """Count an actor that died before it was loaded; return whether to give up."""
        self._failures += 1
        return self._failures >= STARTS

    def losses(self, reason: str) -> list[Died]:
        """Return the loss of each of its jobs."""
        found = [] if self.at is None else [Died(self.at, reason)]
        return found + [Died(number, "") for number in sorted(self.held)]

    def kill(self) -> None:
        """Kill the actor."""
        import ray

        ray.kill(self._actor)
