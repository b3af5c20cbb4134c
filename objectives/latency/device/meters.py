"""Read energy meters, and measure the energy of calls.

zeus is not used: this file also runs where only Python 3.8 is installed, and zeus reads RAPL and
Jetson sensors with help of processes that import the main module again and outlive a forked one.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]
    Look = Callable[[Path], "Counter | Sampled"]

SAMPLE_S = 0.05
"""Seconds between two readings of a power sensor."""

_WHOLE = ("VDD_IN", "POM_5V_IN")
"""The rails of a Jetson that supply the whole module."""


class NoMeter(Exception):
    """The machine has no meter; the message lists those looked for."""


class Counter:
    """A hardware energy counter, starting at 0 when created."""

    def __init__(self, name: str, read: Callable[[], list[float]], wraps: list[float]) -> None:
        """Start counting; `read` returns counters in mJ, which wrap around to 0 at `wraps`."""
        self.name = name
        self._read, self._wraps = read, wraps
        self._last, self._total = read(), 0.0

    def mj(self) -> float:
        """Return the energy so far in mJ; counters may wrap around once between calls."""
        now = self._read()
        for value, last, wrap in zip(now, self._last, self._wraps):  # noqa: B905 - Python 3.8
            self._total += value - last if value >= last else value - last + wrap
        self._last = now
        return self._total


class Sampled:
    """Energy integrated from a power sensor, starting at 0 when created."""

    def __init__(self, name: str, read: Callable[[], float], clock: Clock = time.monotonic) -> None:
        """Start integrating; `read` returns mW, `clock` seconds."""
        self.name = name
        self._read, self._clock, self._lock = read, clock, Lock()
        self._last, self._total = (clock(), read()), 0.0

    def mj(self) -> float:
        """Return the energy so far in mJ, by the trapezoidal rule between readings."""
        with self._lock:
            before_s, before_mw = self._last
            now_s, now_mw = self._last = (self._clock(), self._read())
            self._total += (now_s - before_s) * (before_mw + now_mw) / 2
            return self._total


def meter(device: str, sysfs: str = "/sys") -> Counter | Sampled:
    """Return the meter of a processor (``"cpu"``) or of a GPU (any other device).

    Raises:
        NoMeter: There is none, or it cannot be read.
    """
    root = Path(sysfs)
    first: Look = _rapl if device == "cpu" else _nvidia
    looks: list[Look] = [first, _jetson]
    missing = []
    for look in looks:
        try:
            return look(root)
        except NoMeter as absent:
            missing.append(str(absent))
    raise NoMeter(", ".join(missing))


def energy(
    call: Callable[[], object],
    device: str,
    question: dict[str, Any],
    clock: Clock = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Measure the energy of windows of back-to-back calls, between two idle windows.

    Args:
        call: A call of the warmed-up model.
        device: The device that runs it; see `meter`.
        question: ``window_s``, the number of ``windows``, and ``sysfs``.
        clock: Returns seconds.
        sleep: Sleeps for some seconds.

    Returns:
        The ``meter``'s name, the ``windows`` of calls and two ``idle`` windows, each a list
        ``[mj, seconds, calls]``.
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
    """Return the RAPL counter of processor packages, and of DRAM if it is counted separately."""
    place = root / "class" / "powercap"
    zones = [
        zone
        for zone in sorted(place.glob("intel-rapl:*"))
        if _text(zone / "name").startswith(("package", "dram"))
    ]
    if not zones:
        raise NoMeter(f"no RAPL ({place}/intel-rapl:*)")
    if not all(os.access(str(zone / "energy_uj"), os.R_OK) for zone in zones):
        raise NoMeter(
            f"RAPL, which only root may read (sudo chmod a+r {place}/intel-rapl:*/energy_uj)"
        )
    wraps = [_number(zone / "max_energy_range_uj") / 1000 for zone in zones]
    names = ", ".join(_text(zone / "name") for zone in zones)
    return Counter(
        f"RAPL: {names}", lambda: [_number(zone / "energy_uj") / 1000 for zone in zones], wraps
    )


def _nvidia(_root: Path) -> Counter:
    """Return the counter of torch's current CUDA device."""
    try:
        nvml, handle = nvml_device()
        name = str(nvml.nvmlDeviceGetName(handle))
        return Counter(name, lambda: [float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))], [0])
    except ImportError:
        cause = "nvidia-ml-py is not installed"
    except Exception as error:  # noqa: BLE001 - torch and NVML raise errors of their own
        cause = " ".join(str(error).split()) or type(error).__name__
    raise NoMeter(f"no NVIDIA GPU ({cause})")


def nvml_device() -> tuple[Any, Any]:
    """Return NVML's module, and its handle of torch's current CUDA device."""
    nvml, cuda = import_module("pynvml"), import_module("torch").cuda
    nvml.nvmlInit()
    # NVML numbers all devices, torch only the visible ones
    uuid = cuda.get_device_properties(cuda.current_device()).uuid
    return nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")


def _jetson(root: Path) -> Sampled:
    """Return the power of a Jetson's INA3221: the module's rail, or the sum of all rails."""
    drivers = root / "bus" / "i2c" / "drivers"
    rails = _rails(drivers)
    if not rails:
        raise NoMeter(f"no Jetson sensors ({drivers}/ina3221*)")
    chosen = [name for name in rails if name in _WHOLE] or sorted(rails)
    return Sampled(f"INA3221: {', '.join(chosen)}", lambda: sum(rails[name]() for name in chosen))


def _rails(drivers: Path) -> dict[str, Callable[[], float]]:
    """Return readers of each rail's power in mW, by the rail's name."""
    found: dict[str, Callable[[], float]] = {}
    for label in sorted(drivers.glob("ina3221/*/hwmon/hwmon*/in*_label")):  # JetPack 5 and 6
        volts = label.with_name(label.name.replace("label", "input"))
        amperes = volts.with_name(volts.name.replace("in", "curr", 1))
        if volts.exists() and amperes.exists():
            found[_text(label)] = partial(_product, volts, amperes)
    for label in sorted(drivers.glob("ina3221x/*/iio:device*/rail_name_*")):  # JetPack 4
        power = label.with_name(f"in_power{label.name[-1]}_input")
        if power.exists():
            found[_text(label)] = partial(_number, power)
    return found


def _product(volts: Path, amperes: Path) -> float:
    return _number(volts) * _number(amperes) / 1000


def _number(path: Path) -> float:
    return float(_text(path))


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
