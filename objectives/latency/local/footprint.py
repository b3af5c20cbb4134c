"""What PyTorch needs to run one model: memory and energy, told by a process of its own."""

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
    """Peaks of the job's one model, in MB of 10**6 bytes.

    The runner has imported everything and done nothing else, so that it tells what imports take;
    pages that this process has in common with it are there at the start and so not counted.
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
    """Energy of the job's one model, in windows of calls; see `meters.energy`."""
    (model,), setting = job.models, job.setting
    arrange(list(setting.cores), setting.priority)
    torch.set_num_threads(setting.threads)
    with torch.inference_mode():
        call = call_of(_loaded(model, setting), job.workload)
        for _ in range(CALLS):
            call()
        return energy(call, setting.device, asdict(job.question))


class MemoryOfDevice(Protocol):
    """What `torch.cuda` tells of the memory of a graphics card, in bytes."""

    def reset_peak_memory_stats(self) -> None:
        """Let the peak begin at what is held now."""

    def max_memory_allocated(self) -> int:
        """The most that tensors took."""

    def max_memory_reserved(self) -> int:
        """The most that was taken from the driver for them."""


def footprint_on(
    device: MemoryOfDevice, load: Callable[[], Callable[[], object]]
) -> dict[str, Any]:
    """Peaks of loading a model and of calling it, of tensors on a graphics card.

    What its driver and its libraries take there is not counted; ``reserved_mb`` is what PyTorch
    kept for tensors.
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
    torch.cuda.init()  # it has no figures before
    return torch.cuda


class _Metal:
    """Metal tells no peaks; but what its driver has given, PyTorch keeps."""

    def reset_peak_memory_stats(self) -> None:
        torch.mps.empty_cache()

    def max_memory_allocated(self) -> int:
        return torch.mps.driver_allocated_memory()

    def max_memory_reserved(self) -> int:
        return torch.mps.driver_allocated_memory()


def _loaded(model: Model, setting: Setting) -> PreTrainedModel:
    """The module as it is to run, built in its precision: never first in a larger one."""
    precision = getattr(torch, setting.precision)
    torch.set_default_dtype(precision)
    module: PreTrainedModel = model.build().to(precision).to(setting.device)
    if setting.runtime == "compile":
        module.compile()
    return module


def _bytes(model: PreTrainedModel) -> int:
    """The size of the weights; tied ones once."""
    return sum(weight.nbytes for weight in model.parameters())
