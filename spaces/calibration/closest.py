"""Choose the layers whose healed student is closest to its teacher."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.layer_policies import LADDERS, Layers
from protege.spaces.architecture.policies import Healing, LayerMap, LayerPolicy
from protege.spaces.calibration.layers import first_sequences
from protege.spaces.errors import Infeasible
from protege.spaces.families.family import family_of
from protege.spaces.models.batches import Batch
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.models.outputs import distance, final_answers
from protege.spaces.remaining import Remaining
from protege.spaces.residual.states import ResidualStates

Rule = Callable[[int], Layers]
"""Returns the layers that a student of some depth keeps."""

TOKENS = 512
"""Real tokens to heal students on, and as many to judge them on."""

DEPTHS = 5
"""Maximum number of depths at which students are built; the others follow the nearest of them."""


class StudentBuilder(LaidOutModel, Protocol):
    """A model of which students can be built; `Teacher` implements it."""

    def student(self, architecture: Architecture, calibration: Any = None) -> Any:
        """Cut the student of an architecture and heal it."""


def closest_layers(
    teacher: StudentBuilder,
    calibration: Any,
    batches: Iterable[Batch],
    depths: Mapping[str, int] = MappingProxyType({}),
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Find the layers that students of each depth keep, by building some of these students.

    At each of at most `DEPTHS` depths, from the deepest on, the candidates are the choices of
    `LADDERS`, and the best layers of the depth before without one more block of adjacent layers
    (see `without_block`). Their students are healed, because healing changes which layers are
    missed. The one with the least distance between its answers and the teacher's decides for this
    depth and the nearest others. The two stacks of an encoder-decoder are compared separately, each
    with the other one whole.

    Args:
        teacher: The teacher.
        calibration: A `Calibration` with the findings for `LADDERS`, and with residual states if
            students are healed.
        batches: Data to judge students on.
        depths: By stack, the fewest layers of a student; by default 1.
        announce: Callback for progress messages.

    Returns:
        ``decoder.closest``, ``(layers - 1, layers)``, for each stack: whether the student of
        ``row + 1`` layers keeps a layer.
    """
    compared, found = _Comparison.of(teacher, calibration, batches), dict[str, Tensor]()
    for stack, size in family_of(teacher.architecture.model_type).depths.items():
        total = teacher.layout.depths.get(stack, 0)
        if total < 2:
            continue
        remaining = Remaining(announce, f"comparing healed students of fewer {stack} layers")
        places = spaced(min(depths.get(stack, 1), total - 1), total - 1)
        rules = compared.rules(stack, size, places, remaining)
        table = torch.zeros(total - 1, total, dtype=torch.bool)
        for depth in range(1, total):
            table[depth - 1, list(nearest(rules, depth)(depth))] = True
        found[f"{stack}.closest"] = table
    return found


def spaced(least: int, most: int) -> list[int]:
    """Return at most `DEPTHS` depths from the most to the least, evenly spaced."""
    count = min(DEPTHS, most - least + 1)
    return [round(most - at * (most - least) / max(1, count - 1)) for at in range(count)]


def nearest(rules: Mapping[int, Rule], depth: int) -> Rule:
    """Return the rule of the nearest depth; of two, that of the greater."""
    return rules[min(rules, key=lambda place: (abs(place - depth), -place))]


def without_block(angles: Tensor, layers: Layers, depth: int) -> Layers:
    """Drop the block of neighbours whose input and output differ least by angle.

    Args:
        angles: Angles between the teacher's states at all boundaries of layers (see `Geometry`).
        layers: The layers to drop from.
        depth: The number of layers that stay.
    """
    ends, gone = (*layers, len(angles) - 1), len(layers) - depth
    first = min(range(depth + 1), key=lambda at: float(angles[ends[at], ends[at + gone]]))
    return layers[:first] + layers[first + gone :]


@dataclass(frozen=True)
class _Comparison:
    """Judges healed students.

    Attributes:
        teacher: Their teacher.
        calibration: Its calibration, with states of few tokens to heal on.
        answered: Batches, each with the teacher's answers.
    """

    teacher: StudentBuilder
    calibration: Any
    answered: list[tuple[Batch, list[Tensor]]]

    @classmethod
    def of(
        cls, teacher: StudentBuilder, calibration: Any, batches: Iterable[Batch]
    ) -> "_Comparison":
        """Compute the teacher's answers, and its states on few tokens."""
        with torch.inference_mode():
            parts = list(first_sequences(batches, TOKENS))
            answered = [(one, final_answers(teacher, one)) for one in parts]
        if calibration.streams is not None:
            given, graph = calibration.streams.batch, calibration.streams.wiring
            few = next(first_sequences([given], TOKENS))
            calibration = replace(calibration, streams=ResidualStates.of(teacher, few, graph))
        return cls(teacher, calibration, answered)

    def rules(
        self, stack: str, size: str, places: list[int], remaining: Remaining
    ) -> dict[int, Rule]:
        """Return by depth the rule of the closest student, which fits the nearest depths too."""
        total, found = self.teacher.layout.depths[stack], dict[int, Rule]()
        angles = self.calibration.importance[f"{stack}.angles"]
        ladders = [policy.resolved(self.calibration) for policy in LADDERS]
        rules = [partial(_by_ladder, ladder, total, stack) for ladder in ladders]
        before: Layers = ()
        for number, depth in enumerate(places, 1):
            more = [partial(without_block, angles, before)] if before else []
            found[depth] = self._best([*rules, *more], size, depth)
            before = found[depth](depth)
            remaining.at(number / len(places))
        return found

    def _best(self, rules: Iterable[Rule], size: str, depth: int) -> Rule:
        by_layers: dict[Layers, Rule] = {}
        for rule in rules:
            by_layers.setdefault(rule(depth), rule)
        if len(by_layers) == 1:
            return next(iter(by_layers.values()))
        scores = {layers: self._apart(layers, size) for layers in by_layers}
        return by_layers[min(scores, key=scores.__getitem__)]

    def _apart(self, layers: Layers, size: str) -> float:
        """Return the distance of a student's answers to the teacher's, summed."""
        own = self.teacher.architecture
        sizes: dict[str, Any] = {size: len(layers)}
        healing: Healing = "none" if self.calibration.streams is None else "sequential"
        try:
            smaller = replace(own, **sizes)
            cut = own.with_policies(smaller, LayerMap(layers), own.width_policy, healing)
            student = self.teacher.student(cut, self.calibration)
        except Infeasible:
            return inf
        itself = self.teacher.with_model(student.model, self.teacher.pooling)
        is_logits, total = self.teacher.has_logits, 0.0
        with torch.inference_mode():
            for batch, whole in self.answered:
                pairs = zip(whole, final_answers(itself, batch), strict=True)
                total += sum(float(distance(*pair, is_logits=is_logits)) for pair in pairs)
        return total


def _by_ladder(ladder: LayerPolicy, total: int, stack: str, depth: int) -> Layers:
    return ladder.layers(total, depth, stack)
