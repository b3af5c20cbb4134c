"""Weights that a checkpoint lacks, which transformers would make up at random."""

from collections.abc import Collection

import torch
from transformers import PreTrainedModel

from protege.spaces.errors import BadInput


def settle(model: PreTrainedModel, missing: Collection[str], task: str) -> None:
    """Zero the pooler of a bare model that lacks it, and put up with nothing else that is missing.

    Nobody reads the pooler of a model without a head; at zero the same checkpoint is the same
    teacher each time it is loaded.

    Args:
        model: The model as loaded.
        missing: Names of the tensors that the checkpoint has no weights for.
        task: What the model was loaded for.

    Raises:
        BadInput: Something else is missing, such as the head of another task; or the pooler is to
            be read from disk.
    """
    bare = model.base_model is model
    needed = sorted(name for name in missing if not (bare and name.startswith("pooler.")))
    if needed:
        raise BadInput(
            f"{model.name_or_path}: no weights for {', '.join(needed[:3])}, which {task} needs; "
            "give the task that the checkpoint was trained for, or train this one first"
        )
    with torch.no_grad():
        for name in missing:
            parameter = model.get_parameter(name)
            if parameter.is_meta:
                raise BadInput(
                    f"{model.name_or_path}: no weights for {name}, which the device_map puts on "
                    "disk; expected a device_map that keeps pooler on a device"
                )
            parameter.zero_()
