"""Number formats, by the names that torch and Hugging Face give their types."""

from collections.abc import Iterable
from typing import Literal

from protege.spaces.errors import BadInput

Precision = Literal["float32", "bfloat16", "float16", "int8"]

TrainingPrecision = Literal["auto", "float32", "bfloat16"]
"""Precisions of training, ``auto`` being what the hardware is fast in; float16 is not among them,
for its gradients would need scaling."""

BYTES: dict[Precision, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
"""Size of one value, in bytes."""

_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def check_precision(precision: str, known: Iterable[str] = BYTES, where: str = "") -> None:
    """Refuse a precision that is not among those known.

    Args:
        precision: The precision as given.
        known: The precisions that are possible here.
        where: Words for the message that say where "here" is, such as `` on eager``.

    Raises:
        BadInput: It is not one of them; a short name such as ``bf16`` is told the right one.
    """
    if precision in known:
        return
    right = f"write {_SHORT[precision]!r}; " if precision in _SHORT else ""
    raise BadInput(f"precision={precision!r}{where}: {right}expected one of {', '.join(known)}")
