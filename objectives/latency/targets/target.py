"""The target protocol, and this machine's processor as a target."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

from protege.objectives.latency.job import Job, Setting, Trace
from protege.objectives.latency.local import fork_server
from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.models import Model
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import (
    Name,
    Runtime,
    check_hardware,
    runtime_named,
)
from protege.objectives.latency.targets.upload import runner, runner_name
from protege.objectives.latency.workload import Workload
from protege.objectives.lease import exclusive_machine
from protege.objectives.precision import Precision
from protege.spaces.errors import BadInput, ProtegeError
from protege.spaces.files.atomic import atomic, remove
from protege.spaces.files.private import private_folder

_TRIES = 3


class Unmeasured(ProtegeError):
    """A model could not be timed; only its own trial fails."""


class Target(Protocol):
    """A device and runtime on which models can be timed."""

    @property
    def threads(self) -> int:
        """Threads that a model may use."""

    @property
    def label(self) -> str:
        """A short name for tables and plots, such as ``onnxruntime int8, 1 thread``."""

    def description(self) -> Mapping[str, Any]:
        """Return all that a latency depends on besides model and workload, as a cache key."""

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models alternately in one fresh process on the device.

        Raises:
            Unexportable: A model cannot be exported for the runtime.
            Unmeasured: A model cannot run on the device.
        """


