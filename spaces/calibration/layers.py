"""What each layer of a teacher is worth, told by its own states and answers on data."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf, pi
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from protege.spaces.calibration.importance import (
    Course,
    layers_by_stack,
    pieces,
    running,
    standing_in,
)
from protege.spaces.errors import BadInput
from protege.spaces.models.batches import Batch, given, headless, lengths, real_tokens
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.outputs import answers, distance
from protege.spaces.remaining import Remaining

FINDINGS = {"influence": "influence", "contiguous": "angles", "greedy": "ladder"}
"""For each layer policy that looks at data, what it looks at."""

TOKENS = 1024
"""Real tokens that a ladder is climbed on: whole sequences, from the first on."""

TRIED = 8
"""Layers tried at most at every rung of a ladder but the first, which tries all."""


class Geometry(NamedTuple):
    """How far a stack's layers turn the residual states, in the mean over real tokens.

    Attributes:
        angles: By stack, ``(layers + 1, layers + 1)``: the angle between the states at two
            boundaries, as a share of half a turn, ``arccos(cos) / pi``. Boundary l is the input of
            layer l, the last one the output of the last layer.
        influence: By stack, ``(layers,)``: one less the cosine between a layer's input and output.
    """

    angles: dict[str, Tensor]
    influence: dict[str, Tensor]


def layer_findings(
    teacher: LaidOutModel,
    batches: Collection[Batch],
    policies: Collection[str],
    announce: Callable[[str], None] = lambda _: None,
    depths: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Return what the layer policies of these names look at: ``decoder.angles`` and the like.

    Args:
        teacher: The teacher.
        batches: What its forward takes.
        policies: Names of layer policies.
        announce: Told how far the measurement is.
        depths: By stack, the fewest layers that a student has; see `greedy_ladder`.

    Raises:
        BadInput: There is no such policy.
    """
    unknown = set(policies) - set(FINDINGS)
    if unknown:
        raise BadInput(f"layers={sorted(policies)}: expected some of {', '.join(FINDINGS)}")
    wanted, found = {FINDINGS[policy] for policy in policies}, dict[str, dict[str, Tensor]]()
    if wanted - {"ladder"}:
        found |= layer_geometry(teacher, batches)._asdict()
    if "ladder" in wanted:
        found["ladder"] = greedy_ladder(teacher, batches, announce, depths)
    return {
        f"{stack}.{what}": tensor
        for what in sorted(wanted)
        for stack, tensor in found[what].items()
    }


def layer_geometry(teacher: LaidOutModel, batches: Iterable[Batch]) -> Geometry:
    """Angles between the states at all layer boundaries, and every layer's influence: one pass.

    The angular distance of Gromov et al. (arXiv 2403.17887), over all real tokens where they take
    the last one, and the Block Influence of ShortGPT (arXiv 2403.03853).

    Args:
        teacher: The teacher.
        batches: What its forward takes.
    """
    model = headless(teacher.model)
    turns, cosines, counts = dict[str, Tensor](), dict[str, Tensor](), dict[str, int]()
    for piece in (piece for batch in batches for piece in pieces(batch)):
        with torch.inference_mode(), _Boundaries(teacher) as boundaries:
            model(**given(piece))
        for stack, states in boundaries.states.items():
            real = torch.stack([_real(state, piece, stack) for state in states])
            directions = normalize(real.double(), dim=-1).transpose(0, 1)
            cosine = (directions @ directions.mT).clamp(-1, 1)
            turns[stack] = turns.get(stack, 0) + cosine.arccos().sum(0) / pi
            cosines[stack] = cosines.get(stack, 0) + cosine.sum(0)
            counts[stack] = counts.get(stack, 0) + len(cosine)
    angles = {stack: (turn / counts[stack]).float() for stack, turn in turns.items()}
    kept = {stack: cosine.diagonal(1) / counts[stack] for stack, cosine in cosines.items()}
    return Geometry(angles, {stack: (1 - share).float() for stack, share in kept.items()})


