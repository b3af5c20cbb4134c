"""How long a call takes on the device that counts, in whatever noise that device lives."""

from protege.objectives.latency.latency import Latency
from protege.objectives.latency.models import Checkpoint
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes.programs import Unexportable
from protege.objectives.latency.targets.accelerator import Accelerator
from protege.objectives.latency.targets.android import Android
from protege.objectives.latency.targets.bundle import write_bundle
from protege.objectives.latency.targets.imported import Imported
from protege.objectives.latency.targets.ssh import SSH
from protege.objectives.latency.targets.target import LocalCPU, Target, Unmeasured
from protege.objectives.latency.timing.comparison import Compared, compare
from protege.objectives.latency.timing.estimator import ERROR_FLOOR, Grade
from protege.objectives.latency.workload import Workload

__all__ = [
    "ERROR_FLOOR",
    "SSH",
    "Accelerator",
    "Android",
    "Checkpoint",
    "Compared",
    "Grade",
    "Imported",
    "Latency",
    "LocalCPU",
    "Plan",
    "Target",
    "Unexportable",
    "Unmeasured",
    "Workload",
    "compare",
    "write_bundle",
]
