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
"""So many actors may die before they are there."""


@dataclass
class Seat:
    """An actor, what it has, and what is awaited of it.

    Attributes:
        options: What `ray.remote` places it by.
        task: The file that its task is loaded from.
        threads: How many it computes with.
        at: The job it is at work on; none while it waits.
        held: Jobs of its that have halted.
        heard: When it last gave a sign of life, in seconds of the monotonic clock.
        awaited: What resolves when it has done what it was last told to.
        is_loaded: Whether it has been seen to be there.
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
        """Ask Ray for an actor, in place of the one there was, wherever there is room."""
        import ray

        if self.is_loaded:
            self.kill()
        self.at, self.is_loaded, self._asked, self._times = None, False, None, 0
        self.held.clear()
        placed: Any = ray.remote(Actor)  # what it is placed by is known when it runs
        # two threads: one works, the other says what that one is at
        options = {"max_concurrency": 2, "max_restarts": 0, **self.options}
        self._actor = placed.options(**options).remote(sys.path, self.task, self.threads)
        self.awaited = self._actor.load.remote()

    @property
    def is_idle(self) -> bool:
        """Whether it is there, and at work on nothing."""
        return self.is_loaded and self.at is None

    def tell(self, number: int, verb: str, *given: Any) -> None:
        """Set it to work on a job."""
        self.at, self.heard = number, time.monotonic()
        self.held.discard(number)
        self.awaited = getattr(self._actor, verb).remote(*given)

    def collect(self) -> Any:
        """What came of what it was last told to.

        Raises:
            ProtegeError: Something that concerns all trials.
            ray.exceptions.RayError: It is gone.
        """
        import ray

        awaited, self.awaited = self.awaited, None
        found = ray.get(awaited)
        if isinstance(found, ProtegeError):
            raise found
        self.is_loaded, self.at = True, None
        return found

    def says(self) -> str:
        """What it is at, as far as is known; asks it again."""
        import ray

        said = ""
        if self._asked is not None and ray.wait([self._asked], timeout=0)[0]:
            try:
                times, said = ray.get(self._asked)
            except ray.exceptions.RayError:
                return ""  # it is gone, which shows when it is next listened to
            if times != self._times:
                self._times, self.heard = times, time.monotonic()
            self._asked = None
        if self._asked is None:
            self._asked = self._actor.doing.remote()
        return f"trial {self.at}: {said}" if said else ""

    def failed_to_load(self) -> bool:
        """Whether actors have died so often before they were there that none will ever be."""
        self._failures += 1
        return self._failures >= STARTS

    def losses(self, reason: str) -> list[Died]:
        """What its end means for the jobs it had."""
        found = [] if self.at is None else [Died(self.at, reason)]
        return found + [Died(number, "") for number in sorted(self.held)]

    def kill(self) -> None:
        """End it, whatever it is at."""
        import ray

        ray.kill(self._actor)
