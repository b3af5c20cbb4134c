"""Check loaded weights: missing, of wrong size, quantised or not finite."""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from protege.spaces.errors import BadInput, Unsupported


def settle(model: PreTrainedModel, loading: Mapping[str, Any], task: str) -> None:
    """Check the weights of a model that was just loaded, and zero a missing pooler.

    A model without a head does not use its pooler. Zeros make the fingerprint of the teacher the
    same at every load.

    Raises:
        BadInput: Weights are missing, have another size than in the configuration, or are not
            finite; or the missing pooler is placed on disk.
        Unsupported: The weights are quantised.
    """
    missing: Collection[str] = loading["missing_keys"]
    bare = model.base_model is model
    needed = sorted(name for name in missing if not (bare and name.startswith("pooler.")))
    if needed:
        raise BadInput(
            f"{model.name_or_path}: no weights for {', '.join(needed[:3])}, which {task} needs; "
            "give the task that the checkpoint was trained for, or train this one first"
        )
    _check_sizes(model, loading["mismatched_keys"])
    _check_layers(model, loading["unexpected_keys"])
    _zero_pooler(model, missing)
    _check_not_quantised(model)
    own = model.state_dict()
    named = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}  # each once
    check_finite(model, {name: own[name] for name in own.keys() & named})


def check_finite(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> None:
    """Raise BadInput if a tensor contains NaN or infinity; those on disk are skipped."""
    for name, tensor in tensors.items():
        if tensor.is_meta or not tensor.is_floating_point():
            continue
        # a sum needs no memory; only if it is not finite, check every value
        if bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all()):
            continue
        odd = tensor[~tensor.isfinite()]
        raise BadInput(
            f"{model.name_or_path}: {name} has {len(odd)} values that are not finite, the first is "
            f"{odd[0].item()}; give a checkpoint without them: one saved as bfloat16 or float32 "
            "if float16 was too narrow for it"
        )


def _check_sizes(model: PreTrainedModel, mismatched: Iterable[Any]) -> None:
    for name, found, expected in sorted(mismatched, key=lambda one: str(one[0])):
        (*_, axis) = (at for at, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b)
        fields = model.config.to_dict()
        named = [field for field, value in fields.items() if value == expected[axis]]
        hint = f" (config.json: {', '.join(named)})" if named else ""
        raise BadInput(
            f"{model.name_or_path}: {name} has the shape {tuple(found)} in the weights, and "
            f"{tuple(expected)} by the configuration{hint}; give config.json and weights of the "
            "same checkpoint, or write the size of the weights to config.json"
        )


def _check_layers(model: PreTrainedModel, unexpected: Iterable[str]) -> None:
    """Raise BadInput if there are weights of more layers than in the configuration."""
    own = {_unnumbered(name) for name in model.state_dict()}
    spare = sorted(name for name in unexpected if _unnumbered(name) in own)
    if spare:
        raise BadInput(
            f"{model.name_or_path}: the weights contain {spare[-1]}, but config.json has fewer "
            "layers; give config.json and weights of the same checkpoint"
        )


def _unnumbered(name: str) -> str:
    return re.sub(r"\.\d+\.", ".#.", name)


def _check_not_quantised(model: PreTrainedModel) -> None:
    """Raise Unsupported if weights are still quantised after loading."""
    packed = (t for name, t in model.state_dict().items() if name.endswith("weight"))
    whole = all(t.is_floating_point() for t in (*model.parameters(), *packed))
    if not whole:
        raise Unsupported(
            f"{model.name_or_path}: its weights are quantised, and students are cut from full "
            "ones; give the checkpoint that was quantised, or a GGUF file"
        )


def _zero_pooler(model: PreTrainedModel, missing: Collection[str]) -> None:
    with torch.no_grad():
        for name in missing:
            parameter = model.get_parameter(name)
            if parameter.is_meta:
                raise BadInput(
                    f"{model.name_or_path}: no weights for {name}, which the device_map puts on "
                    "disk; expected a device_map that keeps pooler on a device"
                )
            parameter.zero_()
