"""The record of one candidate, and how it comes about."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from protege.objectives import Candidate, Cost, Measurement, Objective, Trained, exceeds
from protege.spaces import BadInput, DiskFull, ProtegeError

_LISTS = ("samples", "examples")
"""What JSON knows as lists of a measurement's tuples."""


class State(StrEnum):
    """What became of a candidate."""

    COMPLETE = "complete"
    """Every objective was measured."""
    STOPPED = "stopped"
    """Beaten at a rung by enough others; its figures are those of that rung."""
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
        reason: Why it was stopped, screened or failed, or which limit it is beyond.
        predictions: By the objectives' names, what was expected of a candidate that was screened
            for it; a figure that was not measured is never on a front.
        rungs: What it was worth on the way, by steps of training, where candidates raced.
    """

    number: int
    key: str
    architecture: Mapping[str, Any]
    state: State
    measurements: Mapping[str, Measurement]
    seconds: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    predictions: Mapping[str, float] = field(default_factory=dict)
    rungs: Mapping[int, float] = field(default_factory=dict)

    def known(self, name: str) -> float | None:
        """The value that was measured, or else the one expected; none where there is neither."""
        found = self.measurements.get(name)
        return self.predictions.get(name) if found is None else found.value

    @property
    def stopped_at(self) -> int | None:
        """The step of training that it was stopped at; none if it was not."""
        return max(self.rungs) if self.state is State.STOPPED else None

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
            name: Measurement(**{**found, **{part: tuple(found[part]) for part in _LISTS}})
            for name, found in record["measurements"].items()
        }
        rungs = {int(step): value for step, value in record["rungs"].items()}
        known = {"state": State(record["state"]), "measurements": measurements, "rungs": rungs}
        return cls(**{**record, **known})


class Referee(Protocol):
    """Decides at each rung whether a candidate is trained on."""

    def goes_on(self, step: int, measurements: Mapping[str, Measurement]) -> bool:
        """Told of all figures of a candidate at a rung that is not its last."""


def evaluate(
    number: int,
    candidate: Candidate,
    objectives: Sequence[Objective],
    referee: Referee | None = None,
) -> Trial:
    """Measure a candidate, cheap objectives first, and stop at the first limit it is over.

    A limit on what only training tells is judged after the fact: the trial is complete, and the
    front leaves it out. So it is with the teacher, whatever limit it is over: all others are
    compared with it, and it costs no training.

    Args:
        number: The trial's number.
        candidate: The candidate.
        objectives: What it is judged by.
        referee: Who looks at it at every rung; without one there are no rungs.

    Raises:
        BadInput: What the user gave cannot be used; no other candidate would fare better.
        DiskFull: There is no room for what is to be kept.
    """
    before = candidate.stopwatch.snapshot()
    found = _Found()
    try:
        for objective in sorted(objectives, key=lambda one: (one.cost, isinstance(one, Trained))):
            found.measure(objective, candidate, referee)
            if found.state is not State.COMPLETE:
                break
    except (BadInput, DiskFull):
        raise
    except (ProtegeError, RuntimeError, MemoryError) as error:
        found.state, found.reason = State.FAILED, f"{type(error).__name__}: {error}"
    return Trial(
        number=number,
        key=candidate.architecture.key(),
        architecture=candidate.architecture.fields(),
        state=found.state,
        measurements=found.measurements,
        seconds=candidate.stopwatch.since(before),
        reason=found.reason,
        rungs=found.rungs,
    )


@dataclass
class _Found:
    """What is known of a candidate so far."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    rungs: dict[int, float] = field(default_factory=dict)
    state: State = State.COMPLETE
    reason: str = ""

    def measure(self, objective: Objective, candidate: Candidate, referee: Referee | None) -> None:
        """Add an objective's figure, or that of the rung where the candidate is stopped."""
        if referee is None or not isinstance(objective, Trained):
            self._note(objective, objective.measure(candidate))
        else:
            for rung in objective.rungs(candidate):
                value = self._note(objective, rung.measurement).value
                self.rungs[rung.step] = value
                if not rung.is_last and not referee.goes_on(rung.step, self.measurements):
                    self.state = State.STOPPED
                    self.reason = f"beaten at step {rung.step}, with {objective.name} {value:.4g}"
                    return
        value = self.measurements[objective.name].value
        if not exceeds(objective, value):
            return
        self.reason = f"{objective.name} {value:.4g} is beyond the limit {objective.limit:g}"
        if objective.cost < Cost.MINUTES and not candidate.is_teacher:
            self.state = State.SCREENED

    def _note(self, objective: Objective, found: Measurement) -> Measurement:
        if not math.isfinite(found.value):
            raise ProtegeError(f"{objective.name} is {found.value}, not a finite number")
        self.measurements[objective.name] = found
        return found
