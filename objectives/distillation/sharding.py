"""What accelerate's FSDP takes: its configuration, and tensors in shards made whole again."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protege.spaces import BadInput


def configuration(path: str | Path) -> Any:
    """What a file of accelerate's says, as accelerate reads it.

    Raises:
        BadInput: There is none, or it is of anything but FSDP version 2 on this machine, or
            accelerate is not installed.
    """
    expected = "expected a file that accelerate config writes, of FSDP version 2 on one machine"
    if not Path(path).expanduser().is_file():
        raise BadInput(f"accelerate={str(path)!r}: no such file; {expected}")
    try:
        from accelerate.commands.config.config_args import load_config_from_file

        found = load_config_from_file(str(Path(path).expanduser()))
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BadInput(f"accelerate={str(path)!r}: {expected} ({reason})") from error
    sharded = str(found.distributed_type).endswith("FSDP")
    version = int(getattr(found, "fsdp_config", {}).get("fsdp_version", 1))
    if not sharded or version != 2 or getattr(found, "num_machines", 1) not in {1, None}:
        given = f"{found.distributed_type}, fsdp_version {version}" if sharded else "no FSDP"
        raise BadInput(f"accelerate={str(path)!r}: {expected}, found {given}")
    return found


def in_full(tensor: Tensor) -> Tensor:
    """The tensor with its shards put together, in every process; itself where it has none."""
    found: Tensor = getattr(tensor, "full_tensor", lambda: tensor)()
    return found


def whole(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, its shards put together.

    All processes that have shards call it at once; all but the first get nothing but an empty one,
    for each would hold a copy.
    """
    full = in_full(tensor.detach())
    is_first = not hasattr(tensor, "full_tensor") or torch.distributed.get_rank() == 0
    return full.cpu() if is_first else torch.empty(0)


def in_shards_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy of the value, in shards as the parameter is; a scalar is in none."""
    if value.shape != parameter.shape or not hasattr(parameter, "full_tensor"):
        return value.clone()
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)  # it has shards
    mesh = parameter.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, parameter.placements)
