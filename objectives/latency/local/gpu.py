"""How a GPU tells the time and its state: by events in its own queue, and by NVIDIA's library."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import torch

from protege.objectives.latency.device.loop import Clocks, Sample, sample_of


class Watch(Protocol):
    """How moments are read on a device, and the call between three of them."""

    def start(self) -> Any:
        """The moment at which a call begins, the device having done all that it was given."""

    def now(self) -> Any:
        """A moment within a call, or its end."""

    def sample(self, start: Any, prefilled: Any, end: Any) -> Sample:
        """The call between two moments, with the one at which its prompt was done."""


class Processor:
    """Of what is done when the call returns."""

    def start(self) -> Clocks:
        return Clocks.now()

    def now(self) -> Clocks:
        return Clocks.now()

    def sample(self, start: Clocks, prefilled: Clocks, end: Clocks) -> Sample:
        return sample_of(start, prefilled, end)


class Awaited:
    """Of a device without a clock of its own: each moment is after all that it was given.

    Attributes:
        synchronize: Waits for the device.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.synchronize = synchronize

    def start(self) -> Clocks:
        return self.now()

    def now(self) -> Clocks:
        self.synchronize()
        return Clocks.now()

    def sample(self, start: Clocks, prefilled: Clocks, end: Clocks) -> Sample:
        return sample_of(start, prefilled, end)


class Marked(NamedTuple):
    """A moment on the device's clock, and when the processor asked for it."""

    event: Any
    clocks: Clocks


class Events:
    """Of a CUDA device: by events in its queue, so that nothing waits in the middle of a call.

    The processor's time of a call is what it takes to fill the queue.

    Attributes:
        synchronize: Waits for the device.
        event: Makes an event.
    """

    def __init__(self, synchronize: Callable[[], None], event: Callable[[], Any]) -> None:
        self.synchronize = synchronize
        self.event = event

    def start(self) -> Marked:
        self.synchronize()
        return self.now()

    def now(self) -> Marked:
        event = self.event()
        event.record()
        return Marked(event, Clocks.now())

    def sample(self, start: Marked, prefilled: Marked, end: Marked) -> Sample:
        end.event.synchronize()
        filling = sample_of(start.clocks, prefilled.clocks, end.clocks)
        return filling._replace(
            wall_ms=round(start.event.elapsed_time(end.event), 4),
            prefill_wall_ms=round(start.event.elapsed_time(prefilled.event), 4),
        )


def watch_on(device: str) -> Watch:
    """The watch of a device: ``"cpu"``, ``"cuda"`` or ``"mps"``."""
    if device == "cuda":
        return Events(torch.cuda.synchronize, lambda: torch.cuda.Event(enable_timing=True))
    if device == "mps":
        return Awaited(torch.mps.synchronize)
    return Processor()


def queue_bound(samples: Sequence[Sample]) -> float:
    """The share of calls, 0 to 1, that the GPU spent waiting for the processor to fill its queue.

    Where it is high, the model is not what takes the time: a larger batch would cost no more.
    """
    return sum(each.cpu_ms >= 0.9 * each.wall_ms for each in samples) / len(samples)


def state(device: str) -> dict[str, Any]:
    """The device's clocks and temperature, and what slows it, as far as it tells; else nothing."""
    if device != "cuda":
        return {}
    with suppress(Exception):  # no library, no driver, no right to ask: each has its own error
        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
        number = torch.cuda.current_device()
        # the library counts all devices, torch those that this process may see
        name = f"GPU-{torch.cuda.get_device_properties(number).uuid}"
        return nvidia_state(nvml, nvml.nvmlDeviceGetHandleByUUID(name))
    return {}


SLOWDOWNS: Mapping[int, str] = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""The bits of NVML's reasons for lower clocks (nvml.h, ``nvmlClocksEventReason``) but for idling
and for clocks that somebody has set."""


def nvidia_state(nvml: Any, handle: Any) -> dict[str, Any]:
    """What the management library says of a device."""
    bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return {
        "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "max_sm_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "slowed_by": [reason for bit, reason in SLOWDOWNS.items() if bits & bit],
    }


def peak_bytes(device: str) -> dict[str, int]:
    """What models have taken on the device so far: the most, where it keeps count of that."""
    if device == "cuda":
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    if device == "mps":
        return {"allocated_bytes": torch.mps.driver_allocated_memory()}
    return {}
