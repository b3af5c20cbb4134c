"""What a student can be, and how it is cut from its teacher."""

from protege.spaces.architecture import Architecture
from protege.spaces.blueprint import Blueprint
from protege.spaces.cache import Cache
from protege.spaces.calibration import Calibration
from protege.spaces.depth import layers_above
from protege.spaces.errors import (
    BadInput,
    DiskFull,
    Infeasible,
    Mismatch,
    ProtegeError,
    Unavailable,
    Unsupported,
)
from protege.spaces.families import FAMILIES, Family, family_of
from protege.spaces.kept import Kept
from protege.spaces.measured import Contiguous, Greedy, Influence
from protege.spaces.policies import Ends, First, Healing, LayerMap, Uniform
from protege.spaces.pooling import Embedder, Pooling
from protege.spaces.space import SearchSpace
from protege.spaces.student import Initialisation, Student
from protege.spaces.tasks import Task
from protege.spaces.teacher import Teacher
from protege.spaces.widths import Activation, Magnitude, Rotation, Surgeon, Taylor, Wanda

__all__ = [
    "FAMILIES",
    "Activation",
    "Architecture",
    "BadInput",
    "Blueprint",
    "Cache",
    "Calibration",
    "Contiguous",
    "DiskFull",
    "Embedder",
    "Ends",
    "Family",
    "First",
    "Greedy",
    "Healing",
    "Infeasible",
    "Influence",
    "Initialisation",
    "Kept",
    "LayerMap",
    "Magnitude",
    "Mismatch",
    "Pooling",
    "ProtegeError",
    "Rotation",
    "SearchSpace",
    "Student",
    "Surgeon",
    "Task",
    "Taylor",
    "Teacher",
    "Unavailable",
    "Uniform",
    "Unsupported",
    "Wanda",
    "family_of",
    "layers_above",
]
