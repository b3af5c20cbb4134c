"""What a runner is asked, and what it answers: JSON both ways, the same on every device."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.models import Model, described, model_from
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.workload import Workload

Round = tuple[Sample, ...]


@dataclass(frozen=True)
class Trace:
    """The raw result of one fresh process.

    Attributes:
        cold_ms: Wall time of each model's very first forward of the prompt.
        rounds: One sample of each model a round, in the order of the models, whichever ran first.
        environment: Of the machine ``before`` and ``after``, as far as it tells.
        arranged: Which cores and which priority took effect, in words.
    """

    cold_ms: tuple[float, ...]
    rounds: tuple[Round, ...]
    environment: Mapping[str, Any] = field(default_factory=dict)
    arranged: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Trace":
        """The trace that `record` was made from."""
        rounds = tuple(tuple(Sample(*sample) for sample in row) for row in record["rounds"])
        return cls(
            tuple(record["cold_ms"]),
            rounds,
            record.get("environment", {}),
            record.get("arranged", ""),
        )

    def record(self) -> dict[str, Any]:
        """The trace as JSON values; a sample is a list, as a long run has thousands of them."""
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
class Setting:
    """How PyTorch runs a model.

    Attributes:
        threads: Threads that a model may use.
        runtime: ``"eager"``, or ``"compile"`` through `torch.compile`.
        precision: What it calculates in.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``.
        cores: The processor cores that it keeps to; all there are if empty.
        priority: ``"high"`` to ask the system for more than is usual.
    """

    threads: int = 1
    runtime: str = "eager"
    precision: str = "float32"
    device: str = "cpu"
    cores: tuple[int, ...] = ()
    priority: str = "normal"


@dataclass(frozen=True)
class Question:
    """What a process is to find out.

    Attributes:
        kind: ``"time"`` of models by turns; ``"memory"`` or ``"energy"`` of one model.
        window_s: Seconds of calls back to back, of energy.
        windows: How many of those.
        sysfs: Where the kernel tells of energy.
    """

    kind: Literal["time", "memory", "energy"] = "time"
    window_s: float = 5.0
    windows: int = 3
    sysfs: str = "/sys"


@dataclass(frozen=True)
class Job:
    """One fresh process's work: time these models, by turns, or see what one of them needs.

    Attributes:
        models: The reference, and the candidate where there is one.
        workload: What every model is asked to do.
        setting: How they are run.
        plan: When enough has been seen.
        question: What is asked.
    """

    models: tuple[Model, ...]
    workload: Workload
    setting: Setting
    plan: Plan
    question: Question = Question()

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Job":
        """The job that `record` was made from."""
        plan = record["plan"] | {"back_off_s": tuple(record["plan"]["back_off_s"])}
        models = tuple(model_from(fields) for fields in record["models"])
        setting = Setting(**record["setting"] | {"cores": tuple(record["setting"]["cores"])})
        question = Question(**record["question"])
        return cls(models, Workload(**record["workload"]), setting, Plan(**plan), question)

    def record(self) -> dict[str, Any]:
        """The job as JSON values."""
        return {
            "models": [described(model) for model in self.models],
            "workload": asdict(self.workload),
            "setting": asdict(self.setting) | {"cores": list(self.setting.cores)},
            "plan": asdict(self.plan) | {"back_off_s": list(self.plan.back_off_s)},
            "question": asdict(self.question),
        }
