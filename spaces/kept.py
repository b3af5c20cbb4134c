"""Which units of the teacher a student keeps, decided once and carried in its manifest."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from protege.spaces.architecture import Architecture
from protege.spaces.calibration import Calibration
from protege.spaces.errors import BadInput

Units = tuple[int, ...]


@dataclass(frozen=True)
class Kept:
    """Indices into the teacher, ascending.

    Attributes:
        layers: Layers.
        hidden: Channels of the residual stream, one choice for the whole model.
        heads: Query heads of each kept layer.
        kv_heads: Key-value heads of each kept layer.
        ffn: Feed-forward neurons of each kept layer.
    """

    layers: Units
    hidden: Units
    heads: tuple[Units, ...]
    kv_heads: tuple[Units, ...]
    ffn: tuple[Units, ...]

    def rows(self, axis: str, position: int | None, head_dim: int) -> Tensor:
        """Teacher rows along one cuttable axis, for the student's layer at that position."""
        units: Units = getattr(self, axis) if position is None else self._in_layer(axis, position)
        rows = torch.tensor(units, dtype=torch.long)
        if axis in {"heads", "kv_heads"}:
            rows = (rows[:, None] * head_dim + torch.arange(head_dim)).reshape(-1)
        return rows

    def manifest(self) -> dict[str, Any]:
        """The indices as JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def _in_layer(self, axis: str, position: int) -> Units:
        if axis == "hidden":
            return self.hidden
        units: Units = getattr(self, axis)[position]
        return units


def choose(teacher: Architecture, student: Architecture, calibration: Calibration | None) -> Kept:
    """What the student's policies keep of its teacher.

    Heads are chosen within their key-value groups, so that every kept group keeps as many query
    heads as any other and each head still reads its own keys and values.

    Raises:
        BadInput: The width policy needs a calibration and none is given.
        Infeasible: The layer policy has no choice of that depth.
    """
    policy = student.width_policy
    if policy.needs_calibration and calibration is None:
        raise BadInput(
            f"width policy {policy.name!r} needs a calibration: "
            "pass calibration=Calibration.of(teacher, batches), or use First()"
        )
    importance = calibration or Calibration.flat(teacher)
    layers = student.layer_policy.layers(teacher.num_hidden_layers, student.num_hidden_layers)
    attention = [_heads(teacher, student, importance.heads[layer]) for layer in layers]
    ffn = [policy.units(importance.ffn[layer], student.intermediate_size) for layer in layers]
    return Kept(
        layers=layers,
        hidden=policy.units(importance.hidden, student.hidden_size),
        heads=tuple(query for query, _ in attention),
        kv_heads=tuple(groups for _, groups in attention),
        ffn=tuple(ffn),
    )


def _heads(teacher: Architecture, student: Architecture, importance: Tensor) -> tuple[Units, Units]:
    """Query and key-value heads kept in one layer, given the importance of each query head."""
    policy = student.width_policy
    by_group = importance.reshape(teacher.num_key_value_heads, -1)
    groups = policy.units(by_group.norm(dim=1), student.num_key_value_heads)
    size = student.num_attention_heads // student.num_key_value_heads
    query = (
        group * by_group.shape[1] + head
        for group in groups
        for head in policy.units(by_group[group], size)
    )
    return tuple(query), groups
