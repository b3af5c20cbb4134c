"""The energy a call takes, where the machine can tell."""

from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, ClassVar

from protege.objectives.candidate import Candidate
from protege.objectives.latency.device.meters import Absent, meter
from protege.objectives.latency.job import Question
from protege.objectives.latency.models import described
from protege.objectives.latency.targets.fresh_process import asked, setting_of
from protege.objectives.latency.targets.target import Target, Unmeasured
from protege.objectives.latency.timing.estimator import MAD_TO_DEVIATION
from protege.objectives.latency.workload import Workload
from protege.objectives.measurement import Cost, Direction, Measurement, name_of
from protege.spaces.errors import BadInput


@dataclass(frozen=True)
class Energy:
    """Energy of a call beyond what the machine uses doing nothing, in mJ.

    Windows of calls back to back, between two windows of rest, in a process of its own that times
    nothing; what the machine used at rest is subtracted. A processor is read by RAPL (its packages,
    and memory where that is counted apart), a graphics card by NVML's counter of energy, through
    zeus where it is installed, a Jetson by its INA3221. Whatever else runs meanwhile is counted
    too: figures are worth something on an otherwise idle machine alone, and `spread` tells.

    Attributes:
        target: Where the model runs.
        workload: What a call is.
        limit: The most millijoules that a call may take.
        label: Sets this objective apart from others of the study, as in ``energy_<label>_mj``.
        window_s: Seconds of a window; of shorter ones clocks and cooling have not settled.
        windows: Windows of calls.
        sysfs: Where the kernel tells of energy.

    Raises:
        BadInput: The machine has no meter, or the target is another machine.
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
    cost: ClassVar[Cost] = Cost.SECONDS

    def __post_init__(self) -> None:
        _ = self.name  # checks the label
        if self.window_s <= 0 or self.windows < 1:
            raise BadInput(
                f"window_s={self.window_s} and windows={self.windows}: expected more than 0 "
                "seconds and 1 window or more"
            )
        try:
            meter(setting_of(self.target).device, self.sysfs)
        except Absent as absent:
            raise BadInput(
                f"energy is not available here: {absent}; leave Energy out, or measure on a "
                "machine that counts it"
            ) from None

    @property
    def name(self) -> str:
        return name_of("energy", self.label, "mj")

    def measure(self, candidate: Candidate) -> Measurement:
        """The candidate's energy; from the cache when it, or its like, was measured before.

        Raises:
            BadInput: When the workload is not one for the model.
            Unmeasured: When the model cannot run, or the machine did more at rest.
        """
        question = Question("energy", self.window_s, self.windows, self.sysfs)
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
                lambda: asked(self.target, candidate.blueprint, self.workload, question),
            )
        return measurement(record)


def measurement(record: dict[str, Any]) -> Measurement:
    """What a record of windows says of a call; see `meters.energy`.

    Raises:
        Unmeasured: Calls took no more than rest did, so that something else was running.
    """
    idle_mj, idle_s = (sum(window[place] for window in record["idle"]) for place in (0, 1))
    idle_mw = idle_mj / idle_s
    each = tuple((mj - idle_mw * seconds) / calls for mj, seconds, calls in record["windows"])
    value = median(each)
    if value <= 0:
        raise Unmeasured(
            f"energy could not be measured: the machine used as much at rest ({idle_mw / 1000:.3g} "
            "W) as under load; see that nothing else runs"
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
