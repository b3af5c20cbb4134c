"""What the members of a space need of a calibration."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import get_args

from protege.spaces import Architecture, SearchSpace, Teacher
from protege.spaces.architecture.layer_policies import FINDINGS
from protege.spaces.architecture.policies import Criterion, HeadsBy
from protege.spaces.architecture.sizes import SIZE_OF
from protege.spaces.architecture.unit_policies import Rotation
from protege.spaces.families.family import family_of

MEASURED_DEPTHS = {"greedy", "closest"}
"""Layer policies that are measured down to the fewest layers of a student."""


@dataclass(frozen=True)
class Needs:
    """What the members of a space need of a calibration.

    Attributes:
        heads_by: Criteria for attention heads.
        criteria: Criteria for units of any kind.
        layers: Names of the layer policies that need data.
        streams: Whether students are healed or rotated.
        grams: Axes of which healing needs second moments.
        depths: By stack, the fewest layers of a student with a policy of `MEASURED_DEPTHS`.
    """

    heads_by: list[HeadsBy] = field(default_factory=list)
    criteria: list[Criterion] = field(default_factory=list)
    layers: list[str] = field(default_factory=list)
    streams: bool = False
    grams: list[str] = field(default_factory=list)
    depths: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, space: SearchSpace, own: Architecture) -> "Needs":
        """Return what the members of a space need, whether or not it is resolved."""
        return cls.of_members(list(space.representatives), own)

    @classmethod
    def of_members(cls, members: list[Architecture], own: Architecture) -> "Needs":
        """Return what these members need."""
        policies = {member.layer_policy.name for member in members}
        healed = [member for member in members if member.healing != "none"]
        units = {axis for member in healed for axis in set(SIZE_OF) - member.whole_axes(own)}
        return cls(
            heads_by=head_criteria(members, own),
            criteria=unit_criteria(members, own),
            layers=sorted(policies & FINDINGS.keys()),
            streams=bool(healed) or any(isinstance(m.width_policy, Rotation) for m in members),
            grams=sorted(units),
            depths=_depths(members, own) if policies & MEASURED_DEPTHS else {},
        )


def head_criteria(members: Iterable[Architecture], own: Architecture) -> list[HeadsBy]:
    """Return the criteria by which students with fewer heads rank them."""
    cutting = (one for one in looking(members) if "heads" not in one.whole_axes(own))
    asked = {member.width_policy.criterion("heads") for member in cutting}
    return [criterion for criterion in sorted(get_args(HeadsBy)) if criterion in asked]


def unit_criteria(members: Iterable[Architecture], own: Architecture) -> list[Criterion]:
    """Return the criteria by which students rank the units that they cut."""
    return sorted(
        {
            member.width_policy.criterion(unit)
            for member in looking(members)
            for unit in set(SIZE_OF) - member.whole_axes(own)
        }
    )


def looking(members: Iterable[Architecture]) -> Iterator[Architecture]:
    """Yield the students whose width policy needs data."""
    return (member for member in members if member.width_policy.needs_calibration)


def cuts_heads(space: SearchSpace, teacher: Teacher) -> bool:
    """Return whether a student whose width policy needs data has fewer heads than the teacher."""
    own = teacher.architecture.num_attention_heads
    return any(member.num_attention_heads < own for member in looking(space.representatives))


def _depths(members: Iterable[Architecture], own: Architecture) -> dict[str, int]:
    """Return the fewest layers per stack of students with a policy of `MEASURED_DEPTHS`."""
    shallow = [member for member in members if member.layer_policy.name in MEASURED_DEPTHS]
    sizes = family_of(own.model_type).depths
    return {stack: min(getattr(m, size) for m in shallow) for stack, size in sizes.items()}
