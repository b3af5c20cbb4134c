from . import scores as scores
from .baselines.static import StaticEmbedding as StaticEmbedding
from .candidate import Candidate as Candidate
from .data import Example as Example
from .data import Examples as Examples
from .data import Images as Images
from .data import Speech as Speech
from .data import Texts as Texts
from .distillation.distillation import Distillation as Distillation
from .distillation.losses.hidden import HiddenMSE as HiddenMSE
from .distillation.losses.losses import BinaryKL as BinaryKL
from .distillation.losses.losses import HardLabels as HardLabels
from .distillation.losses.losses import LogitsKL as LogitsKL
from .distillation.losses.losses import LogitsMSE as LogitsMSE
from .distillation.losses.losses import VectorCosine as VectorCosine
from .distillation.losses.losses import VectorMSE as VectorMSE
from .distillation.losses.relations import AttentionRelations as AttentionRelations
from .distillation.progressive import Progressive as Progressive
from .latency import SSH as SSH
from .latency import Accelerator as Accelerator
from .latency import Android as Android
from .latency import Imported as Imported
from .latency import Latency as Latency
from .latency import LocalCPU as LocalCPU
from .latency import Workload as Workload
from .machine.stopwatch import Stopwatch as Stopwatch
from .measurement import Direction as Direction
from .measurement import Measurement as Measurement
from .measurement import Stage as Stage
from .objective import Objective as Objective
from .quality.retention import Retention as Retention
from .quality.score import Score as Score
from .resources.energy import Energy as Energy
from .resources.peak_memory import PeakMemory as PeakMemory
from .resources.size import Memory as Memory
from .resources.size import Parameters as Parameters

__all__ = [
    "SSH",
    "Accelerator",
    "Android",
    "AttentionRelations",
    "BinaryKL",
    "Candidate",
    "Direction",
    "Distillation",
    "Energy",
    "Example",
    "Examples",
    "HardLabels",
    "HiddenMSE",
    "Images",
    "Imported",
    "Latency",
    "LocalCPU",
    "LogitsKL",
    "LogitsMSE",
    "Measurement",
    "Memory",
    "Objective",
    "Parameters",
    "PeakMemory",
    "Progressive",
    "Retention",
    "Score",
    "Speech",
    "Stage",
    "StaticEmbedding",
    "Stopwatch",
    "Texts",
    "VectorCosine",
    "VectorMSE",
    "Workload",
    "scores",
]
