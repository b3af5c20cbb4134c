"""Read the clock of a device by events in its queue, and a GPU's state by NVML."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch

from protege.objectives.latency.device.loop import Clocks, Sample, sample_of
from protege.objectives.latency.device.meters import nvml_device


class SynchronizedClock:
    """A clock whose marks wait for the device; a processor has nothing to wait for."""

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.synchronize = synchronize

    def start(self) -> Clocks:
        """Mark the start of a call."""
        return self.now()

    def now(self) -> Clocks:
        """Mark a point within a call, or its end."""
        self.synchronize()
        return Clocks.now()

    def sample(self, start: Any, prefilled: Any, end: Any) -> Sample:
        """Return the sample of a call from the marks at its start, after its prompt, at its end."""
        return sample_of(start, prefilled, end)


class EventMark(NamedTuple):
    """A CUDA event, and the processor's clocks when it was recorded."""

    event: Any
    clocks: Clocks


class EventClock:
    """The clock of a CUDA device: events in its queue, so that no call waits in the middle.

    A call's processor time is the time to fill the queue.
    """

    def __init__(self, synchronize: Callable[[], None], event: Callable[[], Any]) -> None:
        self.synchronize = synchronize
        self.event = event

    def start(self) -> EventMark:
        self.synchronize()
        return self.now()

    def now(self) -> EventMark:
        event = self.event()
        event.record()
        return EventMark(event, Clocks.now())

    def sample(self, start: Any, prefilled: Any, end: Any) -> Sample:
        end.event.synchronize()
        filling = sample_of(start.clocks, prefilled.clocks, end.clocks)
        return filling._replace(
            wall_ms=round(start.event.elapsed_time(end.event), 4),
            prefill_wall_ms=round(start.event.elapsed_time(prefilled.event), 4),
        )


DeviceClock = SynchronizedClock | EventClock


def clock_of(device: str) -> DeviceClock:
    """Return the clock of a device: ``"cpu"``, ``"cuda"`` or ``"mps"``."""
    if device == "cuda":
        return EventClock(torch.cuda.synchronize, lambda: torch.cuda.Event(enable_timing=True))
    if device == "mps":
        return SynchronizedClock(torch.mps.synchronize)
    return SynchronizedClock()


def queue_bound(samples: Sequence[Sample]) -> float:
    """Return the share of calls, 0 to 1, in which filling the queue took 90 % of the time or more.

    If it is high, the processor is the bottleneck: a larger batch would take no longer.
    """
    return sum(each.cpu_ms >= 0.9 * each.wall_ms for each in samples) / len(samples)


def state(device: str) -> dict[str, Any]:
    """Return a CUDA device's clocks, temperature, power and slowdowns; empty if unavailable."""
    if device == "cuda":
        with suppress(Exception):  # a missing library, driver or permission has its own errors
            return nvidia_state(*nvml_device())
    return {}


SLOWDOWNS: Mapping[int, str] = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}
"""The bits of NVML's reasons for lower clocks (nvml.h, ``nvmlClocksEventReason``), except idling
and clocks set by the user."""


def nvidia_state(nvml: Any, handle: Any) -> dict[str, Any]:
    """Return a device's clocks, temperature, power and slowdowns from NVML."""
    bits = int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return {
        "sm_mhz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
        "max_sm_mhz": nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
        "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
        "power_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "slowed_by": [reason for bit, reason in SLOWDOWNS.items() if bits & bit],
    }


def peak_bytes(device: str) -> dict[str, int]:
    """Return the peak memory of a CUDA device, or the current memory of an Apple GPU, in bytes."""
    if device == "cuda":
        return {
            "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
            "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    if device == "mps":
        return {"allocated_bytes": torch.mps.driver_allocated_memory()}
    return {}
