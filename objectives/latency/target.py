"""Where latency counts: the device, the runtime and the threads a model is given there."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

from protege.objectives.latency import nursery
from protege.objectives.latency.job import Job, Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.workload import Workload
from protege.spaces.errors import BadInput, ProtegeError

_TRIES = 3


class Unmeasured(ProtegeError):
    """A model could not be timed; it costs this candidate its trial, and no other."""


class Target(Protocol):
    """A place where models can be timed."""

    @property
    def threads(self) -> int:
        """Threads that a model may use there."""

    def description(self) -> dict[str, str | int]:
        """All that a time depends on besides model and workload; the key of what is cached."""

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models by turns in one fresh process there.

        Raises:
            Unmeasured: When a model cannot run there.
        """


@dataclass(frozen=True)
class LocalCPU:
    """This machine's processor, with PyTorch as transformers runs it: eager, in float32.

    Attributes:
        threads: Threads that a model may use. With more than one, figures can be trusted on an
            otherwise idle machine alone, and say so where it was not.

    Raises:
        BadInput: When there are fewer cores than threads.
    """

    threads: int = 1

    def __post_init__(self) -> None:
        cores = _cores()
        if not 1 <= self.threads <= cores:
            raise BadInput(f"threads must be 1 to {cores}, the cores available, not {self.threads}")

    def description(self) -> dict[str, str | int]:
        return {
            "runtime": "eager",
            "dtype": "float32",
            "threads": self.threads,
            "cpu": _cpu_model(),
            "torch": version("torch"),
            "transformers": version("transformers"),
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        job = Job(tuple(models), workload, self.threads, plan)
        cause = ""
        for _ in range(_TRIES):
            answer = nursery.exchange(job)
            if "trace" in answer:
                return Trace.of(answer["trace"])
            if "failed" in answer:  # and would again
                raise Unmeasured(f"{_names(models)} could not be timed: {answer['failed']}")
            cause = answer["interrupted"]
        raise Unmeasured(f"{_names(models)} could not be timed in {_TRIES} tries: {cause}")


def _names(models: Sequence[Model]) -> str:
    return " beside ".join(model.model_class for model in reversed(models))


def _cores() -> int:
    # what this process may use, where the platform tells: a container's share is not the machine
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
