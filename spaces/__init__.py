"""What a student can be, and how it is cut from its teacher."""

from protege.spaces.architecture import Architecture
from protege.spaces.blueprint import Blueprint
from protege.spaces.cache import Cache
from protege.spaces.calibration import Calibration
from protege.spaces.errors import (
    BadInput,
    DiskFull,
    Infeasible,
    Mismatch,
    ProtegeError,
    Unsupported,
)
from protege.spaces.families import FAMILIES, Family, family_of
from protege.spaces.kept import Kept
from protege.spaces.policies import Activation, Ends, First, LayerMap, Uniform
from protege.spaces.pooling import Embedder, Pooling
from protege.spaces.space import SearchSpace
from protege.spaces.student import Student
from protege.spaces.tasks import Task
from protege.spaces.teacher import Teacher

__all__ = [
    "FAMILIES",
    "Activation",
    "Architecture",
    "BadInput",
    "Blueprint",
    "Cache",
    "Calibration",
    "DiskFull",
    "Embedder",
    "Ends",
    "Family",
    "First",
    "Infeasible",
    "Kept",
    "LayerMap",
    "Mismatch",
    "Pooling",
    "ProtegeError",
    "SearchSpace",
    "Student",
    "Task",
    "Teacher",
    "Uniform",
    "Unsupported",
    "family_of",
]
