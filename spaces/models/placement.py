"""Models that accelerate has spread over several devices, main memory and disk.

Its hooks bring the weights to where a module runs and inputs after them. What is asked of a
teacher beside its answers, its weights and what passes inside, is brought to the CPU here.
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
from protege.spaces.families import Family

Place = int | str | torch.device
"""A device; ``"disk"`` where a map of several allows it."""


def is_sharded(model: nn.Module) -> bool:
    """Whether the model's weights lie where accelerate's hooks know: nobody else may move it."""
    return hasattr(model, "_hf_hook")


def placed(
    device_map: Place | Mapping[str, Place] | None,
    max_memory: Mapping[int | str, int | str] | None,
    offload_folder: str | Path | None,
) -> dict[str, Any]:
    """What of these is given, as ``from_pretrained`` takes it.

    Raises:
        BadInput: The others are given without a device map, to which alone they matter.
    """
    every = {"device_map": device_map, "max_memory": max_memory, "offload_folder": offload_folder}
    given = {name: value for name, value in every.items() if value is not None}
    if given and device_map is None:
        raise BadInput(
            f"{' and '.join(given)} without device_map: expected where the teacher's weights "
            'lie, device_map="auto" for instance'
        )
    return given


def elsewhere(loaded_with: Mapping[str, Any]) -> dict[str, Any]:
    """What another process loads the same teacher with, that folder being one of its own.

    What is in the given one is mapped by others, who must not find it written anew.
    """
    folder = loaded_with.get("offload_folder")
    if folder is None:
        return dict(loaded_with)
    Path(folder).mkdir(parents=True, exist_ok=True)
    return {**loaded_with, "offload_folder": tempfile.mkdtemp(dir=folder)}


@contextmanager
def as_bad_placement(placement: Mapping[str, Any]) -> Iterator[None]:
    """Turn what accelerate and torch raise for a placement that cannot be into one line.

    Raises:
        BadInput: Says what was given and what was wrong with it.
    """
    try:
        yield
    except (ValueError, RuntimeError, AssertionError, LookupError, TypeError, ImportError) as error:
        if not placement:
            raise
        lines = str(error).strip().splitlines()
        given = ", ".join(f"{name}={reprlib.repr(value)}" for name, value in placement.items())
        raise BadInput(
            f'{given}: expected "auto", a device, or for each module a device that is here, "cpu" '
            f'or "disk" ({lines[0] if lines else type(error).__name__})'
        ) from error


def joined(model: PreTrainedModel, family: Family) -> None:
    """Have a model off the CPU take its inputs from anywhere, and give its answers back there.

    accelerate sees to that where there are several devices, for the whole model; the model without
    its head is called too, and one on a single device is left to the caller.

    Raises:
        Unsupported: Some of its weights are on disk, and it reads weights of other modules.
    """
    if family.reads_aside and any(one.is_meta for one in model.parameters()):
        raise Unsupported(
            f"a {family.name} with weights offloaded: its modules read each other's weights, which "
            "accelerate does not bring from disk then; give a device_map of devices alone"
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
    """The model's state dict, on the CPU.

    Of a sharded model each tensor is brought there when it is asked for, and again each time, so
    that no more of them are in memory than somebody holds.
    """
    return _Brought(model) if is_sharded(model) else model.state_dict()


def values(module: nn.Module, name: str = "weight") -> Tensor:
    """A tensor of the module itself, on the CPU; of a module there the very memory it has."""
    own: Tensor = getattr(module, name)
    if own.is_meta:
        hook: Any = getattr(module, "_hf_hook", None)
        hooks = (one for one in getattr(hook, "hooks", (hook,)) if getattr(one, "offload", False))
        own = next((one.weights_map[name] for one in hooks), own)
    return own.detach().cpu()


def first_names(model: PreTrainedModel) -> dict[str, str]:
    """By name of each tensor, the one that its memory is known by: another one's where it is tied.

    Tensors on disk have no memory that would tell: there transformers' own table of ties does.
    """
    tensors = model.state_dict(keep_vars=True)
    if is_sharded(model):
        tied: Mapping[str, str] = model.all_tied_weights_keys
        return {name: tied.get(name, name) for name in tensors}
    first: dict[tuple[int, torch.Size], str] = {}
    return {
        # one without memory is known by itself
        name: first.setdefault((id(t) if t.is_meta else t.data_ptr(), t.shape), name)
        for name, t in tensors.items()
    }


def is_tied(model: PreTrainedModel, module: nn.Module | None) -> bool:
    """Whether a head shares the rows of the model's embedding."""
    rows: Any = model.get_input_embeddings()
    if module is None or getattr(rows, "weight", None) is None:
        return False
    if not is_sharded(model):
        return bool(module.get_parameter("weight").data_ptr() == rows.weight.data_ptr())
    names, known = {one: name for name, one in model.named_modules()}, first_names(model)
    return known[f"{names[module]}.weight"] == known[f"{names[rows]}.weight"]


class _Brought(Mapping[str, Tensor]):
    """The tensors of a sharded model, each brought to the CPU as it is asked for."""

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
