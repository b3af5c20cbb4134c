"""Tensors that share memory, also where accelerate has placed them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel


def is_sharded(model: nn.Module) -> bool:
    """Return whether accelerate manages the placement of the weights."""
    return hasattr(model, "_hf_hook")


def first_names(model: PreTrainedModel) -> dict[str, str]:
    """Map each tensor's name to the first name that shares its memory.

    Tensors on disk have no address, so sharded models use transformers' table of tied weights.
    """
    tensors = model.state_dict(keep_vars=True)
    if is_sharded(model):
        tied: Mapping[str, str] = model.all_tied_weights_keys
        return {name: tied.get(name, name) for name in tensors}
    first: dict[tuple[int, torch.Size], str] = {}
    return {
        # meta tensors have no address
        name: first.setdefault((id(t) if t.is_meta else t.data_ptr(), t.shape), name)
        for name, t in tensors.items()
    }


def is_tied(model: PreTrainedModel, module: nn.Module | None) -> bool:
    """Return whether a head shares its weight with the model's input embedding."""
    rows: Any = model.get_input_embeddings()
    if module is None or getattr(rows, "weight", None) is None:
        return False
    if not is_sharded(model):
        return bool(module.get_parameter("weight").data_ptr() == rows.weight.data_ptr())
    names, known = {one: name for name, one in model.named_modules()}, first_names(model)
    return known[f"{names[module]}.weight"] == known[f"{names[rows]}.weight"]
