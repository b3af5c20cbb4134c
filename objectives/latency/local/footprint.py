"""Measure the memory and energy of one model under PyTorch; runs in a fresh process."""

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

import torch
from transformers import PreTrainedModel

from protege.objectives.latency.device.main import arrange
from protege.objectives.latency.device.meters import energy
from protege.objectives.latency.device.resources import CALLS, footprint, resident_bytes
from protege.objectives.latency.job import Job, Setting
from protege.objectives.latency.local.calls import Call, call_of
from protege.objectives.latency.models import Model


def memory(job: Job) -> dict[str, float]:
    """Measure peak memory of the job's one model, in MB of 10**6 bytes.

    The parent process has only imported the libraries, so its resident size is ``imports_mb``.
    Pages shared with it are resident at the start and not counted in the peaks.
    """
    (model,), device = job.models, job.setting.device
    torch.set_num_threads(job.setting.threads)
    loaded: list[PreTrainedModel] = []

    def load() -> Call:
        loaded.append(_loaded(model, job.setting))
        return call_of(loaded[0], job.workload)

    with torch.inference_mode():
        peaks = footprint(load) if device == "cpu" else footprint_on(_memory_of(device), load)
    imports_mb = resident_bytes(str(os.getppid())) / 1e6
    return {**peaks, "imports_mb": imports_mb, "artifact_mb": _bytes(loaded[0]) / 1e6}


def used(job: Job) -> dict[str, Any]:
    """Measure energy of the job's one model in windows of calls; see `meters.energy`."""
    (model,), setting = job.models, job.setting
    arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    with torch.inference_mode():
        call = call_of(_loaded(model, setting), job.workload)
        for _ in range(CALLS):
            call()
        return energy(call, setting.device, asdict(job.question))


class MemoryOfDevice(Protocol):
    """The memory statistics of `torch.cuda`, in bytes."""

    def reset_peak_memory_stats(self) -> None:
        """Reset the peaks to the current values."""

    def max_memory_allocated(self) -> int:
        """Return the peak memory of tensors."""

    def max_memory_reserved(self) -> int:
        """Return the peak memory that PyTorch took from the driver."""


def footprint_on(
    device: MemoryOfDevice, load: Callable[[], Callable[[], object]]
) -> dict[str, Any]:
    """Measure peak tensor memory on a GPU, in MB of 10**6 bytes.

    Memory of the driver and of libraries is not counted.

    Args:
        device: The memory statistics.
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


def _memory_of(device: str) -> MemoryOfDevice:
    if device != "cuda":
        return _Metal()
    torch.cuda.init()  # statistics do not exist before
    return torch.cuda


class _Metal:
    """Memory of an Apple GPU: no peaks, but PyTorch keeps all that the driver allocated."""

    def reset_peak_memory_stats(self) -> None:
        torch.mps.empty_cache()

    def max_memory_allocated(self) -> int:
        return torch.mps.driver_allocated_memory()

    def max_memory_reserved(self) -> int:
        return torch.mps.driver_allocated_memory()


def _loaded(model: Model, setting: Setting) -> PreTrainedModel:
    """Build the module directly in its precision, so that the peak holds no float32 copy."""
    precision = getattr(torch, setting.precision)
    torch.set_default_dtype(precision)
    module: PreTrainedModel = model.build().to(precision).to(setting.device)
    if setting.runtime == "compile":
        module.compile()
    return module


def _bytes(model: PreTrainedModel) -> int:
    """Return the size of the weights in bytes, tied weights counted once."""
    return sum(weight.nbytes for weight in model.parameters())
