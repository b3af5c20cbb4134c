"""How long a call takes on the device that counts, in whatever noise that device lives."""

from protege.objectives.latency.comparison import Compared, compare
from protege.objectives.latency.estimator import Grade, seed_estimate
from protege.objectives.latency.latency import Latency
from protege.objectives.latency.models import Checkpoint
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.target import LocalCPU, Target, Unmeasured
from protege.objectives.latency.workload import Workload

__all__ = [
    "Checkpoint",
    "Compared",
    "Grade",
    "Latency",
    "LocalCPU",
    "Plan",
    "Target",
    "Unmeasured",
    "Workload",
    "compare",
    "seed_estimate",
]
