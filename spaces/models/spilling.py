"""Weights in memory-mapped files, which the kernel may drop from memory when it is short."""

from pathlib import Path

from transformers import PreTrainedModel

from protege.spaces.files.block_file import on_disk
from protege.spaces.files.memory import free_disk_bytes
from protege.spaces.models.placement import is_sharded


def can_spill(model: PreTrainedModel, folder: Path) -> bool:
    """Whether the weights lie in this machine's memory and the disk has room for them twice."""
    if is_sharded(model) or model.device.type != "cpu":
        return False
    return 2 * sum(one.nbytes for one in model.parameters()) < free_disk_bytes(folder)


def spill(model: PreTrainedModel, folder: Path) -> None:
    """Move a model's parameters, one after the other, to files without a name.

    Their values stay the same; the files vanish with the model or the process.

    Args:
        model: The model; its parameters are replaced in place.
        folder: Where the files are.
    """
    for parameter in model.parameters():
        mapped = on_disk(tuple(parameter.shape), folder, parameter.dtype)
        parameter.data = mapped.copy_(parameter.data)
