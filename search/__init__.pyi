from .choosing import Choice as Choice
from .engines import LocalEngine as LocalEngine
from .engines import RayEngine as RayEngine
from .front import Front as Front
from .heads import head_table as head_table
from .racing import Race as Race
from .search import Search as Search
from .trial import State as State
from .trial import Trial as Trial

__all__ = [
    "Choice",
    "Front",
    "LocalEngine",
    "Race",
    "RayEngine",
    "Search",
    "State",
    "Trial",
    "head_table",
]
