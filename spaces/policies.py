"""Which layers and which units of the teacher a student keeps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args

from torch import Tensor

from protege.spaces.cache import digest
from protege.spaces.errors import BadInput, Infeasible

HeadsBy = Literal["activation", "gradient", "ablation"]
"""By how active a head is, by the loss's gradient, or by what the model loses without it."""


class LayerPolicy(Protocol):
    """Picks the teacher layers that a student of a given depth keeps."""

    @property
    def name(self) -> str:
        """What the policy is called in studies, keys and reports."""

    def layers(self, total: int, count: int) -> tuple[int, ...]:
        """Ascending indices of ``count`` of the teacher's ``total`` layers.

        Raises:
            Infeasible: The policy has no choice of that many layers.
        """


class WidthPolicy(Protocol):
    """Picks the units (channels, heads, neurons) that a student of a given width keeps."""

    @property
    def name(self) -> str:
        """What the policy is called in studies, keys and reports."""

    @property
    def needs_calibration(self) -> bool:
        """Whether the choice depends on what a calibration pass found."""

    @property
    def heads_by(self) -> HeadsBy:
        """The criterion that attention heads are ranked by."""

    def units(self, importance: Tensor, count: int) -> tuple[int, ...]:
        """Ascending indices of ``count`` units, given the importance of each, ``(units,)``."""


@dataclass(frozen=True)
class Uniform:
    """Every k-th layer, ``int(i * total / count)``: the recipe most distillation guides give."""

    name: ClassVar[str] = "uniform"

    def layers(self, total: int, count: int) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(i * total // count for i in range(count))


@dataclass(frozen=True)
class Ends:
    """Layers evenly spaced from the first to the last, both kept.

    At 6 of 12 this is the choice of DistilBERT: 0 2 4 7 9 11. A single layer is the first one.
    """

    name: ClassVar[str] = "ends"

    def layers(self, total: int, count: int) -> tuple[int, ...]:
        _check_depth(total, count)
        if count == 1:
            return (0,)
        gaps = count - 1
        return tuple((2 * i * (total - 1) + gaps) // (2 * gaps) for i in range(count))


@dataclass(frozen=True)
class First:
    """The first layers, or the first units: what slicing a checkpoint gives."""

    name: ClassVar[str] = "first"
    needs_calibration: ClassVar[bool] = False
    heads_by: ClassVar[HeadsBy] = "activation"

    def layers(self, total: int, count: int) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(range(count))

    def units(self, importance: Tensor, count: int) -> tuple[int, ...]:
        return tuple(range(min(count, len(importance))))


class LayerMap:
    """Layers named one by one, one list for each depth that the map covers.

    ``LayerMap([0, 1, 3, 4, 5], [0, 2, 4, 5])`` covers students of five and of four layers.

    Attributes:
        name: What the map is called; the map itself, such as ``map-0.2.4.5``, if it is not given.
    """

    def __init__(self, *choices: Sequence[int], name: str = "") -> None:
        self._choices = {len(choice): tuple(choice) for choice in choices}
        for choice in choices:
            if not choice or list(choice) != sorted(set(choice)) or choice[0] < 0:
                given = list(choice)
                raise BadInput(f"layer map {given}: expected ascending, distinct layer numbers")
        if not choices or len(self._choices) != len(choices):
            raise BadInput(
                "a layer map needs one list of layers for each depth, and no depth twice"
            )
        itself = "-".join(".".join(map(str, choice)) for choice in self._choices.values())
        self.name = name or f"map-{itself}"
        self._identity = (self.name, tuple(self._choices.values()))

    def layers(self, total: int, count: int) -> tuple[int, ...]:
        choice = self._choices.get(count)
        if choice is None or choice[-1] >= total:
            covered = sorted(self._choices)
            raise Infeasible(
                f"{count} of {total} layers: the layer map {self.name!r} covers depths {covered}, "
                "of a teacher that has every layer it names"
            )
        return choice

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LayerMap) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def __repr__(self) -> str:
        choices = digest(repr(self._identity).encode())
        return f"LayerMap({self.name!r}, depths {sorted(self._choices)}, {choices})"


@dataclass(frozen=True)
class Activation:
    """The units most active on calibration data (Minitron, arXiv 2407.14679).

    Attributes:
        heads_by: What attention heads are ranked by instead, if not by how active they are: the
            loss's gradient, or what the model loses without them (see `head_importance`).
    """

    heads_by: HeadsBy = "activation"
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.heads_by not in get_args(HeadsBy):
            known = ", ".join(get_args(HeadsBy))
            raise BadInput(f"heads_by={self.heads_by!r}: expected one of {known}")

    @property
    def name(self) -> str:
        return "activation" if self.heads_by == "activation" else f"heads-by-{self.heads_by}"

    def units(self, importance: Tensor, count: int) -> tuple[int, ...]:
        if count >= len(importance):
            return tuple(range(len(importance)))
        strongest = importance.argsort(descending=True, stable=True)[:count]
        return tuple(strongest.sort().values.tolist())


def kept_layers(policy: LayerPolicy, total: int, count: int) -> tuple[int, ...]:
    """The layers that a policy keeps of a stack; all, whatever it says, where none is cut.

    Raises:
        Infeasible: The policy has no choice of that many layers.
    """
    return policy.layers(total, count) if count < total else tuple(range(total))


def _check_depth(total: int, count: int) -> None:
    if count > total:
        raise Infeasible(f"{count} layers asked of a teacher of {total}; keep at most {total}")
