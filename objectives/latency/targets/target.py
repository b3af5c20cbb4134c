"""Where latency counts: the device, the runtime and the threads a model is given there."""

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
from protege.objectives.latency.targets.packing import runner, runner_name
from protege.objectives.latency.workload import Workload
from protege.objectives.lease import alone
from protege.objectives.precision import Precision
from protege.spaces.errors import BadInput, ProtegeError
from protege.spaces.files.atomic import atomic, remove
from protege.spaces.files.private import private_folder

_TRIES = 3


class Unmeasured(ProtegeError):
    """A model could not be timed; it costs this candidate its trial, and no other."""


class Target(Protocol):
    """A place where models can be timed."""

    @property
    def threads(self) -> int:
        """Threads that a model may use there."""

    @property
    def label(self) -> str:
        """A few words for tables and plots, such as ``onnxruntime int8, 1 thread``."""

    def description(self) -> Mapping[str, Any]:
        """All that a time depends on besides model and workload; the key of what is cached."""

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models by turns in one fresh process there.

        Raises:
            Unexportable: When a model cannot be exported for the runtime.
            Unmeasured: When a model cannot run there.
        """


@dataclass(frozen=True)
class LocalCPU:
    """This machine's processor.

    Attributes:
        threads: Threads that a model may use. With more than one, figures can be trusted on an
            otherwise idle machine alone, and say so where it was not.
        runtime: What runs the model: PyTorch as transformers runs it (``"eager"``), through
            `torch.compile` (``"compile"``), or a runtime that it is exported for.
        precision: What is calculated in; ``"int8"`` is ONNX Runtime's dynamic quantisation.
        cores: The cores that a model keeps to, by the system's numbers; all of them if empty.
        priority: ``"high"`` asks the system for more than is usual, as far as it allows.
        python: The interpreter that exports and runs, of a runtime that lives in an environment of
            its own; this one's if empty.
        programs: Where exported models are kept.

    Raises:
        BadInput: There are fewer cores than threads, or the runtime is not here, or the precision
            is not for it or not for this processor.
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
        """The answer of a fresh process to a job with the models' programs, or why there is none.

        Args:
            models: Exported first, each once.
            workload: What a call is.
            plan: How long to measure.
            more: Whatever else the job says.
        """
        folders = [self.programs.of(m, workload, self._runtime, self.precision) for m in models]
        job = {
            **program_job(workload, plan, self.threads, self.kept_cores, self.priority),
            "programs": [str(folder) for folder in folders],
            **more,
        }
        with alone():
            command = [self._runtime.interpreter, str(runner_here())]
            answer = converse(command, job, plan.deadline_s)
        return {"interrupted": answer.cause} if isinstance(answer, Broken) else answer

    @property
    def kept_cores(self) -> tuple[int, ...]:
        """The cores that exported programs are kept to."""
        # ExecuTorch has no setting for threads in Python: it takes as many as it may run on
        if self.runtime == "executorch" and not self.cores:
            return tuple(sorted(available_cores())[: self.threads])
        return self.cores


def trace_eagerly(
    models: Sequence[Model], workload: Workload, setting: Setting, plan: Plan
) -> Trace:
    """Time models by turns in a fresh process of this machine, run by PyTorch.

    Raises:
        Unmeasured: When a model cannot run.
    """
    job = Job(tuple(models), workload, setting, plan)
    what = f"{names(models)} could not be timed"
    return Trace.of(insisted(lambda: fork_server.exchange(job), "trace", what))


def insisted(ask: Callable[[], dict[str, Any]], wanted: str, what: str) -> dict[str, Any]:
    """The part of an answer that is wanted; asked for again where a process ended over it.

    Args:
        ask: Gives an answer: what is wanted, or why it ``failed`` or was ``interrupted``.
        wanted: The name of the part.
        what: What could not be done, for the error.

    Raises:
        Unmeasured: It failed, or was interrupted every time.
    """
    cause = ""
    for _ in range(_TRIES):
        answer = ask()
        if wanted in answer:
            return dict(answer[wanted])
        if "failed" in answer:  # and would again
            raise Unmeasured(f"{what}: {answer['failed']}")
        cause = answer["interrupted"]
    raise Unmeasured(f"{what} in {_TRIES} tries: {cause}")


def program_job(
    workload: Workload, plan: Plan, threads: int, cores: Sequence[int], priority: str
) -> dict[str, Any]:
    """What a runner is told, all but where the programs are."""
    return {
        "new_tokens": workload.new_tokens,
        "threads": threads,
        "cores": list(cores),
        "priority": priority,
        "plan": asdict(plan) | {"process_s": plan.process_s},
    }


def runner_here() -> Path:
    """Return the runner's file on this machine, in a folder that no other user can write.

    Its content is compared with the packaged one each time, and written anew if it differs.

    Raises:
        BadInput: The folder is not this user's alone.
    """
    path, content = private_folder() / runner_name(), runner()
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        remove(path)
        with atomic(path) as scratch:
            scratch.write_bytes(content)
    return path


def names(models: Sequence[Model]) -> str:
    """The models as an error tells of them, the candidate first."""
    return " beside ".join(model.model_class for model in reversed(models))


def available_cores() -> frozenset[int]:
    """The cores that this process may use; a container's share is not the machine."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


@cache
def cpu_model() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor() or platform.machine()
