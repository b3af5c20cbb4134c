from types import SimpleNamespace
from typing import Any

import pytest
import torch

from protege.objectives.latency import Workload
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.local.calls import call_of
from protege.objectives.latency.local.gpu import (
    EventClock,
    SynchronizedClock,
    clock_of,
    nvidia_state,
    peak_bytes,
    queue_bound,
    state,
)
from protege.spaces import Task
from tests.tiny import ZOO


class Queue:
    """A device that does what it is given one after the other, at a clock of its own."""

    def __init__(self) -> None:
        self.clock_ms = 0.0
        self.said: list[str] = []

    def synchronize(self) -> None:
        self.said.append("synchronize")

    def event(self) -> "Event":
        return Event(self)


class Event:
    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.at_ms = float("nan")

    def record(self) -> None:
        self.queue.said.append("record")
        self.at_ms = self.queue.clock_ms

    def synchronize(self) -> None:
        self.queue.said.append("await")

    def elapsed_time(self, end: "Event") -> float:
        return end.at_ms - self.at_ms


def test_a_call_on_a_device_is_timed_by_events_in_its_queue() -> None:
    queue = Queue()
    clock = EventClock(queue.synchronize, queue.event)
    start = clock.start()
    queue.clock_ms += 2.0
    prefilled = clock.now()
    queue.clock_ms += 5.0
    sample = clock.sample(start, prefilled, clock.now())
    assert (sample.prefill_wall_ms, sample.wall_ms) == (2.0, 7.0)
    assert sample.cpu_ms < 2.0  # it took no time to fill the queue
    # once before, so that the queue is empty; not in the middle; and once for the answer
    assert queue.said == ["synchronize", "record", "record", "record", "await"]


def test_a_device_without_events_is_waited_for_at_every_moment() -> None:
    queue = Queue()
    clock = SynchronizedClock(queue.synchronize)
    sample = clock.sample(clock.start(), clock.now(), clock.now())
    assert queue.said == ["synchronize"] * 3
    assert 0 <= sample.prefill_wall_ms <= sample.wall_ms


def test_models_are_called_by_the_watch_of_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Queue()
    monkeypatch.setattr(torch.cuda, "synchronize", queue.synchronize)
    monkeypatch.setattr(torch.cuda, "Event", lambda **_: queue.event())
    monkeypatch.setattr(torch.mps, "synchronize", queue.synchronize)
    clock_of("cpu").now()
    assert not queue.said
    clock_of("mps").now()
    assert queue.said == ["synchronize"]
    queue.said.clear()
    clock: Any = clock_of("cuda")
    clock.sample(clock.start(), clock.now(), clock.now())
    assert queue.said[:2] == ["synchronize", "record"]


def test_pixels_are_given_in_the_precision_of_the_model() -> None:
    model: Any = ZOO[f"vit-{Task.IMAGE_FEATURES}"].teacher().model
    model.to(torch.bfloat16)
    with torch.inference_mode():
        assert call_of(model, Workload(1, 8))().wall_ms > 0


def test_a_gpu_that_waits_for_the_processor_is_told_as_that() -> None:
    def sample(wall_ms: float, cpu_ms: float) -> Sample:
        return Sample(wall_ms, cpu_ms, 0, wall_ms, cpu_ms)

    assert queue_bound([sample(10.0, 9.5), sample(10.0, 2.0)]) == 0.5


def nvml(bits: int) -> Any:
    """What stands for NVIDIA's library where there is no card."""
    return SimpleNamespace(
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlDeviceGetClockInfo=lambda _handle, kind: {1: 1200}[kind],
        nvmlDeviceGetMaxClockInfo=lambda _handle, kind: {1: 2100}[kind],
        nvmlDeviceGetTemperature=lambda _handle, kind: {0: 71}[kind],
        nvmlDeviceGetPowerUsage=lambda _handle: 65_500,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _handle: bits,
    )


@pytest.mark.parametrize(
    ("bits", "slowed_by"),
    [
        (0x0, []),
        (0x1, []),  # it idles
        (0x4, ["power cap"]),
        (0x48, ["hardware slowdown", "hardware thermal slowdown"]),
    ],
)
def test_the_state_of_a_card_says_what_slows_it(bits: int, slowed_by: list[str]) -> None:
    assert nvidia_state(nvml(bits), None) == {
        "sm_mhz": 1200,
        "max_sm_mhz": 2100,
        "temperature_c": 71,
        "power_w": 65.5,
        "slowed_by": slowed_by,
    }


def test_what_has_no_gpu_has_nothing_to_tell_of_one() -> None:
    assert state("cpu") == {}
    assert peak_bytes("cpu") == {}