class _Boundaries:
    """Listens to the residual states between layers.

    Attributes:
        states: By stack, the input of each layer and the output of the last one.
    """

    def __init__(self, teacher: LaidOutModel) -> None:
        self.states: dict[str, list[Tensor]] = {}
        self._stacks = layers_by_stack(teacher)
        self._handles = ExitStack()

    def __enter__(self) -> "_Boundaries":
        for stack, layers in self._stacks.items():
            states = self.states[stack] = []

            def entered(_module: nn.Module, given: Any, named: Any, at: Any = states) -> None:
                at.append(_input(given, named).cpu())

            def left(_module: nn.Module, _given: Any, output: Any, at: Any = states) -> None:
                at.append((output[0] if isinstance(output, tuple) else output).cpu())

            for layer in layers:
                handle = layer.register_forward_pre_hook(entered, with_kwargs=True)
                self._handles.callback(handle.remove)
            self._handles.callback(layers[-1].register_forward_hook(left).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()


def _input(given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """The residual states that a layer is called with."""
    return given[0] if given else named["hidden_states"]


def _real(states: Tensor, batch: Batch, stack: str) -> Tensor:
    """States of real tokens, ``(tokens, hidden)``; of all where no mask says which those are."""
    real = real_tokens(batch, states.shape[:2], in_decoder=stack == "decoder")
    return states.flatten(0, 1) if real is None else states[real]


def greedy_ladder(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    announce: Callable[[str], None] = lambda _: None,
    depths: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Return the order in which each stack's layers go, ``(layers - 1,)``: the least missed first.

    A layer is missed by how much farther the answers are from the whole teacher's without it, in
    Kullback-Leibler divergence or relative to the states (see `distance`), on the first `TOKENS`
    real tokens. After every removal that is measured again, but lazily, which saves most of the
    time: of the `TRIED` layers that were missed least when they were last tried, and of them only
    until the next was missed more then than the least is now. Layers are hardly missed less where
    more are gone. Of a pair, each stack has a ladder of its own, with the other one whole.

    Args:
        teacher: The teacher.
        batches: What its forward takes.
        announce: Told how far it is.
        depths: By stack, the fewest layers that a student has, 1 if not given. Layers beyond are
            not measured: they stand last, in the order in which they were missed so far.
    """
    stacks = layers_by_stack(teacher)
    rungs = {stack: len(layers) - depths.get(stack, 1) for stack, layers in stacks.items()}
    with torch.inference_mode():
        measures = any(rungs.values())
        whole = [_Answered.by_all(teacher, one) for one in _sample(batches)] if measures else []
        return {
            stack: _ladder(whole, layers, rungs[stack], Remaining(announce, f"{stack} ladder"))
            for stack, layers in stacks.items()
        }


def _ladder(
    answered: list["_Answered"],
    layers: list[nn.Module],
    rungs: int,
    remaining: Remaining,
) -> Tensor:
    """Return the ladder of one stack, ``(layers - 1,)``, of which so many rungs are measured."""
    missed = [-inf] * len(layers)
    left, removed = list(range(len(layers))), list[int]()
    while len(removed) < rungs:
        left.sort(key=missed.__getitem__)
        gone, before = {layers[number] for number in removed}, sum(one.loss for one in answered)
        best, least = answered, -1
        for number in left[:TRIED] if removed else left:
            if least >= 0 and missed[number] > missed[least]:
                break
            tried = [one.without(layers[number], gone) for one in answered]
            missed[number] = sum(one.loss for one in tried) - before
            if least < 0 or missed[number] < missed[least]:
                best, least = tried, number
        answered = best
        left.remove(least)
        removed.append(least)
        remaining.at(len(removed) / rungs)
    left.sort(key=missed.__getitem__)
    return torch.tensor([*removed, *left][: len(layers) - 1], dtype=torch.int64)


@dataclass(frozen=True)
class _Answered:
    """One piece of data, answered without some of the layers.

    Attributes:
        teacher: The teacher.
        batch: The piece.
        aims: What the whole teacher answers: probabilities, or states.
        outputs: What each layer gave, in the order they ran; what went in, of those left out.
        loss: How far the answers are from the aims, summed over them (see `_loss`).
    """

    teacher: LaidOutModel
    batch: Batch
    aims: list[Tensor]
    outputs: Mapping[nn.Module, Any]
    loss: float

    @classmethod
    def by_all(cls, teacher: LaidOutModel, batch: Batch) -> "_Answered":
        """Answered by the whole teacher."""
        with Course(teacher) as course:
            said = answers(teacher, batch)
        is_logits = teacher.has_logits
        aims = [one.softmax(dim=-1) for one in said] if is_logits else said
        return cls(teacher, batch, aims, course.outputs, _loss(aims, said, is_logits=is_logits))

    def without(self, layer: nn.Module, gone: Collection[nn.Module]) -> "_Answered":
        """The same without one more layer, run from that one on; those gone before stay so."""
        order = list(self.outputs)
        first = order.index(layer)
        later = [layer, *(one for one in order[first:] if one in gone)]
        skipped = {one: skipping(self.outputs[one]) for one in later}
        known = standing_in(self.outputs, first)
        with Course(self.teacher) as course, known, running(skipped):
            said = answers(self.teacher, self.batch)
        loss = _loss(self.aims, said, is_logits=self.teacher.has_logits)
        return replace(self, outputs=course.outputs, loss=loss)


def _loss(aims: list[Tensor], said: list[Tensor], *, is_logits: bool) -> float:
    """How far answers are from their aims, summed over them.

    Of logits the cross-entropy, in nats: the divergence and what no answer changes, in less time.
    """
    pairs = zip(aims, said, strict=True)
    if is_logits:
        return sum(float(cross_entropy(one, aim, reduction="sum")) for aim, one in pairs)
    return sum(float(distance(aim, one, is_logits=False)) for aim, one in pairs)


def skipping(output: Any) -> Callable[..., Any]:
    """A forward that gives back its input, with what else the layer puts out as it was.

    T5 hands the distances between tokens along there.
    """

    def forward(*given: Any, **named: Any) -> Any:
        states = _input(given, named)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return forward


def _sample(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The first sequences that have `TOKENS` real tokens between them, at least one; in pieces."""
    taken = 0
    for batch in batches:
        ends = taken + lengths(batch).cumsum(0)
        count = max(int((ends <= TOKENS).sum()), int(taken == 0))
        if not count:
            return
        yield from pieces({name: value[:count] for name, value in batch.items()})
        if count < len(ends):
            return
        taken = int(ends[-1])
