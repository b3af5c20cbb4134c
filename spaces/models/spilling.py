"""Move weights to memory-mapped files, which the kernel can evict when memory is short."""

from pathlib import Path

from transformers import PreTrainedModel

from protege.spaces.files.block_file import on_disk
from protege.spaces.files.memory import free_disk_bytes
from protege.spaces.models.placement import is_sharded


def can_spill(model: PreTrainedModel, folder: Path) -> bool:
    """Return whether the weights are in main memory and the disk has room for them twice."""
    if is_sharded(model) or model.device.type != "cpu":
        return False
    return 2 * sum(one.nbytes for one in model.parameters()) < free_disk_bytes(folder)


def spill(model: PreTrainedModel, folder: Path) -> None:
    """Move a model's parameters to memory-mapped files, in place.

    The files are unlinked at once, so they vanish with the model or the process.

    Args:
        model: The model.
        folder: The folder of the files.
    """
    for parameter in model.parameters():
        mapped = on_disk(tuple(parameter.shape), folder, parameter.dtype)
        parameter.data = mapped.copy_(parameter.data)
