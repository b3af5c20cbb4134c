"""Layer policies whose choice depends on calibration data."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protege.spaces.architecture.policies import Ends, Findings, LayerPolicy
from protege.spaces.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

Layers = tuple[int, ...]


class MeasuredLayers(ABC):
    """A layer policy that chooses by one entry of the calibration.

    Until it is resolved, `layers` returns the choice of `Ends`.

    Attributes:
        name: The policy's name.
        entry: Suffix of the calibration's entries, one for each stack.
    """

    name: ClassVar[str]
    entry: ClassVar[str]
    needs_calibration: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    @abstractmethod
    def choices(self, found: "Tensor") -> Iterator[Layers]:
        """Yield a stack's kept layers for depth 1, 2 and so on, by its entry."""

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        """Return the policy with its choices."""
        given = calibration.importance if calibration is not None else {}
        ending = f".{self.entry}"
        found = {n.removesuffix(ending): t for n, t in given.items() if n.endswith(ending)}
        if not found:
            fault = f"a calibration without {self.entry}" if given else "needs a calibration"
            raise BadInput(
                f"layer policy {self.name!r}: {fault}; "
                f"pass calibration=Calibration.of(teacher, batches, for_=[{self!r}])"
            )
        chosen = ((stack, tuple(self.choices(entry))) for stack, entry in found.items())
        return Chosen(self, tuple(chosen))

    def layers(self, total: int, count: int, stack: str = "", /) -> Layers:
        return Ends().layers(total, count, stack)


@dataclass(frozen=True)
class Contiguous(MeasuredLayers):
    """Drops one block of adjacent layers: the one whose input and output differ least by angle.

    The method of Gromov et al. (arXiv 2403.17887). The block may include the first and the last
    layer.
    """

    name: ClassVar[str] = "contiguous"
    entry: ClassVar[str] = "angles"

    def choices(self, found: "Tensor") -> Iterator[Layers]:
        total = len(found) - 1
        for count in range(1, total):
            start = int(found.diagonal(total - count).argmin())
            yield (*range(start), *range(start + total - count, total))


@dataclass(frozen=True)
class Influence(MeasuredLayers):
    """Drops the layers that change the residual stream's direction least (arXiv 2403.03853).

    The block influence of ShortGPT.
    """

    name: ClassVar[str] = "influence"
    entry: ClassVar[str] = "influence"

    def choices(self, found: "Tensor") -> Iterator[Layers]:
        order = found.argsort(stable=True).tolist()
        for count in range(1, len(order)):
            yield tuple(sorted(order[-count:]))


@dataclass(frozen=True)
class Greedy(MeasuredLayers):
    """Drops layers one by one, each time the one that changes the outputs least.

    See `greedy_ladder`.
    """

    name: ClassVar[str] = "greedy"
    entry: ClassVar[str] = "ladder"

    def choices(self, found: "Tensor") -> Iterator[Layers]:
        left = {*range(len(found) + 1)}
        for gone in range(len(found), 0, -1):
            yield tuple(sorted(left - {*found[:gone].tolist()}))


LADDERS: tuple[LayerPolicy, ...] = (Greedy(), Influence(), Contiguous())
"""The layer policies that `Closest` chooses between."""


@dataclass(frozen=True)
class Closest(MeasuredLayers):
    """Keeps the layers whose healed student is closest to the teacher.

    Compares the choices of `Greedy`, `Influence` and `Contiguous`; see `closest_layers`.
    """

    name: ClassVar[str] = "closest"
    entry: ClassVar[str] = "closest"

    def choices(self, found: "Tensor") -> Iterator[Layers]:
        for row in found:
            yield tuple(row.nonzero().flatten().tolist())


FINDINGS: Mapping[str, tuple[str, ...]] = {
    **{policy.name: (policy.entry,) for policy in (Influence, Contiguous, Greedy)},
    Closest.name: (Greedy.entry, Influence.entry, Contiguous.entry),
}
"""The calibration entries that each layer policy needs, and `Closest` is measured from."""


@dataclass(frozen=True, repr=False)
class Chosen:
    """A resolved policy: the layers of one teacher that it keeps at every depth.

    `repr` and `name` are the original policy's, so that the study's identity does not depend on
    data.

    Attributes:
        policy: The policy.
        choices: Pairs of a stack and its kept layers for depth 1, 2 and so on.
    """

    policy: LayerPolicy
    choices: tuple[tuple[str, tuple[Layers, ...]], ...]
    needs_calibration: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return self.policy.name

    def resolved(self, _calibration: Findings | None, /) -> LayerPolicy:
        return self

    def layers(self, total: int, count: int, stack: str = "", /) -> Layers:
        if count >= total:
            return Ends().layers(total, count)
        choices = dict(self.choices).get(stack, ())
        if len(choices) != total - 1:
            known = ", ".join(name for name, _ in self.choices)
            raise BadInput(
                f"layer policy {self.name!r} of the {stack or 'only'} stack: it was resolved with "
                f"another teacher's calibration (stacks: {known}); use this teacher's calibration"
            )
        return choices[count - 1]

    def __repr__(self) -> str:
        return repr(self.policy)
