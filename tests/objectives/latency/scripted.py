"""A device that takes exactly as long as it is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model


@dataclass(frozen=True)
class Device:
    """Every model takes a millisecond a layer, times what is scripted for each process in turn."""

    pace: Sequence[float] = (1.0,)
    preemptions: int = 0
    after: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    label: str = "scripted"
    asked: list[int] = field(default_factory=list)

    def description(self) -> dict[str, str]:
        return {"device": "scripted"}

    def trace(self, models: Sequence[Model], _workload: Workload, plan: Plan) -> Trace:
        pace = self.pace[min(len(self.asked), len(self.pace) - 1)]
        self.asked.append(len(models))
        layers = [m.configuration().num_hidden_layers for m in models]  # type: ignore[union-attr]
        rounds = tuple(
            tuple(Sample(w := n * pace * (1 + k % 10), w, self.preemptions, w, w) for n in layers)
            for k in range(plan.usual_pairs)
        )
        environment = {"before": {"throttle_counts": {"cpu0": 1}}, "after": self.after}
        return Trace(tuple(map(float, layers)), rounds, environment)
