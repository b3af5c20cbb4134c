"""Which students to try next, and what comes of the ones tried."""

from protege.search.choosing import Choice
from protege.search.engines import LocalEngine, RayEngine
from protege.search.front import Front
from protege.search.heads import head_table
from protege.search.racing import Race
from protege.search.search import Search
from protege.search.trial import State, Trial

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
