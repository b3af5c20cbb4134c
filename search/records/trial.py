"""The record of one candidate."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import nan
from typing import Any

from protege.objectives import Measurement
from protege.spaces.redaction import without_secrets
from protege.spaces.space.knobs import SIZES


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
        rungs: What was measured at each rung, by steps of training, where candidates raced. The
            published measurement is that of the best of them.
        weights: The checksum of its weights; empty if none were stored.
        traceback: Of the exception that a failed trial ended with.
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
    weights: str = field(default="", compare=False)
    traceback: str = ""

    def known(self, name: str) -> float | None:
        """The value that was measured, or else the one expected; none where there is neither."""
        found = self.measurements.get(name)
        return self.predictions.get(name) if found is None else found.value

    @property
    def speedup(self) -> float:
        """How many times faster than the teacher the first latency found it; NaN if none did."""
        details = (found.details.get("speedup") for found in self.measurements.values())
        return next((float(value) for value in details if value is not None), nan)

    @property
    def stopped_at(self) -> int | None:
        """The step of training that it was stopped at; none if it was not."""
        return max(self.rungs) if self.state is State.STOPPED else None

    @property
    def best_step(self) -> int | None:
        """Training steps before the published measurement; None if the candidate was not trained.

        0 means that training could not improve the student: it is published as cut and healed.
        """
        steps = [
            one.details["best_step"]
            for one in self.measurements.values()
            if one.samples and "best_step" in one.details
        ]
        return int(steps[0]) if steps else None

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
        """Return the trial as JSON values; passwords and tokens in its reason are hidden."""
        return asdict(self) | {"reason": without_secrets(self.reason)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Trial":
        """Read the trial that `record` gave.

        Raises:
            ValueError: A number or a size is none; both are parts of file names.
        """
        sizes = {name: record["architecture"].get(name) for name in SIZES}
        wrong = {
            name: value
            for name, value in {"number": record["number"], **sizes}.items()
            if value is not None and type(value) is not int
        }
        if wrong or record["number"] is None:
            raise ValueError(f"expected whole numbers, found {wrong or {'number': None}}")
        measurements = {
            name: Measurement.of_record(found) for name, found in record["measurements"].items()
        }
        rungs = {int(step): value for step, value in record["rungs"].items()}
        known = {"state": State(record["state"]), "measurements": measurements, "rungs": rungs}
        return cls(**{**record, **known})
