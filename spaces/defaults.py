"""The policies of a search that names none: what measures best."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from protege.spaces.measured import Greedy
from protege.spaces.policies import Ends, Healing, LayerPolicy, WidthPolicy
from protege.spaces.widths import Magnitude, Surgeon

if TYPE_CHECKING:
    from protege.spaces.space import SearchSpace


@dataclass(frozen=True)
class Defaults:
    """Policies where none is given.

    Measured by ``python -m studies.benchmarks.start``: on data, layers go greedily, units by what
    the others cannot make up for, and students are healed on their own inputs. Without data both
    ends are kept evenly, and the units of the largest weights.
    """

    layer_policy: LayerPolicy
    width_policy: WidthPolicy
    healing: Healing

    @classmethod
    def of(cls, *, has_data: bool) -> "Defaults":
        """Those for a search with data to look at, or without."""
        if not has_data:
            return cls(Ends(), Magnitude(), "none")
        return cls(Greedy(), Surgeon(), "sequential")

    def filling(self, space: "SearchSpace") -> dict[str, Any]:
        """What a space declares of policies, with these where it declares none."""
        own = {name: getattr(space, name) for name in ("layer_policy", "width_policy", "healing")}
        return {n: getattr(self, n) if given is None else given for n, given in own.items()}
