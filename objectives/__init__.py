"""What a student is worth: size, latency, memory, quality after a short distillation."""

from protege.objectives.candidate import Candidate
from protege.objectives.data import Example, Examples, Images, Texts
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.hidden import HiddenMSE
from protege.objectives.distillation.losses import (
    HardLabels,
    LogitsKL,
    LogitsMSE,
    VectorCosine,
    VectorMSE,
)
from protege.objectives.distillation.progressive import Progressive
from protege.objectives.distillation.relations import AttentionRelations
from protege.objectives.latency import (
    SSH,
    Accelerator,
    Android,
    Imported,
    Latency,
    LocalCPU,
    Workload,
)
from protege.objectives.objective import (
    Cost,
    Direction,
    Measurement,
    Objective,
    Rung,
    Trained,
    exceeds,
)
from protege.objectives.resources.energy import Energy
from protege.objectives.resources.peak_memory import PeakMemory
from protege.objectives.resources.size import Memory, Parameters
from protege.objectives.retention import Retention
from protege.objectives.stopwatch import Stopwatch

__all__ = [
    "SSH",
    "Accelerator",
    "Android",
    "AttentionRelations",
    "Candidate",
    "Cost",
    "Direction",
    "Distillation",
    "Energy",
    "Example",
    "Examples",
    "HardLabels",
    "HiddenMSE",
    "Images",
    "Imported",
    "Latency",
    "LocalCPU",
    "LogitsKL",
    "LogitsMSE",
    "Measurement",
    "Memory",
    "Objective",
    "Parameters",
    "PeakMemory",
    "Progressive",
    "Retention",
    "Rung",
    "Stopwatch",
    "Texts",
    "Trained",
    "VectorCosine",
    "VectorMSE",
    "Workload",
    "exceeds",
]
