"""Jobs sent to a measuring process, and the traces that it returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.models import Model
from protege.objectives.latency.workload import Plan, Workload

Round = tuple[Sample, ...]


@dataclass(frozen=True)
class Trace:
    """The raw result of one fresh process.

    Attributes:
        cold_ms: Wall time in ms of each model's very first forward pass over the prompt.
        rounds: One sample per model in each round, in the order of the models.
        environment: The machine's state ``before`` and ``after``, as far as available.
        arranged: The cores and the priority that took effect, in words.
    """

    cold_ms: tuple[float, ...]
    rounds: tuple[Round, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    arranged: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Trace":
        """Return the trace from what `record` returned."""
        rounds = tuple(tuple(Sample(*sample) for sample in row) for row in record["rounds"])
        return cls(
            tuple(record["cold_ms"]),
            rounds,
            record.get("environment", {}),
            record.get("arranged", ""),
        )

    def record(self) -> dict[str, Any]:
        """Return the trace as JSON values; samples are lists to keep thousands of them small."""
        return {
            "cold_ms": list(self.cold_ms),
            "rounds": [[list(sample) for sample in row] for row in self.rounds],
            "environment": dict(self.environment),
            "arranged": self.arranged,
        }

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """All samples of all models."""
        return tuple(sample for row in self.rounds for sample in row)


@dataclass(frozen=True)
class TorchSettings:
    """How PyTorch runs a model.

    Attributes:
        threads: Threads that a model may use.
        runtime: ``"eager"``, or ``"compile"`` for `torch.compile`.
        precision: The dtype of weights and activations.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        cores: The processor cores to pin to; all cores if empty.
        priority: ``"high"`` to ask the system for a raised scheduling priority.
    """

    threads: int = 1
    runtime: str = "eager"
    precision: str = "float32"
    device: str = "cpu"
    cores: tuple[int, ...] = ()
    priority: str = "normal"


@dataclass(frozen=True)
class MeasurementRequest:
    """What a process measures.

    Attributes:
        kind: A ``"trace"`` of alternating models; ``"memory"`` or ``"energy"`` of one model.
        window_s: Seconds of back-to-back calls in an energy window.
        windows: Number of energy windows.
        sysfs: Where sysfs is mounted, for energy counters.
    """

    kind: Literal["trace", "memory", "energy"] = "trace"
    window_s: float = 5.0
    windows: int = 3
    sysfs: str = "/sys"


@dataclass(frozen=True)
class MeasuringJob:
    """The work of one fresh process: time models alternately, or measure one model.

    Attributes:
        models: The reference, then the candidate if there is one.
        workload: The size of a call.
        setting: How the models are run.
        plan: How long to measure.
        question: What to measure.
    """

    models: tuple[Model, ...]
    workload: Workload
    setting: TorchSettings
    plan: Plan
    question: MeasurementRequest = MeasurementRequest()
