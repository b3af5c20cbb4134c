"""Rotation: the residual stream turned onto its principal directions, and the last ones dropped."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from protege.spaces.errors import Infeasible
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.layout import Slot
from protege.spaces.models.placement import is_tied, values
from protege.spaces.residual.basis import Basis
from protege.spaces.residual.states import Streams
from protege.spaces.students.selection import Kept


def check_turns(teacher: LaidOutModel) -> None:
    """Refuse to rotate a teacher whose residual stream cannot be turned.

    Raises:
        Infeasible: Says why.
    """
    twice = [s.name for s in teacher.layout.slots if s.axes.count("hidden") > 1]
    if not teacher.family.turns or twice:
        reason = f"{twice[0]} makes vectors of its width" if twice else "norms write into it"
        raise Infeasible(
            f"{teacher.config.model_type}: its residual stream cannot be rotated ({reason}); "
            "use a width policy that keeps channels, such as Wanda()"
        )


def read_off(teacher: LaidOutModel, norm: str, basis: Basis) -> Tensor:
    """What a norm of the teacher's gives, as read off the turned one's, ``(hidden, width)``.

    The norm's gains are in it. Where it adds something, the turned one adds one to every channel,
    which what it norms has nothing of: all that the teacher's adds is read off that.
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
    kept: Kept,
    streams: Streams,
    *,
    tied: bool,
) -> dict[str, Tensor]:
    """The tensors of a student in the directions of `Directions.basis`.

    What a norm multiplies by and adds goes into the projections that read it (see `read_off`);
    the norm itself is left the one gain that its fewer channels ask for (SliceGPT, arXiv
    2401.15024, with one turn for the whole model, so that the class stays the teacher's). At the
    teacher's own width the model computes what it did. A head that shared the embedding's rows
    has its own afterwards; a tied one keeps rows that suit the head, the last norm's gain fitted
    by least squares.

    Args:
        wide: The student's tensors, with the teacher's whole stream.
        teacher: The teacher.
        kept: What the student keeps; of channels only their number counts.
        streams: Of the teacher; they have the directions, and say which norm a projection reads.
        tied: Whether the head goes on sharing the embedding's rows.
    """
    check_turns(teacher)
    turn = _Turn(teacher, streams, len(kept.hidden))
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


class _Turn:
    """What each tensor of a model becomes when the stream is turned."""

    def __init__(self, teacher: LaidOutModel, streams: Streams, width: int) -> None:
        self.teacher, self.width = teacher, width
        self.directions = streams.directions
        self.basis = streams.directions.basis(width)
        self.modules = dict(teacher.model.named_modules())
        self.norms = set(streams.wiring.norms)
        sources = streams.wiring.sources
        self.source = {reader: norm for norm, read in sources.items() for reader in read}

    @property
    def head(self) -> str:
        """The head's tensor where it shares the embedding's rows; empty where it does not."""
        head: Any = self.teacher.model.get_output_embeddings()
        if not is_tied(self.teacher.model, head):
            return ""
        return next(f"{name}.weight" for name, module in self.modules.items() if module is head)

    def tensor(self, slot: Slot, wide: Tensor) -> Tensor:
        """A student's tensor, given it with the teacher's whole stream."""
        module, _, kind = slot.name.rpartition(".")
        if module in self.norms:
            return self._norm(module, kind)
        if "hidden" not in slot.axes:
            return wide
        place = slot.axes.index("hidden")
        turned = wide.movedim(place, -1)
        reads = module in self.source and kind == "weight"
        matrix = self._read_off(self.source[module]) if reads else self.basis.matrix
        return (turned @ matrix).movedim(-1, place).contiguous()

    def _norm(self, module: str, kind: str) -> Tensor:
        if kind == "weight":
            gain = self.directions.gain(module, self.width) - self.teacher.family.gain_offset
            return torch.full((self.width,), gain)
        return torch.ones(self.width)

    def _read_off(self, norm: str) -> Tensor:
        return read_off(self.teacher, norm, self.basis)
