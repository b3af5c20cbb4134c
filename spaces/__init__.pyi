from .architecture.architecture import Architecture as Architecture
from .architecture.layer_policies import Closest as Closest
from .architecture.layer_policies import Contiguous as Contiguous
from .architecture.layer_policies import Greedy as Greedy
from .architecture.layer_policies import Influence as Influence
from .architecture.policies import Ends as Ends
from .architecture.policies import First as First
from .architecture.policies import Healing as Healing
from .architecture.policies import LayerMap as LayerMap
from .architecture.policies import Uniform as Uniform
from .architecture.unit_policies import Activation as Activation
from .architecture.unit_policies import Magnitude as Magnitude
from .architecture.unit_policies import Rotation as Rotation
from .architecture.unit_policies import Surgeon as Surgeon
from .architecture.unit_policies import Taylor as Taylor
from .architecture.unit_policies import Wanda as Wanda
from .calibration.calibration import Calibration as Calibration
from .checkpoints.pooling import Embedder as Embedder
from .checkpoints.pooling import Pooling as Pooling
from .checkpoints.tasks import Task as Task
from .errors import BadInput as BadInput
from .errors import DiskFull as DiskFull
from .errors import Infeasible as Infeasible
from .errors import Mismatch as Mismatch
from .errors import ProtegeError as ProtegeError
from .errors import Unavailable as Unavailable
from .errors import Unsupported as Unsupported
from .families import FAMILIES as FAMILIES
from .families.family import Family as Family
from .families.family import family_of as family_of
from .files.cache import Cache as Cache
from .models.attention import layers_above as layers_above
from .models.blueprint import Blueprint as Blueprint
from .space.other_family import OtherFamily as OtherFamily
from .space.ratios import Choice as Choice
from .space.ratios import Range as Range
from .space.space import SearchSpace as SearchSpace
from .students.selection import Selection as Selection
from .students.student import Initialisation as Initialisation
from .students.student import Student as Student
from .teacher import Teacher as Teacher

__all__ = [
    "FAMILIES",
    "Activation",
    "Architecture",
    "BadInput",
    "Blueprint",
    "Cache",
    "Calibration",
    "Choice",
    "Closest",
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
    "LayerMap",
    "Magnitude",
    "Mismatch",
    "OtherFamily",
    "Pooling",
    "ProtegeError",
    "Range",
    "Rotation",
    "SearchSpace",
    "Selection",
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
