from .latency import Latency as Latency
from .models import SavedModel as SavedModel
from .runtimes.programs import Unexportable as Unexportable
from .targets.accelerator import Accelerator as Accelerator
from .targets.android import Android as Android
from .targets.bundle import write_bundle as write_bundle
from .targets.imported import Imported as Imported
from .targets.ssh import SSH as SSH
from .targets.target import LocalCPU as LocalCPU
from .targets.target import Target as Target
from .targets.target import Unmeasured as Unmeasured
from .timing.comparison import Compared as Compared
from .timing.comparison import compare as compare
from .timing.timing import ERROR_FLOOR as ERROR_FLOOR
from .timing.timing import Grade as Grade
from .workload import Plan as Plan
from .workload import Workload as Workload

__all__ = [
    "ERROR_FLOOR",
    "SSH",
    "Accelerator",
    "Android",
    "Compared",
    "Grade",
    "Imported",
    "Latency",
    "LocalCPU",
    "Plan",
    "SavedModel",
    "Target",
    "Unexportable",
    "Unmeasured",
    "Workload",
    "compare",
    "write_bundle",
]
