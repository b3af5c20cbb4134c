"""A layer policy that keeps given layers."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import Findings, LayerPolicy
from protege.spaces.errors import Infeasible
from protege.spaces.families import family_of
from protege.spaces.students.selection import Kept


@dataclass(frozen=True)
class Pinned:
    """A layer policy that keeps the given layers of each stack.

    Attributes:
        name: Name of the policy that chose them.
        stacks: Pairs of a stack and its layers, ascending.
    """

    name: str
    stacks: tuple[tuple[str, tuple[int, ...]], ...]
    needs_calibration: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        layers = dict(self.stacks).get(stack, ())
        if len(layers) != count or (layers and layers[-1] >= total):
            raise Infeasible(
                f"{count} of {total} layers of the {stack or 'only'} stack: the pinned layers are "
                f"{list(layers)}; expected {count} layers below {total}"
            )
        return layers


def pinned(architecture: Architecture, kept: Kept) -> Architecture:
    """Return the architecture with the kept layers' depth and a policy that keeps these layers."""
    depths = {
        size: len(kept.layers(stack))
        for stack, size in family_of(architecture.model_type).depths.items()
        if stack in kept.stacks
    }
    stacks = tuple((stack, kept.layers(stack)) for stack in kept.stacks)
    sizes: dict[str, Any] = depths
    return replace(
        architecture, **sizes, layer_policy=Pinned(architecture.layer_policy.name, stacks)
    )
