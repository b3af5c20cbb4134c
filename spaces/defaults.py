"""The policies of a search that names none: what measures best for the teacher's family."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protege.spaces.architecture import Architecture
from protege.spaces.families import family_of
from protege.spaces.measured import Greedy
from protege.spaces.policies import (
    Ends,
    Healing,
    LayerPolicy,
    Magnitude,
    Rotation,
    Wanda,
    WidthPolicy,
)

if TYPE_CHECKING:
    from protege.spaces.space import SearchSpace


@dataclass(frozen=True)
class Defaults:
    """Policies where none is given.

    Measured by ``python -m studies.benchmarks.start``: on data, layers go greedily and students are
    healed on their own inputs; a residual stream that can be turned is, its head kept tied, and
    others lose the channels that are least active. Without data both ends are kept evenly, and the
    units of the largest weights.
    """

    layer_policy: LayerPolicy
    width_policy: WidthPolicy
    healing: Healing

    @classmethod
    def of(cls, teacher: Architecture, *, has_data: bool) -> "Defaults":
        """Those for a teacher, with data to look at or without."""
        if not has_data:
            return cls(Ends(), Magnitude(), "none")
        turns = family_of(teacher.model_type).turns
        return cls(Greedy(), Rotation(tied=True) if turns else Wanda(), "sequential")

    def filling(self, space: "SearchSpace") -> dict[str, Any]:
        """What a space declares of policies, with these where it declares none."""
        own = {name: getattr(space, name) for name in ("layer_policy", "width_policy", "healing")}
        return {n: getattr(self, n) if given is None else given for n, given in own.items()}
