"""Layer policies whose choice depends on calibration data."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from protege.spaces.architecture.policies import Ends, Findings, LayerPolicy
from protege.spaces.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

Layers = tuple[int, ...]


@dataclass(frozen=True)
class Contiguous:
    """Drops one block of adjacent layers: the one whose input and output differ least by angle.

    The method of Gromov et al. (arXiv 2403.17887). The block may include the first and the last
    layer. Until resolved, `layers` returns the choice of `Ends`.
    """

    name: ClassVar[str] = "contiguous"
    needs_calibration: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        return Chosen.of(self, "angles", calibration, _without_closest_block)

    def layers(self, total: int, count: int, stack: str = "", /) -> Layers:
        return Ends().layers(total, count, stack)


@dataclass(frozen=True)
class Influence:
    """Drops the layers that change the residual stream's direction least (arXiv 2403.03853).

    The block influence of ShortGPT. Until resolved, `layers` returns the choice of `Ends`.
    """

    name: ClassVar[str] = "influence"
    needs_calibration: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        return Chosen.of(self, "influence", calibration, _most_influential)

    def layers(self, total: int, count: int, stack: str = "", /) -> Layers:
        return Ends().layers(total, count, stack)


@dataclass(frozen=True)
class Greedy:
    """Drops layers one by one, each time the one that changes the outputs least (`greedy_ladder`).

    Until resolved, `layers` returns the choice of `Ends`.
    """

    name: ClassVar[str] = "greedy"
    needs_calibration: ClassVar[bool] = True
    is_resolved: ClassVar[bool] = False

    def resolved(self, calibration: Findings | None, /) -> LayerPolicy:
        return Chosen.of(self, "ladder", calibration, _left_on_ladder)

    def layers(self, total: int, count: int, stack: str = "", /) -> Layers:
        return Ends().layers(total, count, stack)


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

    @classmethod
    def of(
        cls,
        policy: LayerPolicy,
        what: str,
        calibration: Findings | None,
        choices: "Callable[[Tensor], Iterable[Layers]]",
    ) -> "Chosen":
        """Resolve a policy.

        Args:
            policy: The policy.
            what: Suffix of the calibration's entries that it needs, such as ``angles``.
            calibration: The teacher's calibration.
            choices: Returns a stack's kept layers for depth 1, 2 and so on, from its entry.

        Raises:
            BadInput: The calibration is missing or lacks these entries.
        """
        given = calibration.importance if calibration is not None else {}
        found = {n.removesuffix(f".{what}"): t for n, t in given.items() if n.endswith(f".{what}")}
        if not found:
            fault = f"a calibration without {what}" if given else "needs a calibration"
            raise BadInput(
                f"layer policy {policy.name!r}: {fault}; "
                f"pass calibration=Calibration.of(teacher, batches, for_=[{policy!r}])"
            )
        return cls(policy, tuple((stack, tuple(choices(t))) for stack, t in found.items()))

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


def _without_closest_block(angles: "Tensor") -> Iterator[Layers]:
    total = len(angles) - 1
    for count in range(1, total):
        start = int(angles.diagonal(total - count).argmin())
        yield (*range(start), *range(start + total - count, total))


def _most_influential(influence: "Tensor") -> Iterator[Layers]:
    order = influence.argsort(stable=True).tolist()
    for count in range(1, len(order)):
        yield tuple(sorted(order[-count:]))


def _left_on_ladder(ladder: "Tensor") -> Iterator[Layers]:
    left = {*range(len(ladder) + 1)}
    for gone in range(len(ladder), 0, -1):
        yield tuple(sorted(left - {*ladder[:gone].tolist()}))
