"""The energy that a machine counts, and what a call takes of it.

zeus alone does not serve here: this file runs on devices by itself, on Python 3.8 without packages,
while zeus needs Python 3.9 and ten packages, and polls RAPL from a process of its own while a call
is measured. It is asked for graphics cards where it is installed.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]
    Look = Callable[[Path], "Counter | Sampled"]

SAMPLE_S = 0.05
"""Between two looks at a sensor that tells power instead of counting energy."""

_WHOLE = ("VDD_IN", "POM_5V_IN")
"""The rails of a Jetson that feed all others."""


class Absent(Exception):
    """The machine has no meter; says which were looked for."""


class Counter:
    """Energy that hardware counts, from when this was made.

    Attributes:
        name: What is counted.
    """

    def __init__(self, name: str, read: Callable[[], list[float]], wraps: list[float]) -> None:
        """Of one or more counters in mJ, each with the value after which it starts again at 0."""
        self.name = name
        self._read, self._wraps = read, wraps
        self._last, self._total = read(), 0.0

    def mj(self) -> float:
        """So far, in mJ. A counter may have started again once since it was last asked."""
        now = self._read()
        for value, last, wrap in zip(now, self._last, self._wraps):  # noqa: B905 - Python 3.8
            self._total += value - last if value >= last else value - last + wrap
        self._last = now
        return self._total


class Sampled:
    """Energy added up from a sensor of power, from when this was made.

    Attributes:
        name: What is sensed.
    """

    def __init__(self, name: str, read: Callable[[], float], clock: Clock = time.monotonic) -> None:
        """Of a sensor in mW."""
        self.name = name
        self._read, self._clock, self._lock = read, clock, Lock()
        self._last, self._total = (clock(), read()), 0.0

    def mj(self) -> float:
        """So far, in mJ: power between two looks counts as their mean."""
        with self._lock:
            before_s, before_mw = self._last
            now_s, now_mw = self._last = (self._clock(), self._read())
            self._total += (now_s - before_s) * (before_mw + now_mw) / 2
            return self._total


def meter(device: str, sysfs: str = "/sys") -> Counter | Sampled:
    """The meter of a processor (``"cpu"``) or of a graphics card (any other device).

    Raises:
        Absent: There is none, or it cannot be read.
    """
    root = Path(sysfs)
    first: Look = _rapl if device == "cpu" else _nvidia
    looks: list[Look] = [first, _jetson]
    missing = []
    for look in looks:
        try:
            return look(root)
        except Absent as absent:
            missing.append(str(absent))
    raise Absent(", ".join(missing))


def energy(
    call: Callable[[], object],
    device: str,
    question: dict[str, Any],
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Energy of windows of calls back to back, between two windows of doing nothing.

    Args:
        call: A call of the model, which has been warmed up.
        device: What runs it; see `meter`.
        question: ``window_s``, how many ``windows``, and ``sysfs``.
        clock: Tells seconds.
        sleep: Waits so many of them.

    Returns:
        ``windows`` of calls, a list ``[mj, seconds, calls]`` each, and two of ``idle``.
    """
    found = meter(device, question["sysfs"])
    done = Event()
    if isinstance(found, Sampled):
        Thread(target=_look_often, args=(found, done), daemon=True).start()
    window_s = float(question["window_s"])

    def window(work: Callable[[], object]) -> list[float]:
        start_s, start_mj, count = clock(), found.mj(), 0
        while clock() - start_s < window_s:
            work()
            count += 1
        return [found.mj() - start_mj, clock() - start_s, count]

    try:
        before = window(lambda: sleep(window_s))
        busy = [window(call) for _ in range(question["windows"])]
        return {
            "meter": found.name,
            "windows": busy,
            "idle": [before, window(lambda: sleep(window_s))],
        }
    finally:
        done.set()


def _look_often(found: Sampled, done: Event) -> None:
    while not done.wait(SAMPLE_S):
        found.mj()


def _rapl(root: Path) -> Counter:
    """The packages of an Intel or AMD processor, and their memory where it is counted apart."""
    place = root / "class" / "powercap"
    zones = [
        zone
        for zone in sorted(place.glob("intel-rapl:*"))
        if _text(zone / "name").startswith(("package", "dram"))
    ]
    if not zones:
        raise Absent(f"no RAPL ({place}/intel-rapl:*)")
    if not all(os.access(str(zone / "energy_uj"), os.R_OK) for zone in zones):
        raise Absent(
            f"RAPL that only root may read (sudo chmod a+r {place}/intel-rapl:*/energy_uj)"
        )
    wraps = [_micro(zone / "max_energy_range_uj") for zone in zones]
    names = ", ".join(_text(zone / "name") for zone in zones)
    return Counter(f"RAPL: {names}", lambda: [_micro(zone / "energy_uj") for zone in zones], wraps)


def _micro(path: Path) -> float:
    return int(_text(path)) / 1000


def _nvidia(_root: Path) -> Counter:
    """The first graphics card that may be used, by zeus or by NVML itself."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0]
    index = int(first) if first.isdigit() else 0
    causes = []
    for name, opened in (("zeus", _by_zeus), ("pynvml", _by_nvml)):
        try:
            return Counter(f"NVIDIA GPU {index} by {name}", opened(index), [0.0])
        except ImportError:
            causes.append(f"{name} is not installed")
        except Exception as error:  # noqa: BLE001 - either library has errors of its own
            causes.append(f"{name}: {' '.join(str(error).split()) or type(error).__name__}")
    raise Absent(f"no NVIDIA GPU ({', '.join(causes)})")


def _by_zeus(_index: int) -> Callable[[], list[float]]:
    # it numbers the cards as CUDA does, those that may be used alone
    card = import_module("zeus.device.gpu").get_gpus().gpus[0]
    return lambda: [float(card.get_total_energy_consumption())]


def _by_nvml(index: int) -> Callable[[], list[float]]:
    nvml = import_module("pynvml")
    nvml.nvmlInit()
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    return lambda: [float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))]


def _jetson(root: Path) -> Sampled:
    """The board's INA3221: what goes into the module, or all rails where none tells that."""
    drivers = root / "bus" / "i2c" / "drivers"
    rails = {**_rails_by_hwmon(drivers), **_rails_by_iio(drivers)}
    if not rails:
        raise Absent(f"no Jetson sensors ({drivers}/ina3221*)")
    chosen = [name for name in rails if name in _WHOLE] or sorted(rails)
    return Sampled(f"INA3221: {', '.join(chosen)}", lambda: sum(rails[name]() for name in chosen))


def _rails_by_hwmon(drivers: Path) -> dict[str, Callable[[], float]]:
    """Power in mW of each rail by its name, as JetPack 5 and 6 tell it: volts times amperes."""
    found = {}
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):
        number = label.name[2 : -len("_label")]
        volts, amperes = (
            label.with_name(f"in{number}_input"),
            label.with_name(f"curr{number}_input"),
        )
        if volts.exists() and amperes.exists():
            found[_text(label)] = _product(volts, amperes)
    return found


def _rails_by_iio(drivers: Path) -> dict[str, Callable[[], float]]:
    """Power in mW of each rail by its name, as JetPack 4 tells it."""
    found = {}
    for label in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):
        power = label.with_name(f"in_power{label.name[-1]}_input")
        if power.exists():
            found[_text(label)] = _number(power)
    return found


def _product(volts: Path, amperes: Path) -> Callable[[], float]:
    return lambda: int(_text(volts)) * int(_text(amperes)) / 1000


def _number(path: Path) -> Callable[[], float]:
    return lambda: float(_text(path))


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
