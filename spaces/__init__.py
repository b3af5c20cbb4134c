"""What a student can be, and how it is cut from its teacher."""

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.layer_policies import Contiguous, Greedy, Influence
from protege.spaces.architecture.policies import Ends, First, Healing, LayerMap, Uniform
from protege.spaces.architecture.unit_policies import (
    Activation,
    Magnitude,
    Rotation,
    Surgeon,
    Taylor,
    Wanda,
)
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.checkpoints.pooling import Embedder, Pooling
from protege.spaces.checkpoints.tasks import Task
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
from protege.spaces.files.cache import Cache
from protege.spaces.models.blueprint import Blueprint
from protege.spaces.models.depth import layers_above
from protege.spaces.space.space import SearchSpace
from protege.spaces.students.selection import Kept
from protege.spaces.students.student import Initialisation, Student
from protege.spaces.teacher import Teacher

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
