"""Measure the memory and energy of one model under PyTorch; runs in a fresh process."""

import os
from collections.abc import Callable
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import torch
from transformers import PreTrainedModel

from protege.objectives.latency.device.main import arrange
from protege.objectives.latency.device.meters import energy
from protege.objectives.latency.device.resources import CALLS, footprint, resident_bytes
from protege.objectives.latency.job import MeasuringJob
from protege.objectives.latency.local.calls import Call, call_of, ready


def memory(job: MeasuringJob) -> dict[str, float]:
    """Measure peak memory of the job's one model, in MB of 10**6 bytes.

    The parent process has only imported the libraries, so its resident size is ``imports_mb``.
    Pages shared with it are resident at the start and not counted in the peaks.
    """
    (model,), device = job.models, job.setting.device
    torch.set_num_threads(job.setting.threads)
    loaded: list[PreTrainedModel] = []

    def load() -> Call:
        loaded.append(ready(model, job.setting))
        return call_of(loaded[0], job.workload)

    with torch.inference_mode():
        peaks = footprint(load) if device == "cpu" else footprint_on(_memory_of(device), load)
    imports_mb = resident_bytes(str(os.getppid())) / 1e6
    weights_mb = sum(weight.nbytes for weight in loaded[0].parameters()) / 1e6
    return {**peaks, "imports_mb": imports_mb, "artifact_mb": weights_mb}


def used(job: MeasuringJob) -> dict[str, Any]:
    """Measure energy of the job's one model in windows of calls; see `meters.energy`."""
    (model,), setting = job.models, job.setting
    arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    with torch.inference_mode():
        call = call_of(ready(model, setting), job.workload)
        for _ in range(CALLS):
            call()
        return energy(call, setting.device, asdict(job.question))


def footprint_on(device: Any, load: Callable[[], Callable[[], object]]) -> dict[str, float]:
    """Measure peak tensor memory on a GPU, in MB of 10**6 bytes.

    Memory of the driver and of libraries is not counted.

    Args:
        device: `torch.cuda`, or an object with its memory statistics.
        load: Loads the model and returns a call of it.

    Returns:
        ``load_peak_mb``, ``run_peak_mb``, and ``reserved_mb``, which PyTorch took from the driver.
    """
    device.reset_peak_memory_stats()
    call = load()
    load_mb = device.max_memory_allocated() / 1e6
    device.reset_peak_memory_stats()
    for _ in range(CALLS):
        call()
    return {
        "load_peak_mb": load_mb,
        "run_peak_mb": device.max_memory_allocated() / 1e6,
        "reserved_mb": device.max_memory_reserved() / 1e6,
    }


def _memory_of(device: str) -> Any:
    if device == "cuda":
        torch.cuda.init()  # statistics do not exist before
        return torch.cuda
    # an Apple GPU has no peaks, but PyTorch keeps all that the driver allocated
    held = torch.mps.driver_allocated_memory
    return SimpleNamespace(
        reset_peak_memory_stats=torch.mps.empty_cache,
        max_memory_allocated=held,
        max_memory_reserved=held,
    )
