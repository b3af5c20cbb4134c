"""Layer policies that look at data: what they keep is known once a calibration is."""

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
    """All but one block: the adjacent layers whose input and output are the closest by angle.

    The pruning of Gromov et al. (arXiv 2403.17887). The first and the last layer may be in the
    block as any other. Until it is resolved, both ends kept evenly stand for its choice.
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
    """All but the layers that turn the residual stream least (ShortGPT, arXiv 2403.03853).

    Until it is resolved, both ends kept evenly stand for its choice.
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
    """All but the layers that the answers miss least, taken away one by one (`greedy_ladder`).

    Until it is resolved, both ends kept evenly stand for its choice.
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
    """What a policy that looks at data keeps of one teacher, at every depth.

    It is told of as the policy is: a study is declared by that, not by what the data show.

    Attributes:
        policy: The policy.
        choices: For each stack, the layers kept where one is left, where two are, and so on.
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
        """A policy's choices.

        Args:
            policy: The policy.
            what: What it looks at: the ending of names in a calibration, one for each stack.
            calibration: Of the teacher.
            choices: The layers kept of a stack by what was found of it: of one, of two, and so on.

        Raises:
            BadInput: There is no calibration, or it has nothing of the kind.
        """
        given = calibration.importance if calibration is not None else {}
        found = {n.removesuffix(f".{what}"): t for n, t in given.items() if n.endswith(f".{what}")}
        if not found:
            fault = f"a calibration without {what}" if given else "needs a calibration"
            raise BadInput(
                f"layer policy {policy.name!r}: {fault}; "
                f"pass calibration=Calibration.of(teacher, batches, layers=[{policy.name!r}])"
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
                f"the calibration of another teacher, of {known}; resolve it with this one's"
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
