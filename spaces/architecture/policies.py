"""Which layers and which units of the teacher a student keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, get_args

from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.files.hashing import digest

if TYPE_CHECKING:  # records of architectures are read without torch
    from torch import Tensor

HeadsBy = Literal["activation", "gradient", "ablation", "wanda"]
"""How active a head is, the loss's gradient, what the model loses without it, what it adds."""

Criterion = HeadsBy | Literal["taylor", "magnitude", "surgeon", "position"]
"""What units are ranked by: the entry of a `Calibration` that is asked for; or all alike, so that
the first of them stay."""


Healing = Literal["none", "one-shot", "sequential"]
"""How a cut student is repaired: not at all, from second moments alone, on its own inputs too."""


def check_healing(given: object) -> None:
    """Refuse a way of healing that there is none of.

    Raises:
        BadInput: Names those that there are.
    """
    if given not in get_args(Healing):
        raise BadInput(f"healing={given!r}: expected one of {', '.join(get_args(Healing))}")


class Findings(Protocol):
    """What a calibration found; `Calibration` is one.

    Attributes:
        importance: Tensors by name; the names are those of `Calibration`.
    """

    @property
    def importance(self) -> "Mapping[str, Tensor]": ...


class LayerPolicy(Protocol):
    """Picks the teacher layers that a student of a given depth keeps."""

    @property
    def name(self) -> str:
        """What the policy is called in studies, keys and reports."""

    @property
    def needs_calibration(self) -> bool:
        """Whether the choice depends on what a calibration pass found."""

    @property
    def is_resolved(self) -> bool:
        """Whether the choice is known; if not, `layers` are others, to count a space by."""

    def resolved(self, calibration: Findings | None, /) -> "LayerPolicy":
        """This policy with its choice known; itself where it is.

        Raises:
            BadInput: The choice depends on what no calibration, or this one, does not have.
        """

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        """Ascending indices of ``count`` of the ``total`` layers of the teacher's stack.

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
    def needs_weights(self) -> bool:
        """Whether the choice depends on the weights alone; see `Calibration.of_weights`."""

    def criterion(self, unit: str) -> Criterion:
        """What units of an axis are ranked by, ``hidden`` or one of those in layers."""


@dataclass(frozen=True)
class Uniform:
    """Every k-th layer, ``int(i * total / count)``: the recipe most distillation guides give."""

    name: ClassVar[str] = "uniform"
    needs_calibration: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(i * total // count for i in range(count))


@dataclass(frozen=True)
class Ends:
    """Layers evenly spaced from the first to the last, both kept.

    At 6 of 12 this is the choice of DistilBERT: 0 2 4 7 9 11. A single layer is the first one.
    """

    name: ClassVar[str] = "ends"
    needs_calibration: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
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
    needs_weights: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

    def criterion(self, _unit: str) -> Criterion:
        return "position"

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(range(count))


class LayerMap:
    """Layers named one by one, one list for each depth that the map covers.

    ``LayerMap([0, 1, 3, 4, 5], [0, 2, 4, 5])`` covers students of five and of four layers.

    Attributes:
        name: What the map is called; the map itself, such as ``map-0.2.4.5``, if it is not given.
    """

    needs_calibration: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

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

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
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


def kept_layers(policy: LayerPolicy, total: int, count: int, stack: str) -> tuple[int, ...]:
    """The layers that a policy keeps of a stack; all, whatever it says, where none is cut.

    Raises:
        Infeasible: The policy has no choice of that many layers.
    """
    return policy.layers(total, count, stack) if count < total else tuple(range(total))


def _check_depth(total: int, count: int) -> None:
    if count > total:
        raise Infeasible(f"{count} layers asked of a teacher of {total}; keep at most {total}")
