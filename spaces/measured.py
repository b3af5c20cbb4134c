"""Layer policies that look at data: what they keep is known once a calibration is."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from protege.spaces.errors import BadInput
from protege.spaces.policies import Ends, LayerPolicy

if TYPE_CHECKING:
    from protege.spaces.calibration import Calibration

Found = tuple[tuple[str, tuple[int, ...]], ...]
"""For each stack, by name, what was found of its layers."""


@dataclass(frozen=True)
class Contiguous:
    """All but one block: the adjacent layers whose input and output are the closest by angle.

    The pruning of Gromov et al. (arXiv 2403.17887). The first and the last layer may be in the
    block as any other. Until it is resolved, both ends kept evenly stand for its choice.

    Attributes:
        found: For each stack, where the block of one layer begins, of two layers, and so on.
    """

    found: Found = field(default=(), repr=False)
    name: ClassVar[str] = "contiguous"
    needs_calibration: ClassVar[bool] = True

    @property
    def is_resolved(self) -> bool:
        return bool(self.found)

    def resolved(self, calibration: "Calibration | None", /) -> LayerPolicy:
        if self.found:
            return self
        angles = _measured(self.name, "angles", calibration)
        return replace(self, found=tuple((stack, _starts(table)) for stack, table in angles))

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        if not self.found or count >= total:
            return Ends().layers(total, count)
        dropped = total - count
        start = _of(self, stack, total - 1)[dropped - 1]
        return (*range(start), *range(start + dropped, total))


@dataclass(frozen=True)
class Influence:
    """All but the layers that turn the residual stream least (ShortGPT, arXiv 2403.03853).

    Until it is resolved, both ends kept evenly stand for its choice.

    Attributes:
        found: For each stack, its layers, the least influential first.
    """

    found: Found = field(default=(), repr=False)
    name: ClassVar[str] = "influence"
    needs_calibration: ClassVar[bool] = True

    @property
    def is_resolved(self) -> bool:
        return bool(self.found)

    def resolved(self, calibration: "Calibration | None", /) -> LayerPolicy:
        if self.found:
            return self
        influence = _measured(self.name, "influence", calibration)
        orders = ((stack, values.argsort(stable=True)) for stack, values in influence)
        return replace(self, found=tuple((stack, tuple(o.tolist())) for stack, o in orders))

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        if not self.found or count >= total:
            return Ends().layers(total, count)
        return tuple(sorted(_of(self, stack, total)[-count:]))


@dataclass(frozen=True)
class Greedy:
    """All but the layers that the answers miss least, taken away one by one (`greedy_ladder`).

    Until it is resolved, both ends kept evenly stand for its choice.

    Attributes:
        found: For each stack, its layers in the order in which they go.
    """

    found: Found = field(default=(), repr=False)
    name: ClassVar[str] = "greedy"
    needs_calibration: ClassVar[bool] = True

    @property
    def is_resolved(self) -> bool:
        return bool(self.found)

    def resolved(self, calibration: "Calibration | None", /) -> LayerPolicy:
        if self.found:
            return self
        ladders = _measured(self.name, "ladder", calibration)
        return replace(self, found=tuple((stack, _order(rungs)) for stack, rungs in ladders))

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        if not self.found or count >= total:
            return Ends().layers(total, count)
        return tuple(sorted(_of(self, stack, total)[-count:]))


def _measured(
    policy: str, what: str, calibration: "Calibration | None"
) -> list[tuple[str, Tensor]]:
    """What the calibration has of every stack's layers, for the policy of that name.

    Raises:
        BadInput: There is no calibration, or it has nothing of the kind.
    """
    given = calibration.importance if calibration is not None else {}
    found = [
        (name.removesuffix(f".{what}"), values)
        for name, values in given.items()
        if name.endswith(f".{what}")
    ]
    if not found:
        fault = "needs a calibration" if calibration is None else f"a calibration without {what}"
        raise BadInput(
            f"layer policy {policy!r}: {fault}; "
            f"pass calibration=Calibration.of(teacher, batches, layers=[{policy!r}])"
        )
    return found


def _starts(angles: Tensor) -> tuple[int, ...]:
    """Where the block of one layer begins whose ends are closest, of two, and so on to the last."""
    return tuple(int(angles.diagonal(size).argmin()) for size in range(1, len(angles) - 1))


def _order(ladder: Tensor) -> tuple[int, ...]:
    """The layers in the order in which they go, and the one that never does."""
    rungs = ladder.tolist()
    (last,) = set(range(len(rungs) + 1)) - set(rungs)
    return (*rungs, last)


def _of(policy: Contiguous | Influence | Greedy, stack: str, expected: int) -> tuple[int, ...]:
    """What the policy found of a stack.

    Raises:
        BadInput: It was found of another teacher, without such a stack or with other layers.
    """
    found = dict(policy.found).get(stack, ())
    if len(found) != expected:
        known = ", ".join(name for name, _ in policy.found)
        raise BadInput(
            f"layer policy {policy.name!r} of the {stack or 'only'} stack: it was resolved with "
            f"the calibration of another teacher, of {known}; resolve it with this one's"
        )
    return found
