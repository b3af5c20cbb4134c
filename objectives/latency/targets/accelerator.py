"""A GPU of this machine as a target."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from protege.objectives.latency.job import MeasurementRequest, MeasuringJob, TorchSettings, Trace
from protege.objectives.latency.local.fork_server import SERVER
from protege.objectives.latency.models import Model
from protege.objectives.latency.runtimes.runtimes import runtime_named
from protege.objectives.latency.targets.target import label_of, measured
from protege.objectives.latency.workload import Plan, Workload
from protege.objectives.machine.precision import Precision
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput

WARM_UP_S = 1.0
"""Minimum seconds of warm-up: a GPU raises its clocks under load."""

_HOST_THREADS = 2
"""More than one, so that processor time never replaces a GPU's time; see `grade`."""


@checks_fields
@dataclass(frozen=True)
class Accelerator:
    """A GPU of this machine, run by PyTorch.

    A CUDA device is timed by events in its queue, an Apple GPU by wall time, synchronized before
    and after each call. A trace's environment holds clocks, temperature and reasons for lower
    clocks before and after (if ``nvidia-ml-py`` is installed), the peak memory of both models
    together, and the share of calls in which the GPU waited for the processor.

    Attributes:
        device: ``"cuda"``, torch's current device, or ``"mps"``.
        runtime: ``"eager"``, or ``"compile"`` for `torch.compile`.
        precision: ``"float32"``, ``"float16"`` or ``"bfloat16"``.

    Raises:
        BadInput: There is no such device, or it does not support the runtime or the precision.
    """

    device: Literal["cuda", "mps"] = "cuda"
    runtime: Literal["eager", "compile"] = "eager"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.device not in _DEVICES:
            raise BadInput(f"device={self.device!r}: expected one of {', '.join(_DEVICES)}")
        if self.runtime not in {"eager", "compile"}:
            raise BadInput(
                f"runtime={self.runtime!r} on {self.device}: expected eager or compile; models are "
                "exported for processors alone"
            )
        runtime_named(self.runtime, self.precision)
        absent = why_absent(self.device)
        if absent:
            raise BadInput(f"no {_DEVICES[self.device]} device here: {absent}")
        if self.precision == "bfloat16" and not _calculates_in_bfloat16(self.device):
            raise BadInput("precision='bfloat16': this GPU does not support it; use float16")

    @property
    def threads(self) -> int:
        return _HOST_THREADS

    @property
    def label(self) -> str:
        return label_of(f"{self.device}, {self.runtime}", self.precision)

    def description(self) -> Mapping[str, Any]:
        return {
            "device": self.device,
            "name": device_name(self.device),
            "runtime": self.runtime,
            "precision": self.precision,
            "versions": runtime_named(self.runtime).versions() | {"cuda": torch.version.cuda},
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        return Trace.of(measured(self, models, workload, plan, MeasurementRequest()))

    @property
    def setting(self) -> TorchSettings:
        return TorchSettings(self.threads, self.runtime, self.precision, self.device)

    def ask(
        self, models: Sequence[Model], workload: Workload, plan: Plan, question: MeasurementRequest
    ) -> dict[str, Any]:
        plan = replace(plan, warm_up_s=max(plan.warm_up_s, WARM_UP_S))
        return SERVER.exchange(MeasuringJob(tuple(models), workload, self.setting, plan, question))


_DEVICES = {"cuda": "CUDA", "mps": "MPS"}


def why_absent(device: str) -> str:
    """Return why torch has no such device and what to do; empty if it has one."""
    if device == "mps":
        if torch.backends.mps.is_available():
            return ""
        return f"this is {platform.system()} on {platform.machine()}; it takes an Apple GPU"
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA; install one that is built with it"
    return f"torch {torch.__version__} finds none; run nvidia-smi to check the driver"


def _calculates_in_bfloat16(device: str) -> bool:
    # older NVIDIA GPUs emulate it, slower than float32
    return device != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


def device_name(device: str) -> str:
    """Return the device's name; for an Apple GPU the machine's architecture."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.machine()
