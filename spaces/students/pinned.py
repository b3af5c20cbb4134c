"""Layers that are settled: an architecture that keeps what a `Kept` does, whatever its policy."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.policies import Findings, LayerPolicy
from protege.spaces.errors import Infeasible
from protege.spaces.families import family_of
from protege.spaces.students.selection import Kept


@dataclass(frozen=True)
class Pinned:
    """The layers of each stack, one by one, under the name of the policy that they come from.

    Attributes:
        name: Of that policy.
        stacks: For each stack, its layers, ascending.
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
                f"{count} of {total} layers of the {stack or 'only'} stack: pinned there are "
                f"{list(layers)}; expected as many, of a teacher that has them"
            )
        return layers


def pinned(architecture: Architecture, kept: Kept) -> Architecture:
    """The architecture as deep as the kept layers, with a policy that keeps these and no others."""
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
