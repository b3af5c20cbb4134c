"""The record of one candidate, and how it comes about."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from protege.objectives import Candidate, Cost, Measurement, Objective, exceeds
from protege.spaces import BadInput, DiskFull, ProtegeError


class State(StrEnum):
    """What became of a candidate."""

    COMPLETE = "complete"
    """Every objective was measured."""
    SCREENED = "screened"
    """Over a limit before any training, or sure to be; what is dearer was not measured."""
    FAILED = "failed"
    """It could not be built or trained; the reason says why."""


@dataclass(frozen=True)
class Trial:
    """What is known of one candidate.

    Attributes:
        number: Its number in the study.
        key: The identity of its architecture.
        architecture: Sizes and policies by name.
        state: What became of it.
        measurements: By the objectives' names.
        seconds: Where its time went, by phase.
        reason: Why it was screened or failed, or which limit it is beyond.
        predictions: By the objectives' names, what was expected of a candidate that was screened
            for it; a figure that was not measured is never on a front.
    """

    number: int
    key: str
    architecture: Mapping[str, Any]
    state: State
    measurements: Mapping[str, Measurement]
    seconds: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    predictions: Mapping[str, float] = field(default_factory=dict)

    def known(self, name: str) -> float | None:
        """The value that was measured, or else the one expected; none where there is neither."""
        found = self.measurements.get(name)
        return self.predictions.get(name) if found is None else found.value

    @property
    def label(self) -> str:
        """A short name for tables, plots and folders: depth x width, feed-forward, number."""
        own = self.architecture
        depth = f"{own['num_hidden_layers']}"
        if own.get("num_decoder_layers"):
            depth += f"+{own['num_decoder_layers']}"
        parts = [f"{depth}x{own['hidden_size']}", f"h{own['num_attention_heads']}"]
        if own.get("intermediate_size"):
            parts.append(f"f{own['intermediate_size']}")
        if own.get("num_experts"):
            parts.append(f"e{own['num_experts']}x{own['moe_intermediate_size']}")
        return "-".join([*parts, f"t{self.number}"])

    def record(self) -> dict[str, Any]:
        """The trial as JSON values."""
        return asdict(self)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Trial":
        """The trial that `record` gave."""
        measurements = {
            name: Measurement(**{**found, "samples": tuple(found["samples"])})
            for name, found in record["measurements"].items()
        }
        state = State(record["state"])
        return cls(**{**record, "state": state, "measurements": measurements})


def evaluate(number: int, candidate: Candidate, objectives: Sequence[Objective]) -> Trial:
    """Measure a candidate, cheap objectives first, and stop at the first limit it is over.

    A limit on what only training tells is judged after the fact: the trial is complete, and the
    front leaves it out. So it is with the teacher, whatever limit it is over: all others are
    compared with it, and it costs no training.

    Raises:
        BadInput: What the user gave cannot be used; no other candidate would fare better.
        DiskFull: There is no room for what is to be kept.
    """
    before = candidate.stopwatch.snapshot()
    measurements: dict[str, Measurement] = {}
    state, reason = State.COMPLETE, ""
    try:
        for objective in sorted(objectives, key=lambda one: one.cost):
            found = objective.measure(candidate)
            if not math.isfinite(found.value):
                raise ProtegeError(f"{objective.name} is {found.value}, not a finite number")
            measurements[objective.name] = found
            if not exceeds(objective, found.value):
                continue
            reason = f"{objective.name} {found.value:.4g} is beyond the limit {objective.limit:g}"
            if objective.cost < Cost.MINUTES and not candidate.is_teacher:
                state = State.SCREENED
                break
    except (BadInput, DiskFull):
        raise
    except (ProtegeError, RuntimeError, MemoryError) as error:
        state, reason = State.FAILED, f"{type(error).__name__}: {error}"
    return Trial(
        number=number,
        key=candidate.architecture.key(),
        architecture=candidate.architecture.fields(),
        state=state,
        measurements=measurements,
        seconds=candidate.stopwatch.since(before),
        reason=reason,
    )
