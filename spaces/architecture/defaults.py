"""The default recipe: what an unnamed policy stands for, by hand and in a search."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from protege.spaces.architecture.layer_policies import Greedy
from protege.spaces.architecture.policies import Criterion, Ends, Findings, LayerPolicy
from protege.spaces.architecture.unit_policies import Magnitude, Surgeon

WITH_DATA: Mapping[str, Any] = {
    "layer_policy": Greedy(),
    "width_policy": Surgeon(),
    "healing": "sequential",
}
"""Defaults with data, the best of ``python -m studies.benchmarks.start``."""

WITHOUT_DATA: Mapping[str, Any] = {
    "layer_policy": Ends(),
    "width_policy": Magnitude(),
    "healing": "none",
}
"""Defaults without data: evenly spaced layers with both ends, units of the largest weights."""


def default_recipe(*, has_data: bool) -> Mapping[str, Any]:
    """Return the default policies and healing by the fields of an `Architecture`."""
    return WITH_DATA if has_data else WITHOUT_DATA


@dataclass(frozen=True)
class Default:
    """The best known policy, chosen when the student is built (`Architecture.resolved`).

    With a calibration it stands for that of `WITH_DATA`, else for that of `WITHOUT_DATA`. Until
    then it keeps the layers of `Ends`.
    """

    name: ClassVar[str] = "default"
    needs_calibration: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        chosen: LayerPolicy = default_recipe(has_data=calibration is not None)["layer_policy"]
        return chosen.resolved(calibration)

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        return Ends().layers(total, count, stack)

    def criterion(self, unit: str) -> Criterion:
        return Magnitude().criterion(unit)
