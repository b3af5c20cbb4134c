"""Where a study's jobs are done: in its own process, in several on this machine, or on many."""

from protege.search.engines.cluster import RayEngine
from protege.search.engines.engine import AtRung, Died, Done, Engine, Event, Job
from protege.search.engines.local import LocalEngine
from protege.search.engines.serial import SerialEngine
from protege.search.engines.task import Task, remove_task

__all__ = [
    "AtRung",
    "Died",
    "Done",
    "Engine",
    "Event",
    "Job",
    "LocalEngine",
    "RayEngine",
    "SerialEngine",
    "Task",
    "remove_task",
]
