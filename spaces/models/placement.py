"""Models on several devices, in main memory, or on disk.

accelerate's hooks move weights and inputs to the device of each module. `weights` and `values`
bring tensors to the CPU.
"""

import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from protege.spaces.errors import BadInput, Unsupported
from protege.spaces.families.family import Family
from protege.spaces.files.block_file import on_disk
from protege.spaces.files.memory import free_disk_bytes
from protege.spaces.models.sharing import first_names, is_sharded

Place = int | str | torch.device
"""A device, or ``"disk"`` in a device map."""


def placed(
    device_map: Place | Mapping[str, Place] | None,
    max_memory: Mapping[int | str, int | str] | None,
    offload_folder: str | Path | None,
) -> dict[str, Any]:
    """Return the given options as arguments of ``from_pretrained``.

    Raises:
        BadInput: Another option is given without a device map.
    """
    every = {"device_map": device_map, "max_memory": max_memory, "offload_folder": offload_folder}
    given = {name: value for name, value in every.items() if value is not None}
    if given and device_map is None:
        raise BadInput(
            f"{' and '.join(given)} without device_map: expected a placement of the teacher's "
            'weights, such as device_map="auto"'
        )
    return given


def elsewhere(loaded_with: Mapping[str, Any]) -> dict[str, Any]:
    """Return load options for another process, with an offload folder of its own.

    The given folder's files are memory-mapped by other processes and must not be overwritten.
    """
    folder = loaded_with.get("offload_folder")
    if folder is None:
        return dict(loaded_with)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return {**loaded_with, "offload_folder": tempfile.mkdtemp(dir=folder)}


@contextmanager
def as_bad_placement(placement: Mapping[str, Any]) -> Iterator[None]:
    """Turn errors of accelerate and torch for an invalid placement into `BadInput`."""
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, LookupError, TypeError, ImportError) as error:
        if not placement:
            raise
        lines = str(error).strip().splitlines()
        given = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in placement.items())
        raise BadInput(
            f'{given}: expected "auto", a device, or for each module an available device, "cpu" '
            f'or "disk" ({lines[0] if lines else type(error).__name__})'
        ) from error


def joined(model: PreTrainedModel, family: Family) -> None:
    """Make a model that is not on the CPU accept inputs on any device and return outputs there.

    accelerate does so for whole models on several devices. This adds it for models on a single
    device, and for the base model, which is called directly too.

    Raises:
        Unsupported: Weights are on disk, and the family's modules read weights of other modules.
    """
    if family.reads_aside and any(one.is_meta for one in model.parameters()):
        raise Unsupported(
            f"a {family.name} with weights offloaded: its modules read each other's weights, which "
            "accelerate does not load from disk then; give a device_map without disk"
        )
    if not is_sharded(model) and model.device.type == "cpu":
        return
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    inner: Any = model.base_model
    for module in (model, inner):
        if not is_sharded(module):
            hook = AlignDevicesHook(execution_device=model.device, io_same_device=True)
            add_hook_to_module(module, hook)


def weights(model: PreTrainedModel) -> Mapping[str, Tensor]:
    """Return the model's state dict on the CPU.

    For a sharded model each access copies the tensor to the CPU, so that only tensors in use take
    memory.
    """
    return _TensorsOnCpu(model) if is_sharded(model) else model.state_dict()


def values(module: nn.Module, name: str = "weight") -> Tensor:
    """Return a tensor of a module on the CPU, without a copy if it is there already."""
    own: Tensor = getattr(module, name)
    if own.is_meta:
        hook: Any = getattr(module, "_hf_hook", None)
        hooks = (one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False))
        own = next((one.weights_map[name] for one in hooks), own)
    return own.detach().cpu()


class _TensorsOnCpu(Mapping[str, Tensor]):
    """The tensors of a sharded model, copied to the CPU on access."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._modules = dict(model.named_modules())
        self._first = first_names(model)

    def __getitem__(self, name: str) -> Tensor:
        module, _, own = self._first[name].rpartition(".")
        return values(self._modules[module], own)

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)


def can_spill(model: PreTrainedModel, folder: Path) -> bool:
    """Return whether the weights are in main memory and the disk has room for them twice."""
    if is_sharded(model) or model.device.type != "cpu":
        return False
    return 2 * sum(one.nbytes for one in model.parameters()) < free_disk_bytes(folder)


def spill(model: PreTrainedModel, folder: Path) -> None:
    """Move a model's parameters to memory-mapped files in a folder, in place.

    The files are unlinked at once, so they vanish with the model or the process.
    """
    for parameter in model.parameters():
        mapped = on_disk(tuple(parameter.shape), folder, parameter.dtype)
        parameter.data = mapped.copy_(parameter.data)
