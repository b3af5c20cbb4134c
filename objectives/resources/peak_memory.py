"""Peak memory of a fresh process that loads and runs a student."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, ClassVar

from protege.objectives.candidate import Candidate
from protege.objectives.latency.job import MeasurementRequest
from protege.objectives.latency.models import Model, check_fits, described
from protege.objectives.latency.targets.target import Target, measured_alone, on_this_machine
from protege.objectives.latency.timing.timing import MAD_TO_DEVIATION
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Direction, Measurement, Stage, name_of
from protege.objectives.resources.size import cached_values
from protege.spaces import Teacher
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput

PROCESSES = 3


@checks_fields
@dataclass(frozen=True)
class PeakMemory:
    """Peak memory of loading and running a student, in MB of 10**6 bytes.

    The growth of a fresh process from the end of its imports to its peak: weights, activations,
    key-value cache and the runtime's own buffers. Pages of shared libraries are not counted; a
    memory-mapped weight file counts in full. The value is the larger of the loading peak and the
    running peak, as the median of three processes.

    The runtime adds to the bytes of the weights, which `Memory` counts: 90.9 MB of weights take 94
    MB in PyTorch and 148 MB in OpenVINO (``python -m studies.benchmarks.memory``). A decoder is
    exported as two programs, prompt and step, each with its own weights.

    PyTorch builds the student with random weights in its precision. On a GPU only tensors are
    counted (`torch.cuda.max_memory_allocated`). Without ``/proc`` (macOS) the rise of the process's
    high-water mark is used.

    ``details`` holds both peaks, ``imports_mb``, ``artifact_mb`` (the size of the exported program,
    or of the weights) and ``kv_cache_mb`` (the cache after all tokens of the workload; the step of
    an exported program is measured with the prompt's tokens only).

    Attributes:
        target: Where the model runs.
        workload: Shape of a call.
        limit: Maximum peak memory of a student, in MB.
        label: Distinguishes several objectives of the kind: ``peak_memory_<label>_mb``.

    Raises:
        BadInput: The target is another machine, or `torch.compile` on a CPU, whose compiler would
            determine the peak.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit: float | None = None
    label: str = ""

    unit: ClassVar[str] = "MB"
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.SHAPE

    def __post_init__(self) -> None:
        _ = self.name  # checks the label
        setting = on_this_machine(self.target).setting
        if setting.runtime == "compile" and setting.device == "cpu":
            raise BadInput(
                "the peak of runtime='compile' is its compiler's: measure memory on "
                "LocalCPU(runtime='eager'), or with a runtime that runs exported students"
            )

    @property
    def name(self) -> str:
        return name_of("peak_memory", self.label, "mb")

    def check(self, teacher: Teacher) -> None:
        check_fits(teacher.blueprint(teacher.architecture), self.workload)

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure the candidate's peak, or read it from the cache if its shape was measured.

        Raises:
            BadInput: The workload does not fit the model.
            Unmeasured: The model cannot run on the target.
        """
        key = {
            "model": described(candidate.blueprint),
            "workload": asdict(self.workload),
            "target": self.target.description(),
        }

        def measured() -> dict[str, Any]:
            return {
                "processes": measured_processes(self.target, candidate.blueprint, self.workload)
            }

        with candidate.stopwatch.phase("memory"):
            processes = candidate.cache.record("peak-memory", key, measured)["processes"]
        peaks = tuple(map(peak_mb, processes))
        value = median(peaks)
        spread = MAD_TO_DEVIATION * median(abs(peak - value) for peak in peaks)
        details = {name: median(one[name] for one in processes) for name in processes[0]}
        # int8 applies to the weights only
        half = on_this_machine(self.target).setting.precision in {"bfloat16", "float16"}
        kv_cache_mb = cached_values(candidate, self.workload) * (2 if half else 4) / 1e6
        return Measurement(value, spread, peaks, {**details, "kv_cache_mb": kv_cache_mb})


def measured_processes(target: Target, model: Model, workload: Workload) -> list[dict[str, float]]:
    """Measure a model in `PROCESSES` fresh processes.

    Returns:
        Figures by name, one mapping per process.

    Raises:
        BadInput: The workload does not fit the model, or the target is another machine.
        Unmeasured: The model cannot run on the target.
    """
    return [
        measured_alone(target, model, workload, MeasurementRequest("memory"))
        for _ in range(PROCESSES)
    ]


def peak_mb(process: Mapping[str, float]) -> float:
    """Return the larger of the loading and the running peak, in MB."""
    return max(process["load_peak_mb"], process["run_peak_mb"])
