"""What one process hands to others in a file."""

import os
from pathlib import Path
from pickle import PicklingError
from typing import Any

import cloudpickle
import torch

from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic
from protege.spaces.files.private import check_untampered


def hand_over(content: Any, path: Path, what: str, advice: str) -> None:
    """Write it to a file of mode 0600 whose tensors others map instead of copying them.

    Classes and functions that were defined in a script or a notebook go along.

    Args:
        content: What they are told; `unpacked` gives it to them.
        path: The file.
        what: It is, as a person is told.
        advice: How it can be made such that it may leave this process.

    Raises:
        BadInput: Something in it cannot.
        DiskFull: There is no room for it.
    """
    try:
        # a file of Python's own: one that torch has opened does not say that the disk is full
        with atomic(path) as scratch, open(scratch, "xb", opener=_owner_only) as file:
            torch.save(content, file, pickle_module=cloudpickle)
    except (PicklingError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{what} cannot be sent to another process ({error}); {advice}") from error


def unpacked(path: Path) -> Any:
    """Return what `hand_over` wrote there, its tensors mapped from the file by each process.

    Raises:
        BadInput: Another user wrote the file, or could have: to unpickle it is to run it.
    """
    check_untampered(path)
    return torch.load(path, mmap=True, weights_only=False)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
