"""Values of objectives at sizes that no student has, by the study's own models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from protege.objectives import Workload
from protege.objectives.latency.predictor.model import LatencyModel, model_of, recorded
from protege.objectives.latency.predictor.terms import Call
from protege.search.analysis.size_model import SizeModel, free_sizes
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.records.trial import Trial, measured
from protege.spaces import Task

DEPTHS = ("num_hidden_layers", "num_decoder_layers")
WIDTHS = ("hidden_size", "intermediate_size", "moe_intermediate_size")
"""The sizes that make a model deep and wide."""

HEADS = ("num_attention_heads", "num_key_value_heads")


@dataclass(frozen=True, eq=False)
class Estimates:
    """The models of a study's objectives over sizes.

    A latency is estimated by its `LatencyModel`, if enough was measured for one. Other objectives
    have a `SizeModel` of the finished students and the teacher.

    Attributes:
        about: The record of the study.
        trials: All its trials.
        known: What a `SizeModel` learns from: the finished students, and the teacher.
        objectives: The objectives of the study.
    """

    about: Mapping[str, Any]
    trials: tuple[Trial, ...]
    known: Sequence[Trial]
    objectives: ObjectiveRecords

    @cached_property
    def sizes(self) -> list[str]:
        """The sizes in which the known ones differ."""
        return free_sizes(self.known)

    def estimate(
        self, objective: ObjectiveRecord, sizes: Sequence[Mapping[str, float]]
    ) -> list[tuple[float, float]]:
        """Return the value of an objective at each of some `sizes`, and its standard error."""
        model = self._models[objective.name]
        if isinstance(model, SizeModel):
            return model.predict(sizes)
        left_out = self._left_out[objective.name]
        found = model.predict_all([recorded(self._whole(one)) for one in sizes])
        return [(value, max(error, left_out * value)) for value, error in found]

    @cached_property
    def latency_models(self) -> dict[str, LatencyModel]:
        """By name, the model of each latency that was measured often enough."""
        found = {}
        for name, workload in self.about.get("workloads", {}).items():
            call = Call(Workload(**workload), Task(self.about["teacher"]["task"]))
            model = model_of(measured(self.trials, name), call)
            if model is not None:
                found[name] = model
        return found

    @cached_property
    def _models(self) -> dict[str, LatencyModel | SizeModel]:
        return {
            name: self.latency_models.get(name) or SizeModel.fit(self.known, name, self.sizes)
            for name in self.objectives.names
        }

    @cached_property
    def _left_out(self) -> dict[str, float]:
        """The root mean square of the leave-one-out errors of each latency model, relative."""
        return {
            name: float(np.sqrt(np.mean(np.square(model.leave_one_out()))))
            for name, model in self.latency_models.items()
        }

    def _whole(self, sizes: Mapping[str, float]) -> dict[str, object]:
        """Return the fields of an architecture of some sizes, with heads as the students have."""
        own = dict(self.about["teacher"]["architecture"])
        width = sizes.get("hidden_size", own["hidden_size"]) / own["hidden_size"]
        for name in HEADS:
            if len({trial.architecture[name] for trial in self.known}) > 1:
                own[name] = max(1, round(own[name] * width))
        return own | {name: round(size) for name, size in sizes.items()}
