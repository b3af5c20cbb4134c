"""Energy per call, on machines with an energy meter."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, ClassVar

from protege.objectives.candidate import Candidate
from protege.objectives.latency.device.meters import NoMeter, meter
from protege.objectives.latency.job import MeasurementRequest
from protege.objectives.latency.models import check_fits, described
from protege.objectives.latency.targets.target import (
    Target,
    Unmeasured,
    measured_alone,
    on_this_machine,
)
from protege.objectives.latency.timing.timing import MAD_TO_DEVIATION
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Direction, Measurement, Stage, name_of
from protege.spaces import Teacher
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput


@checks_fields
@dataclass(frozen=True)
class Energy:
    """Energy per call above the machine's idle consumption, in mJ.

    A separate process runs windows of back-to-back calls between two idle windows, whose power is
    subtracted. CPUs are metered by RAPL (packages, and DRAM if counted separately), GPUs by NVML's
    energy counter, Jetson boards by their INA3221. The meters count everything that runs, so
    results are meaningful only on an otherwise idle machine; a large `spread` shows interference.

    Attributes:
        target: Where the model runs.
        workload: Shape of a call.
        limit: Maximum energy per call, in mJ.
        label: Distinguishes several objectives of the kind: ``energy_<label>_mj``.
        window_s: Seconds per window; long enough for clocks and cooling to settle.
        windows: Number of windows of calls.
        sysfs: Mount point of sysfs, which holds the counters.

    Raises:
        BadInput: The machine has no energy meter, or the target is another machine.
    """

    target: Target
    workload: Workload = field(default_factory=Workload)
    limit: float | None = None
    window_s: float = 5.0
    windows: int = 3
    sysfs: str = "/sys"
    label: str = ""

    unit: ClassVar[str] = "mJ"
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.SHAPE

    def __post_init__(self) -> None:
        _ = self.name  # checks the label
        if self.window_s <= 0 or self.windows < 1:
            raise BadInput(
                f"window_s={self.window_s} and windows={self.windows}: expected more than 0 "
                "seconds and 1 window or more"
            )
        try:
            meter(on_this_machine(self.target).setting.device, self.sysfs)
        except NoMeter as absent:
            raise BadInput(
                f"energy is not available here: {absent}; leave Energy out, or measure on a "
                "machine that counts it"
            ) from None

    @property
    def name(self) -> str:
        return name_of("energy", self.label, "mj")

    def check(self, teacher: Teacher) -> None:
        check_fits(teacher.blueprint(teacher.architecture), self.workload)

    def measure(self, candidate: Candidate) -> Measurement:
        """Measure the candidate's energy, or read it from the cache if its shape was measured.

        Raises:
            BadInput: The workload does not fit the model.
            Unmeasured: The model cannot run, or calls used no more power than idling.
        """
        question = MeasurementRequest("energy", self.window_s, self.windows, self.sysfs)
        key = {
            "model": described(candidate.blueprint),
            "workload": asdict(self.workload),
            "target": self.target.description(),
            "question": asdict(question),
        }
        with candidate.stopwatch.phase("energy"):
            record = candidate.cache.record(
                "energy",
                key,
                lambda: measured_alone(self.target, candidate.blueprint, self.workload, question),
            )
        return measurement(record)


def measurement(record: dict[str, Any]) -> Measurement:
    """Compute the energy per call from a record of windows; see `meters.energy`.

    Raises:
        Unmeasured: Calls used no more power than idling, so something else was running.
    """
    idle_mj, idle_s = (sum(window[place] for window in record["idle"]) for place in (0, 1))
    idle_mw = idle_mj / idle_s
    each = tuple((mj - idle_mw * seconds) / calls for mj, seconds, calls in record["windows"])
    value = median(each)
    if value <= 0:
        raise Unmeasured(
            f"energy could not be measured: the machine used as much at rest ({idle_mw / 1000:.3g} "
            "W) as under load; stop other processes and measure again"
        )
    spread = MAD_TO_DEVIATION * median(abs(one - value) for one in each)
    busy_mw = sum(one[0] for one in record["windows"]) / sum(one[1] for one in record["windows"])
    details: dict[str, float | str] = {
        "idle_w": idle_mw / 1000,
        "busy_w": busy_mw / 1000,
        "calls": float(sum(one[2] for one in record["windows"])),
        "meter": record["meter"],
    }
    return Measurement(value, spread, each, details)
