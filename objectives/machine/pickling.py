"""Files that pass Python objects from one process to others of the same user."""

import os
from pathlib import Path
from pickle import PicklingError
from typing import Any

import cloudpickle
import torch

from protege.spaces import BadInput
from protege.spaces.files.atomic import atomic
from protege.spaces.files.private import check_untampered


def write_pickle(content: Any, path: Path, what: str, advice: str) -> None:
    """Pickle an object to a file of mode 0600, for other processes to load with `read_pickle`.

    Classes and functions defined in a script or a notebook are pickled by value. Readers
    memory-map the tensors.

    Args:
        content: The object.
        path: The file.
        what: Name of the object in the error message.
        advice: What the user can do if the object cannot be pickled.

    Raises:
        BadInput: The object cannot be pickled.
        DiskFull: The disk is full.
    """
    try:
        # opened by Python: torch.save to a path does not report a full disk
        with atomic(path) as scratch, open(scratch, "xb", opener=_owner_only) as file:
            torch.save(content, file, pickle_module=cloudpickle)
    except (PicklingError, TypeError, AttributeError, ValueError) as error:
        raise BadInput(f"{what} cannot be sent to another process ({error}); {advice}") from error


def read_pickle(path: Path) -> Any:
    """Load an object that `write_pickle` wrote; its tensors are memory-mapped.

    Raises:
        BadInput: Another user wrote the file or could have: unpickling runs code.
    """
    check_untampered(path)
    return torch.load(path, mmap=True, weights_only=False)


def _owner_only(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
