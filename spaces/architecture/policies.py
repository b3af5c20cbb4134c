"""Policies that choose which layers and units of the teacher a student keeps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self, get_args

from protege.spaces.errors import BadInput, Infeasible
from protege.spaces.files.hashing import digest

if TYPE_CHECKING:  # records of architectures are read without torch
    from torch import Tensor

HeadsBy = Literal["activation", "gradient", "ablation", "wanda"]
"""Criteria for heads: activity, gradient of the loss, change of the outputs without the head,
contribution to the output projection (Wanda)."""

Criterion = HeadsBy | Literal["taylor", "magnitude", "surgeon", "position"]
"""What units are ranked by: an entry of a `Calibration`. With ``position`` all units are equal, so
that the first ones stay."""

Healing = Literal["none", "one-shot", "sequential"]
"""How a cut student is repaired: not at all, from second moments alone, or also on its own
inputs."""


def check_healing(given: object) -> None:
    """Raise BadInput for an unknown healing method."""
    if given not in get_args(Healing):
        raise BadInput(f"healing={given!r}: expected one of {', '.join(get_args(Healing))}")


class Findings(Protocol):
    """Measurements of a teacher, by the names of `Calibration`, which implements it."""

    @property
    def importance(self) -> "Mapping[str, Tensor]": ...


def ranking(importance: "Mapping[str, Tensor]", name: str, criterion: Criterion) -> "Tensor":
    """Return the importance of units, such as ``hidden`` or ``decoder.ffn``, by a criterion.

    Raises:
        BadInput: Nothing was measured by that criterion.
    """
    if criterion in {"activation", "magnitude"}:  # both are stored without a suffix
        return importance[name]
    if criterion == "position":
        return importance[name].new_ones(importance[name].shape)
    if not any(known.endswith(f".{criterion}") for known in importance):
        raise BadInput(
            f"a calibration without {criterion}, which the width policy ranks units by: pass "
            "Calibration.of the student's policies, as in for_=[Greedy(), Surgeon()]"
        )
    # the criterion may lack a site, such as a pooler's heads; rank it by activity
    return importance.get(f"{name}.{criterion}", importance[name])


class LayerPolicy(Protocol):
    """Chooses the teacher's layers that a student of a given depth keeps."""

    @property
    def name(self) -> str:
        """The policy's name in studies, keys and reports."""

    @property
    def needs_calibration(self) -> bool:
        """Whether the choice depends on a calibration pass over data."""

    @property
    def is_resolved(self) -> bool:
        """Whether the choice is known; if not, `layers` returns placeholders."""

    def resolved(self, calibration: Findings | None, /) -> "LayerPolicy":
        """Return the policy with its choice known; itself if it is resolved.

        Raises:
            BadInput: The calibration is missing or lacks what the policy needs.
        """

    def layers(self, total: int, count: int, stack: str = "", /) -> tuple[int, ...]:
        """Return ascending indices of ``count`` of the ``total`` layers of the teacher's stack.

        Raises:
            Infeasible: The policy cannot keep that many layers.
        """


class WidthPolicy(Protocol):
    """Chooses the units (channels, heads, neurons) that a student of a given width keeps."""

    @property
    def name(self) -> str:
        """The policy's name in studies, keys and reports."""

    @property
    def needs_calibration(self) -> bool:
        """Whether the choice depends on a calibration pass over data."""

    @property
    def needs_weights(self) -> bool:
        """Whether the choice depends on the weights alone; see `Calibration.of_weights`."""

    def criterion(self, unit: str) -> Criterion:
        """Return what the units of an axis are ranked by."""


class FixedPolicy:
    """A policy whose choice depends on neither data nor weights."""

    needs_calibration: ClassVar[bool] = False
    needs_weights: ClassVar[bool] = False
    is_resolved: ClassVar[bool] = True

    def resolved(self, _calibration: Findings | None, /) -> Self:
        return self


@dataclass(frozen=True)
class Uniform(FixedPolicy):
    """Every k-th layer, ``int(i * total / count)``, as in most distillation guides."""

    name: ClassVar[str] = "uniform"

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(i * total // count for i in range(count))


@dataclass(frozen=True)
class Ends(FixedPolicy):
    """Layers evenly spaced from the first to the last, both kept.

    For 6 of 12 layers this is DistilBERT's choice: 0 2 4 7 9 11. A single layer is the first one.
    """

    name: ClassVar[str] = "ends"

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        _check_depth(total, count)
        if count == 1:
            return (0,)
        gaps = count - 1
        return tuple((2 * i * (total - 1) + gaps) // (2 * gaps) for i in range(count))


@dataclass(frozen=True)
class First(FixedPolicy):
    """The first layers, or the first units, as slicing a checkpoint keeps them."""

    name: ClassVar[str] = "first"

    def criterion(self, _unit: str) -> Criterion:
        return "position"

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        _check_depth(total, count)
        return tuple(range(count))


class LayerMap(FixedPolicy):
    """Explicit layers, one list for each supported depth.

    ``LayerMap([0, 1, 3, 4, 5], [0, 2, 4, 5])`` supports students of five and of four layers.

    Attributes:
        name: The policy's name; by default derived from the layers, such as ``map-0.2.4.5``.
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

    def layers(self, total: int, count: int, _stack: str = "", /) -> tuple[int, ...]:
        choice = self._choices.get(count)
        if choice is None or choice[-1] >= total:
            covered = sorted(self._choices)
            raise Infeasible(
                f"{count} of {total} layers: the layer map {self.name!r} covers depths {covered}, "
                "of a teacher that has all its layers"
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
    """Return the layers that a policy keeps of a stack; all layers if none is cut."""
    return policy.layers(total, count, stack) if count < total else tuple(range(total))


def _check_depth(total: int, count: int) -> None:
    if count > total:
        raise Infeasible(f"{count} layers asked of a teacher of {total}; keep at most {total}")
