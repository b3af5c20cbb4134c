"""Rotate the residual stream onto its principal directions and drop the weakest."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from protege.spaces.errors import Infeasible
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.models.placement import values
from protege.spaces.models.sharing import is_tied
from protege.spaces.models.tensors import TensorSpec
from protege.spaces.residual.directions import Basis
from protege.spaces.residual.states import ResidualStates
from protege.spaces.students.selection import Selection


def check_turns(teacher: LaidOutModel) -> None:
    """Raise Infeasible, with the reason, if a teacher's residual stream cannot be rotated."""
    twice = [s.name for s in teacher.layout.slots if s.axes.count("hidden") > 1]
    if not teacher.family.turns or twice:
        reason = f"{twice[0]} makes vectors of its width" if twice else "norms write into it"
        raise Infeasible(
            f"{teacher.config.model_type}: its residual stream cannot be rotated ({reason}); "
            "use a width policy that keeps channels, such as Wanda()"
        )


def read_off(teacher: LaidOutModel, norm: str, basis: Basis) -> Tensor:
    """Return the map from a rotated norm's output to the teacher's, ``(hidden, width)``.

    It includes the norm's gains. The rotated norm's bias is one in every channel, a direction that
    LayerNorm removes from its input; the map reads the teacher's bias off that direction.
    """
    module: Any = teacher.model.get_submodule(norm)
    gain = values(module) + teacher.family.gain_offset
    read: Tensor = gain.unsqueeze(1) * basis.matrix
    if getattr(module, "bias", None) is None:
        return read
    return read + values(module, "bias").unsqueeze(1) / read.shape[1]


def turned(
    wide: Mapping[str, Tensor],
    teacher: LaidOutModel,
    kept: Selection,
    streams: ResidualStates,
    *,
    tied: bool,
) -> dict[str, Tensor]:
    """Rotate a student's tensors into the directions of `Directions.basis`.

    A norm's gains and bias move into the projections that read it (see `read_off`); the norm keeps
    a single gain that fits its fewer channels (SliceGPT, arXiv 2401.15024, with one rotation for
    the whole model, so that the model class stays the same). At the teacher's width the outputs do
    not change. A tied output head gets its own weights. With ``tied`` it keeps sharing the
    embedding's rows, which are fitted to the head; the last norm's gain is fitted by least squares.
    ``wide`` has the student's tensors with all channels of the teacher's stream; of the kept
    channels only the number counts.
    """
    check_turns(teacher)
    turn = _Rotator(teacher, streams, len(kept.hidden))
    slots = ((slot, name) for slot in teacher.layout.slots for name, _ in kept.names(slot))
    found = {name: turn.tensor(slot, wide[name]) for slot, name in slots}
    head = turn.head
    if tied and head:
        rows = next(name for name in found if wide[name].data_ptr() == wide[head].data_ptr())
        final = turn.source[head.removesuffix(".weight")]
        gain = (found[rows] * found[head]).sum(0) / found[rows].square().sum(0)
        gain = torch.where(gain.abs() > 1e-3, gain, 1.0)
        found[head] = found[rows] = found[head] / gain
        for name in found.keys() & {f"{final}.weight", f"{final}.bias"}:
            found[name] = found[name] * gain
    return found


class _Rotator:
    """Rotates the tensors of a model one by one."""

    def __init__(self, teacher: LaidOutModel, streams: ResidualStates, width: int) -> None:
        self.teacher, self.width = teacher, width
        self.directions = streams.directions
        self.basis = streams.directions.basis(width)
        self.modules = dict(teacher.model.named_modules())
        self.norms = set(streams.wiring.norms)
        sources = streams.wiring.sources
        self.source = {reader: norm for norm, read in sources.items() for reader in read}

    @property
    def head(self) -> str:
        """Name of the output head's weight if it is tied to the embedding, else empty."""
        head: Any = self.teacher.model.get_output_embeddings()
        if not is_tied(self.teacher.model, head):
            return ""
        return next(f"{name}.weight" for name, module in self.modules.items() if module is head)

    def tensor(self, slot: TensorSpec, wide: Tensor) -> Tensor:
        """Rotate one of the student's tensors, given with all channels of the teacher's stream."""
        module, _, kind = slot.name.rpartition(".")
        if module in self.norms:
            gain = self.directions.gain(module, self.width) - self.teacher.family.gain_offset
            return torch.full((self.width,), gain if kind == "weight" else 1.0)
        if "hidden" not in slot.axes:
            return wide
        place = slot.axes.index("hidden")
        turned = wide.movedim(place, -1)
        reads = module in self.source and kind == "weight"
        matrix = (
            read_off(self.teacher, self.source[module], self.basis) if reads else self.basis.matrix
        )
        return (turned @ matrix).movedim(-1, place).contiguous()
