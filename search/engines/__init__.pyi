from .cluster import RayEngine as RayEngine
from .engine import AtRung as AtRung
from .engine import Died as Died
from .engine import Done as Done
from .engine import Engine as Engine
from .engine import Event as Event
from .engine import Job as Job
from .local import LocalEngine as LocalEngine
from .serial import SerialEngine as SerialEngine
from .task import Task as Task
from .task import remove_task as remove_task

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
