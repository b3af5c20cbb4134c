"""The device and the precision of a training's forward passes.

accelerate's `Accelerator` does not fit here: it keeps device and precision in state that the whole
process shares and raises when a second one asks for another precision, while trainings of several
settings take turns in one process; nor does it keep attention in float32 (see below).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from protege.objectives.precision import TrainingPrecision


def device_of(name: str) -> torch.device:
    """The device of that name; ``auto`` is a CUDA device where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def is_fast_in_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices of bf16 itself: AMX, or CUDA from Ampere on.

    AVX-512's bf16 alone halves memory traffic, but not by enough to make up for the conversions.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16"))


@contextmanager
def autocast(precision: TrainingPrecision, device: torch.device) -> Iterator[None]:
    """Matrix products in bf16 inside the block where asked for, or where the hardware has them."""
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
    """Attention in fp32 under autocast.

    torch's fused attention for the CPU has a backward pass in bf16 that is several times slower
    than the one in fp32: of a training step of all-MiniLM-L6-v2 on AMX it took half.
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
