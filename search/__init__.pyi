from .analysis.card import ChosenStudent as ChosenStudent
from .engines.cluster import RayEngine as RayEngine
from .engines.local import LocalEngine as LocalEngine
from .front.front import Front as Front
from .handover.plan import TrainingPlan as TrainingPlan
from .planning.heads import head_table as head_table
from .records.trial import State as State
from .records.trial import Trial as Trial
from .running.racing import Race as Race
from .search import Search as Search

__all__ = [
    "ChosenStudent",
    "Front",
    "LocalEngine",
    "Race",
    "RayEngine",
    "Search",
    "State",
    "TrainingPlan",
    "Trial",
    "head_table",
]
