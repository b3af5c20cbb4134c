"""The record of one candidate."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import isfinite, nan
from typing import Any

from protege.objectives.measurement import Measurement, TrainingRecord
from protege.spaces.errors import ProtegeError, without_secrets
from protege.spaces.others.table import names_other
from protege.spaces.plain_text import html_table
from protege.spaces.space.knobs import SIZES


class State(StrEnum):
    """The final state of a candidate."""

    COMPLETE = "complete"
    """Every objective was measured."""
    STOPPED = "stopped"
    """Stopped at a rung by the race; its values are those at that rung."""
    SCREENED = "screened"
    """Measured or predicted to exceed a limit before training; costlier objectives were skipped."""
    FAILED = "failed"
    """Building, training or measuring raised an error; see `Trial.reason`."""


@dataclass(frozen=True)
class Trial:
    """The record of one candidate.

    Attributes:
        number: Its number in the study.
        key: The identity of its architecture.
        architecture: Sizes and policies by name.
        state: Its final state.
        measurements: By objective name.
        seconds: By phase.
        reason: Why it was stopped, screened or failed, or which limit it exceeds.
        predictions: By objective name, the predicted values it was screened for.
        rungs: By training step, the values at each rung, by objective name. The published
            measurements are those of the best one.
        training: How its student was distilled; None if it was not.
        untrained: By objective name, the value before training by each objective that judges
            students and does not select the published rung; empty if training did not improve it.
        harmed: The names of those by which training made the student worse by more than noise.
        parameters: Number of the student's parameters, tied ones once; None if it was not built.
        weights: The checksum of its weights; empty if none were stored.
        traceback: The traceback of a failed trial.
    """

    number: int
    key: str
    architecture: Mapping[str, Any]
    state: State
    measurements: Mapping[str, Measurement]
    seconds: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    predictions: Mapping[str, float] = field(default_factory=dict)
    rungs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    training: TrainingRecord | None = None
    untrained: Mapping[str, float] = field(default_factory=dict)
    harmed: tuple[str, ...] = ()
    parameters: int | None = None
    weights: str = field(default="", compare=False)
    traceback: str = ""

    def __repr__(self) -> str:
        values = [f"{name} {found.value:.4g}" for name, found in self.measurements.items()]
        return f"<Trial {self.label}: {', '.join([*values, str(self.state)])}>"

    def _repr_html_(self) -> str:
        rows: list[dict[str, object]] = [
            {"": name, "value": f"{found.value:.4g} \u00b1 {found.spread:.2g}"}
            for name, found in self.measurements.items()
        ]
        if isfinite(self.speedup):
            rows.append({"": "times faster", "value": f"{self.speedup:.3g}"})
        if self.parameters:
            rows.append({"": "parameters", "value": f"{self.parameters:,}"})
        outcome = f"{self.state}: {self.reason}" if self.reason else str(self.state)
        rows.append({"": "state", "value": outcome})
        return html_table(rows, f"Trial {self.number}: {self.label}")

    def known(self, name: str) -> float | None:
        """Return the measured value, else the predicted one, else None."""
        found = self.measurements.get(name)
        return self.predictions.get(name) if found is None else found.value

    @property
    def speedup(self) -> float:
        """Speedup over the teacher by the first latency objective; NaN if not measured."""
        details = (found.details.get("speedup") for found in self.measurements.values())
        return next((float(value) for value in details if value is not None), nan)

    @property
    def other_family(self) -> str:
        """Its ``model_type`` if that is of another family than the teacher's; else empty."""
        own = str(self.architecture.get("model_type", ""))
        return own if names_other(own) else ""

    @property
    def stopped_at(self) -> int | None:
        """The training step at which the race stopped it, or None."""
        return max(self.rungs) if self.state is State.STOPPED else None

    @property
    def best_step(self) -> int | None:
        """Training steps before the published measurement; None if the candidate was not trained.

        0 means that training could not improve the student: it is published as cut and healed.
        """
        training = self.training
        return None if training is None or not training.steps else training.best_step

    @property
    def curve(self) -> dict[int, float]:
        """The value at each rung of the objective that selects the published one, by step."""
        return {step: next(iter(values.values())) for step, values in self.rungs.items()}

    @property
    def harm(self) -> str:
        """A sentence on what the distillation made worse, or an empty string."""
        if not self.harmed:
            return ""
        changes = [
            f"{name} from {self.untrained[name]:.4g} as cut and healed to "
            f"{self.measurements[name].value:.4g}"
            for name in self.harmed
        ]
        selecting = next(iter(next(iter(self.rungs.values()))))
        return f"Distillation improved {selecting} and worsened {' and '.join(changes)}."

    @property
    def label(self) -> str:
        """A short name for tables, plots and folders: depth x width, feed-forward, number."""
        return f"{sizes_of(self.architecture)}-t{self.number}"

    def record(self) -> dict[str, Any]:
        """Return the trial as JSON values; passwords and tokens in its reason are hidden."""
        return asdict(self) | {"reason": without_secrets(self.reason)}

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> "Trial":
        """Read a trial from what `record` returned.

        Raises:
            ValueError: The number or a size is not an integer; both become parts of file names.
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
        rungs = {int(step): values for step, values in record["rungs"].items()}
        known: dict[str, Any] = {
            "state": State(record["state"]),
            "measurements": measurements,
            "rungs": rungs,
            "harmed": tuple(record.get("harmed", ())),
        }
        if record["training"] is not None:
            known["training"] = TrainingRecord.of_record(record["training"])
        return cls(**{**record, **known})


def sizes_of(own: Mapping[str, Any]) -> str:
    """Return the sizes of an architecture in short, such as ``3x384-h12-f768``.

    Those of another family than the teacher's begin with its ``model_type``.
    """
    depth = f"{own['num_hidden_layers']}"
    if own.get("num_decoder_layers"):
        depth += f"+{own['num_decoder_layers']}"
    parts = [f"{depth}x{own['hidden_size']}"]
    if own.get("num_attention_heads"):
        parts.append(f"h{own['num_attention_heads']}")
    if own.get("intermediate_size"):
        parts.append(f"f{own['intermediate_size']}")
    if own.get("num_experts"):
        parts.append(f"e{own['num_experts']}x{own['moe_intermediate_size']}")
    if names_other(own.get("model_type", "")):
        parts.insert(0, own["model_type"])
    return "-".join(parts)


def storable(name: str, found: Measurement) -> Measurement:
    """Return the measurement of an objective.

    Raises:
        ProtegeError: Its value is not finite, or it cannot be stored as JSON.
    """
    if not isfinite(found.value):
        raise ProtegeError(f"{name} is {found.value}, not a finite number")
    try:
        json.dumps(asdict(found))
    except (TypeError, ValueError) as error:
        raise ProtegeError(
            f"{name} has a measurement that cannot be stored as JSON ({error}); give Measurement "
            "plain numbers and texts"
        ) from error
    return found


def measured(trials: Iterable[Trial], name: str) -> list[tuple[Mapping[str, Any], float]]:
    """Return the architecture and value of every trial that has a measurement of an objective."""
    return [
        (trial.architecture, trial.measurements[name].value)
        for trial in trials
        if name in trial.measurements
    ]
