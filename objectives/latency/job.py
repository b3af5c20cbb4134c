"""What a runner is asked, and what it answers: JSON both ways, the same on every device."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from typing import Any

from protege.objectives.latency.models import Model, described, model_from
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.workload import Workload

# Before every answer, so that whatever else is printed is not taken for one.
FRAME = "@@LAT1@@"


@dataclass(frozen=True)
class Sample:
    """One call of one model.

    Attributes:
        wall_ms: Time on the clock.
        cpu_ms: Time on the processor, over all threads.
        preemptions: How often the call was interrupted for another process (`ru_nivcsw`).
        prefill_wall_ms: The part of `wall_ms` that the prompt took.
        prefill_cpu_ms: The part of `cpu_ms` that the prompt took.
    """

    wall_ms: float
    cpu_ms: float
    preemptions: int
    prefill_wall_ms: float
    prefill_cpu_ms: float


Round = tuple[Sample, ...]


@dataclass(frozen=True)
class Trace:
    """The raw result of one fresh process.

    Attributes:
        cold_ms: Wall time of each model's very first forward of the prompt.
        rounds: One sample of each model a round, in the order of the models, whichever ran first.
    """

    cold_ms: tuple[float, ...]
    rounds: tuple[Round, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Trace":
        """The trace that `record` was made from."""
        rounds = tuple(tuple(Sample(*sample) for sample in row) for row in record["rounds"])
        return cls(tuple(record["cold_ms"]), rounds)

    def record(self) -> dict[str, Any]:
        """The trace as JSON values; a sample is a list, as a long run has thousands of them."""
        rounds = [[list(astuple(sample)) for sample in row] for row in self.rounds]
        return {"cold_ms": list(self.cold_ms), "rounds": rounds}

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """All samples of all models."""
        return tuple(sample for row in self.rounds for sample in row)


@dataclass(frozen=True)
class Job:
    """One fresh process's work: time these models, by turns.

    Attributes:
        models: The reference, and the candidate where there is one.
        workload: What every model is asked to do.
        threads: Threads that a model may use.
        plan: When enough has been seen.
    """

    models: tuple[Model, ...]
    workload: Workload
    threads: int
    plan: Plan

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Job":
        """The job that `record` was made from."""
        plan = record["plan"] | {"back_off_s": tuple(record["plan"]["back_off_s"])}
        models = tuple(model_from(fields) for fields in record["models"])
        return cls(models, Workload(**record["workload"]), record["threads"], Plan(**plan))

    def record(self) -> dict[str, Any]:
        """The job as JSON values."""
        return {
            "models": [described(model) for model in self.models],
            "workload": asdict(self.workload),
            "threads": self.threads,
            "plan": asdict(self.plan) | {"back_off_s": list(self.plan.back_off_s)},
        }
