"""Numeric precisions, named as torch and Hugging Face name their dtypes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from protege.spaces.errors import BadInput

Precision = Literal["float32", "bfloat16", "float16", "int8"]

TrainingPrecision = Literal["auto", "float32", "bfloat16"]
"""Precisions of training; ``auto`` is bfloat16 if the hardware multiplies it natively. float16 is
left out because its gradients need loss scaling."""

BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
"""Bytes per value."""


@dataclass(frozen=True)
class Deployment:
    """How a student is run once it is deployed.

    Attributes:
        runtime: The runtime's name; ``eager`` and ``compile`` run PyTorch's own arithmetic.
        precision: The precision.
    """

    runtime: str
    precision: Precision

    def __str__(self) -> str:
        return f"{self.precision} on {self.runtime}"


_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def check_precision(precision: str, known: Iterable[str] = BYTES, where: str = "") -> None:
    """Raise if a precision is unknown.

    Args:
        precision: The precision to check.
        known: The allowed precisions.
        where: Context for the error message, such as `` on eager``.

    Raises:
        BadInput: The precision is not in `known`. For a short name such as ``bf16`` the message
            gives the full name.
    """
    if precision in known:
        return
    right = f"write {_SHORT[precision]!r}; " if precision in _SHORT else ""
    raise BadInput(f"precision={precision!r}{where}: {right}expected one of {', '.join(known)}")