@dataclass(frozen=True)
class LocalCPU:
    """This machine's processor.

    Attributes:
        threads: Threads that a model may use. More than one needs an otherwise idle machine; the
            grade of a latency shows whether it was idle.
        runtime: PyTorch (``"eager"``), `torch.compile` (``"compile"``), or a runtime that models
            are exported for.
        precision: The precision; ``"int8"`` is ONNX Runtime's dynamic quantisation.
        cores: The cores to pin a model to, by the system's numbers; all cores if empty.
        priority: ``"high"`` asks the system for a raised priority, as far as it allows.
        python: The interpreter of the runtime's own environment; the current one if empty.
        programs: The cache of exported models.

    Raises:
        BadInput: There are fewer cores than threads, the runtime is not installed, or the runtime
            or this processor does not support the precision.
    """

    threads: int = 1
    runtime: Name = "eager"
    precision: Precision = "float32"
    cores: tuple[int, ...] = ()
    priority: Literal["normal", "high"] = "normal"
    python: str = ""
    programs: Programs = field(default_factory=Programs, repr=False, compare=False)

    def __post_init__(self) -> None:
        there = available_cores()
        if not 1 <= self.threads <= len(there):
            raise BadInput(
                f"threads must be 1 to {len(there)}, the cores available, not {self.threads}"
            )
        if set(self.cores) - there or (self.cores and len(self.cores) < self.threads):
            raise BadInput(
                f"cores={self.cores}: expected {self.threads} or more of "
                f"{', '.join(map(str, sorted(there)))}"
            )
        if self.priority not in {"normal", "high"}:
            raise BadInput(f"priority={self.priority!r}: expected normal or high")
        _ = self._runtime
        check_hardware(self.precision)

    @cached_property
    def _runtime(self) -> Runtime:
        return runtime_named(self.runtime, self.precision, self.python)

    @property
    def label(self) -> str:
        precision = "" if self.precision == "float32" else f" {self.precision}"
        return f"{self.runtime}{precision}, {self.threads} thread{'s' * (self.threads > 1)}"

    def description(self) -> dict[str, Any]:
        return {
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "cores": list(self.cores),
            "priority": self.priority,
            "cpu": cpu_model(),
            "versions": self._runtime.versions(),
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        if not self._runtime.exports:
            return trace_eagerly(models, workload, self.setting, plan)
        what = f"{names(models)} could not be timed"
        return Trace.of(insisted(lambda: self.ask(models, workload, plan), "trace", what))

    @property
    def setting(self) -> Setting:
        """How PyTorch runs a model here."""
        return Setting(
            threads=self.threads,
            runtime=self.runtime,
            precision=self.precision,
            cores=self.cores,
            priority=self.priority,
        )

    def ask(
        self, models: Sequence[Model], workload: Workload, plan: Plan, **more: object
    ) -> dict[str, Any]:
        """Export the models, run a job with their programs in a fresh process, return its answer.

        Args:
            models: The models.
            workload: The size of a call.
            plan: How long to measure.
            more: Further fields of the job.

        Returns:
            The answer, or why the job ``failed`` or was ``interrupted``.
        """
        folders = [self.programs.of(m, workload, self._runtime, self.precision) for m in models]
        job = {
            **program_job(workload, plan, self.threads, self.kept_cores, self.priority),
            "programs": [str(folder) for folder in folders],
            **more,
        }
        with exclusive_machine():
            command = [self._runtime.interpreter, str(runner_here())]
            answer = converse(command, job, plan.deadline_s)
        return {"interrupted": answer.cause} if isinstance(answer, Broken) else answer

    @property
    def kept_cores(self) -> tuple[int, ...]:
        """The cores that exported programs are pinned to."""
        # ExecuTorch has no thread setting in Python: it uses as many as the cores it may run on
        if self.runtime == "executorch" and not self.cores:
            return tuple(sorted(available_cores())[: self.threads])
        return self.cores


def trace_eagerly(
    models: Sequence[Model], workload: Workload, setting: Setting, plan: Plan
) -> Trace:
    """Time models alternately under PyTorch, in a fresh process of this machine.

    Raises:
        Unmeasured: A model cannot run.
    """
    job = Job(tuple(models), workload, setting, plan)
    what = f"{names(models)} could not be timed"
    return Trace.of(insisted(lambda: fork_server.exchange(job), "trace", what))


def insisted(ask: Callable[[], dict[str, Any]], wanted: str, what: str) -> dict[str, Any]:
    """Run a job, again if its process was interrupted, and return one field of the answer.

    Args:
        ask: Runs the job; returns the field, or why it ``failed`` or was ``interrupted``.
        wanted: The name of the field.
        what: The beginning of the error message.

    Raises:
        Unmeasured: The job failed, or was interrupted in every try.
    """
    cause = ""
    for _ in range(_TRIES):
        answer = ask()
        if wanted in answer:
            return dict(answer[wanted])
        if "failed" in answer:  # would fail again
            raise Unmeasured(f"{what}: {answer['failed']}")
        cause = answer["interrupted"]
    raise Unmeasured(f"{what} in {_TRIES} tries: {cause}")


def program_job(
    workload: Workload, plan: Plan, threads: int, cores: Sequence[int], priority: str
) -> dict[str, Any]:
    """Return a runner's job without the paths of the programs."""
    return {
        "new_tokens": workload.new_tokens,
        "threads": threads,
        "cores": list(cores),
        "priority": priority,
        "plan": asdict(plan) | {"process_s": plan.process_s},
    }


def runner_here() -> Path:
    """Write the runner's file into a private folder unless it is there; return its path.

    Raises:
        BadInput: Another user can write to the folder.
    """
    path, content = private_folder() / runner_name(), runner()
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        remove(path)
        with atomic(path) as scratch:
            scratch.write_bytes(content)
    return path


def check_threads(threads: int, cores: Sequence[int]) -> None:
    """Check the threads and cores given for a remote device.

    Raises:
        BadInput: There is no thread, or there are cores but fewer than threads.
    """
    if threads < 1 or (cores and len(cores) < threads):
        raise BadInput(
            f"threads={threads}, cores={tuple(cores)}: expected 1 thread or more, and no cores or "
            "as many as threads"
        )


def names(models: Sequence[Model]) -> str:
    """Return the models' classes for error messages, the candidate first."""
    return " beside ".join(model.model_class for model in reversed(models))


def available_cores() -> frozenset[int]:
    """Return the cores that this process may use, which in a container may be a part of all."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@cache
def cpu_model() -> str:
    """Return the processor's name, as far as the system reports it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()
