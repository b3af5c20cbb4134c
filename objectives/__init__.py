"""What a student is worth: size, latency, memory, quality after a short distillation."""

from protege.objectives.candidate import Candidate
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.energy import Energy
from protege.objectives.latency import (
    SSH,
    Accelerator,
    Android,
    Imported,
    Latency,
    LocalCPU,
    Workload,
)
from protege.objectives.objective import Cost, Direction, Measurement, Objective, exceeds
from protege.objectives.peak_memory import PeakMemory
from protege.objectives.retention import Retention
from protege.objectives.size import Memory, Parameters
from protege.objectives.stopwatch import Stopwatch
from protege.objectives.texts import Texts

__all__ = [
    "SSH",
    "Accelerator",
    "Android",
    "Candidate",
    "Cost",
    "Direction",
    "Distillation",
    "Energy",
    "Imported",
    "Latency",
    "LocalCPU",
    "Measurement",
    "Memory",
    "Objective",
    "Parameters",
    "PeakMemory",
    "Retention",
    "Stopwatch",
    "Texts",
    "Workload",
    "exceeds",
]
