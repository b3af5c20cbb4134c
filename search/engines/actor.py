"""The worker as a Ray actor."""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import gethostname
from typing import TypeVar

import torch

from protege.search.engines.engine import AtRung, Done, Job
from protege.search.engines.task import Task
from protege.search.engines.worker import Worker
from protege.search.records.failure import plain
from protege.search.records.trial import Trial
from protege.spaces import BadInput, ProtegeError


class _Announcing(logging.Handler):
    """Reports log records as progress, also as a sign of life while waiting for a lock."""

    def __init__(self, announce: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._announce = announce

    def emit(self, record: logging.LogRecord) -> None:
        self._announce(record.getMessage())


Result = TypeVar("Result")

Refusal = ProtegeError
"""An error that ends the study. It is sent as a value because Ray would wrap it."""


class Actor:
    """Runs jobs of a study on a node of the cluster, and reports its progress."""

    def __init__(self, path: Sequence[str], task: Path, threads: int) -> None:
        # the task imports modules from the same path, if it exists on this node
        sys.path += [place for place in path if place not in sys.path]
        torch.set_num_threads(threads)
        self._file, self._said, self._times = task, "", 0
        self._worker: Worker | None = None
        logging.getLogger("protege").addHandler(_Announcing(self._announce))

    def load(self) -> Refusal | None:
        """Load the task; return the error if that fails."""
        if not self._file.is_file():
            return BadInput(
                f"{self._file} is not visible on node {gethostname()}: expected a run folder that "
                "all nodes of the cluster share; give Search(folder=...) on a network file system"
            )
        try:
            task = Task.load(self._file)
        except BadInput as error:
            return error
        if task.private:
            os.umask(0o077)  # Ray started this process, not the study
        self._worker = Worker(task, self._announce)
        return None

    def begin(self, job: Job) -> AtRung | Done | Refusal:
        """Run a job to its first rung or to its end."""
        return _guarded(lambda: self._ready.begin(job))

    def go_on(self, number: int, goes_on: bool) -> AtRung | Done | Refusal:  # noqa: FBT001 - by Ray
        """Continue a held job to its next rung, or end it."""
        return _guarded(lambda: self._ready.go_on(number, goes_on=goes_on))

    def measure(self, job: Job) -> Trial | Refusal:
        """Measure a candidate by the objectives that need no training."""
        return _guarded(lambda: self._ready.measure(job))

    def doing(self) -> tuple[int, str]:
        """Return the number of progress messages, and the last one."""
        return self._times, self._said

    @property
    def _ready(self) -> Worker:
        if self._worker is None:
            raise RuntimeError("no task is loaded")
        return self._worker

    def _announce(self, what: str) -> None:
        self._times, self._said = self._times + 1, what


def _guarded(work: Callable[[], Result]) -> Result | Refusal:
    try:
        return work()
    except MemoryError:
        raise  # ends this actor alone: another one may have enough memory
    except Exception as error:  # noqa: BLE001 - anything that fails more than one trial
        return plain(error)
