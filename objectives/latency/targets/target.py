"""The target protocol, and this machine's processor as a target."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from protege.objectives.latency.device.receiving import available_cores, cpu_model
from protege.objectives.latency.job import MeasurementRequest, MeasuringJob, TorchSettings, Trace
from protege.objectives.latency.local.fork_server import SERVER
from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.models import Model, check_fits
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import (
    Name,
    Runtime,
    check_hardware,
    processor_features,
    runtime_named,
)
from protege.objectives.latency.targets.upload import runner
from protege.objectives.latency.workload import Plan, Workload
from protege.objectives.machine.lock import exclusive_machine
from protege.objectives.machine.precision import Precision
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput, ProtegeError

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


@runtime_checkable
class LocalTarget(Target, Protocol):
    """A target on this machine, where the memory and energy of a model can be measured too."""

    @property
    def setting(self) -> TorchSettings:
        """How PyTorch runs a model there."""

    def ask(
        self, models: Sequence[Model], workload: Workload, plan: Plan, question: MeasurementRequest
    ) -> dict[str, Any]:
        """Run one job in a fresh process while nothing else is timed on this machine.

        Returns:
            The answer under the question's kind, or why the job ``failed`` or was ``interrupted``.
        """


@checks_fields
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
        if set(self.cores) - set(there):
            raise BadInput(
                f"cores={self.cores}: expected {self.threads} or more of "
                f"{', '.join(map(str, there))}"
            )
        check_threads(self.threads, self.cores, self.priority)
        _ = self._runtime
        check_hardware(self.precision, processor_features())

    @cached_property
    def _runtime(self) -> Runtime:
        return runtime_named(self.runtime, self.precision, self.python)

    @property
    def label(self) -> str:
        return label_of(self.runtime, self.precision, threads=self.threads)

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
        return Trace.of(measured(self, models, workload, plan, MeasurementRequest()))

    @property
    def setting(self) -> TorchSettings:
        return TorchSettings(
            threads=self.threads,
            runtime=self.runtime,
            precision=self.precision,
            cores=self.cores,
            priority=self.priority,
        )

    def ask(
        self, models: Sequence[Model], workload: Workload, plan: Plan, question: MeasurementRequest
    ) -> dict[str, Any]:
        if not self._runtime.exports:
            return SERVER.exchange(
                MeasuringJob(tuple(models), workload, self.setting, plan, question)
            )
        folders = [self.programs.of(m, workload, self._runtime, self.precision) for m in models]
        cores = cores_for(self.runtime, self.cores, self.threads, available_cores())
        job = {
            **program_job(workload, plan, self.threads, cores, self.priority),
            "programs": [str(folder) for folder in folders],
            "question": asdict(question),
        }
        # in a file, since another interpreter may have another version of protege
        with tempfile.NamedTemporaryFile(suffix=".pyz") as file, exclusive_machine():
            file.write(runner())
            file.flush()
            answer = converse([self._runtime.interpreter, file.name], job, plan.deadline_s)
        return {"interrupted": answer.cause} if isinstance(answer, Broken) else answer


def measured(
    target: LocalTarget,
    models: Sequence[Model],
    workload: Workload,
    plan: Plan,
    question: MeasurementRequest,
) -> dict[str, Any]:
    """Ask a target, again if the process was interrupted; return the answer.

    Raises:
        Unmeasured: The job failed, or was interrupted in every try.
    """
    what = f"{names(models)} could not be timed"
    if question.kind != "trace":
        what = f"{question.kind} of {names(models)} could not be measured"
    cause = ""
    for _ in range(_TRIES):
        answer = target.ask(models, workload, plan, question)
        if question.kind in answer:
            return dict(answer[question.kind])
        if "failed" in answer:  # would fail again
            raise Unmeasured(f"{what}: {answer['failed']}")
        cause = answer["interrupted"]
    raise Unmeasured(f"{what} in {_TRIES} tries: {cause}")


def measured_alone(
    target: Target, model: Model, workload: Workload, question: MeasurementRequest
) -> dict[str, Any]:
    """Measure the memory or energy of one model on this machine, in a fresh process.

    Raises:
        BadInput: The model cannot run the workload, or the target is not on this machine.
        Unmeasured: The model cannot run on the target.
    """
    check_fits(model, workload)
    return measured(on_this_machine(target), (model,), workload, Plan(), question)


def on_this_machine(target: Target) -> LocalTarget:
    """Return a target of this machine.

    Raises:
        BadInput: The target is another device.
    """
    if not isinstance(target, LocalTarget):
        raise BadInput(
            f"{target.label}: memory and energy are measured on this machine; expected LocalCPU or "
            "Accelerator"
        )
    return target


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


def check_threads(threads: int, cores: Sequence[int], priority: str = "normal") -> None:
    """Check the threads, cores and priority given for a device.

    Raises:
        BadInput: There is no thread, there are cores but fewer than threads, or the priority is
            unknown.
    """
    if threads < 1 or (cores and len(cores) < threads):
        raise BadInput(
            f"threads={threads}, cores={tuple(cores)}: expected 1 thread or more, and no cores or "
            "as many as threads"
        )
    if priority not in {"normal", "high"}:
        raise BadInput(f"priority={priority!r}: expected normal or high")


def cores_for(
    runtime: str, cores: Sequence[int], threads: int, there: Sequence[int]
) -> Sequence[int]:
    """Return the cores that exported programs are pinned to, of those that are there."""
    # ExecuTorch has no thread setting in Python: it uses as many as the cores it may run on
    return there[:threads] if runtime == "executorch" and not cores else cores


def label_of(runtime: str, precision: str, where: str = "", threads: int = 0) -> str:
    """Return a target's label, such as ``onnxruntime int8 on pi5, 1 thread``."""
    of_precision = "" if precision == "float32" else f" {precision}"
    of_threads = f", {threads} thread{'s' * (threads > 1)}" if threads else ""
    return f"{runtime}{of_precision}{where}{of_threads}"


def names(models: Sequence[Model]) -> str:
    """Return the models' classes for error messages, the candidate first."""
    return " beside ".join(model.model_class for model in reversed(models))
