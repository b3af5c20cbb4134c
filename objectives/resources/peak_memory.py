"""Memory as the system sees it: the most that a fresh process needs to load and run a student."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, ClassVar

from protege.objectives.candidate import Candidate
from protege.objectives.latency.job import Question
from protege.objectives.latency.models import Model, described
from protege.objectives.latency.targets.fresh_process import asked, setting_of
from protege.objectives.latency.targets.target import Target
from protege.objectives.latency.timing.estimator import MAD_TO_DEVIATION
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Cost, Direction, Measurement, name_of
from protege.objectives.resources.size import cached_values
from protege.spaces.errors import BadInput

PROCESSES = 3


@dataclass(frozen=True)
class PeakMemory:
    """The most memory a student takes while it is loaded and run, in MB of 10**6 bytes.

    The growth of a fresh process from when it has imported its libraries to its peak: weights,
    activations, the cache of keys and values, and all that the runtime keeps for itself. Pages of
    shared libraries are not counted, a mapped file of weights counts whole, and nothing of the
    teacher is loaded. The value is the greater of the peaks of loading and of running, the median
    of three processes. It is what this runtime takes, not what the weights have, which `Memory`
    counts: a BERT of 6 layers of 384 channels has 90.9 MB of weights, and at one text of 64 tokens
    takes 94 MB by PyTorch, 98 MB by ONNX Runtime (108 MB in int8, while it is loaded; 78 MB from
    then on) and 148 MB by OpenVINO; at 8 texts 112 MB by PyTorch, 123 MB by ONNX Runtime
    (``python -m studies.benchmarks.memory``, processes within 2.5 MB of each other). A decoder is
    exported as two programs, of prompt and step, each of which has its weights.

    PyTorch builds the student with random weights in its precision, which takes no more than they
    do. On a graphics card tensors alone are counted (`torch.cuda.max_memory_allocated`). Where
    there is no ``/proc`` (macOS), what counts is by how much a process's highest mark rises.

    ``details`` has both peaks, ``imports_mb`` beside them, ``artifact_mb``, the size of the
    exported program or else of the weights, and ``kv_cache_mb``, keys and values when all tokens
    of the workload are there: a program's step holds those of the prompt alone.

    Attributes:
        target: Where the model runs.
        workload: What a call is.
        limit: The most megabytes that a student may take.
        label: Sets this objective apart from others of the study, as in ``peak_memory_<label>_mb``.

    Raises:
        BadInput: The target is another machine, or the processor by `torch.compile`, whose
            compiler would be what takes the most.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit: float | None = None
    label: str = ""

    unit: ClassVar[str] = "MB"
    direction: ClassVar[Direction] = "minimize"
    cost: ClassVar[Cost] = Cost.SECONDS

    def __post_init__(self) -> None:
        _ = self.name  # checks the label
        setting = setting_of(self.target)
        if setting.runtime == "compile" and setting.device == "cpu":
            raise BadInput(
                "the peak of runtime='compile' is its compiler's: measure memory on "
                "LocalCPU(runtime='eager'), or on a runtime that students are exported for"
            )

    @property
    def name(self) -> str:
        return name_of("peak_memory", self.label, "mb")

    def measure(self, candidate: Candidate) -> Measurement:
        """The candidate's peak; from the cache when it, or its like, was measured before.

        Raises:
            BadInput: When the workload is not one for the model.
            Unmeasured: When the model cannot run on the target.
        """
        key = {
            "model": described(candidate.blueprint),
            "workload": asdict(self.workload),
            "target": self.target.description(),
        }
        with candidate.stopwatch.phase("memory"):
            record = candidate.cache.record("peak-memory", key, lambda: self._weighed(candidate))
        return self._read(record["processes"], self._kv_cache_mb(candidate))

    def _weighed(self, candidate: Candidate) -> dict[str, Any]:
        return {"processes": weighed(self.target, candidate.blueprint, self.workload)}

    def _kv_cache_mb(self, candidate: Candidate) -> float:
        """Keys and values once all tokens are there, which a program's step does not hold yet."""
        precision = setting_of(self.target).precision
        # int8 is of the weights, not of the cache
        size = 2 if precision in {"bfloat16", "float16"} else 4
        return cached_values(candidate, self.workload) * size / 1e6

    @staticmethod
    def _read(processes: list[dict[str, float]], kv_cache_mb: float) -> Measurement:
        peaks = tuple(map(peak_mb, processes))
        value = median(peaks)
        spread = MAD_TO_DEVIATION * median(abs(peak - value) for peak in peaks)
        details = {name: median(one[name] for one in processes) for name in processes[0]}
        return Measurement(value, spread, peaks, {**details, "kv_cache_mb": kv_cache_mb})


def weighed(target: Target, model: Model, workload: Workload) -> list[dict[str, float]]:
    """What three fresh processes say of a model, figures by name.

    Raises:
        BadInput: The model cannot have the workload, or the target is not of this machine.
        Unmeasured: The model cannot run there.
    """
    return [asked(target, model, workload, Question("memory")) for _ in range(PROCESSES)]


def peak_mb(process: Mapping[str, float]) -> float:
    """The most that a process took beside its imports."""
    return max(process["load_peak_mb"], process["run_peak_mb"])
