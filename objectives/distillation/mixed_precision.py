"""The device and the precision of forward passes in training.

accelerate's `Accelerator` does not fit: it keeps device and precision in process-wide state and
raises if a second instance has another precision, but trainings with different settings alternate
in one process. Nor does it keep attention in float32 (see below).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from protege.objectives.machine.precision import TrainingPrecision


def device_of(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA if available, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def is_fast_in_bf16(device: torch.device) -> bool:
    """Return whether the hardware has bf16 matrix multiplication: AMX, or CUDA from Ampere on.

    The bf16 instructions of AVX-512 do not count: they halve memory traffic, but the conversions
    cost more than that saves.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@contextmanager
def autocast(precision: TrainingPrecision, device: torch.device) -> Iterator[None]:
    """Run matrix products of the block in bf16, if requested or, with ``auto``, natively fast."""
    if precision == "float32" or (precision == "auto" and not is_fast_in_bf16(device)):
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        if device.type != "cpu":
            yield
            return
        with _AttentionInFull():
            yield


class _AttentionInFull(TorchFunctionMode):
    """A mode that runs attention in fp32 under CPU autocast.

    The backward pass of torch's fused CPU attention is several times slower in bf16 than in fp32:
    it took half of a training step of all-MiniLM-L6-v2 on AMX.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        if func is not scaled_dot_product_attention or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        kwargs = kwargs or {}
        given = (*args, *kwargs.values())[0].dtype
        with torch.autocast("cpu", enabled=False):
            full = [one.float() if _is_floating(one) else one for one in args]
            named = {
                name: one.float() if _is_floating(one) else one for name, one in kwargs.items()
            }
            return func(*full, **named).to(given)


def _is_floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
