"""Measure the importance of a teacher's layers on data."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from math import inf, pi
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from protege.spaces.architecture.layer_policies import FINDINGS
from protege.spaces.calibration.forward_trace import ForwardTrace, running, standing_in
from protege.spaces.errors import BadInput
from protege.spaces.models.batches import Batch, given, headless, lengths, pieces, real_tokens
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.models.outputs import answers, distance
from protege.spaces.remaining import Remaining

TOKENS = 1024
"""Real tokens to measure a ladder on: whole sequences, from the first on."""

TRIED = 8
"""Maximum number of layers tried for each removal, except the first, which tries all."""


class Geometry(NamedTuple):
    """How far layers rotate the residual states, averaged over real tokens.

    Attributes:
        angles: By stack, ``(layers + 1, layers + 1)``: the angle between the states at two layer
            boundaries, ``arccos(cos) / pi``. Boundary l is the input of layer l; the last one is
            the output of the last layer.
        influence: By stack, ``(layers,)``: one minus the cosine between a layer's input and
            output.
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
    """Measure what layer policies of these names need: ``decoder.angles``, ``decoder.ladder``.

    ``depths`` is that of `greedy_ladder`.

    Raises:
        BadInput: A policy is unknown.
    """
    unknown = set(policies) - set(FINDINGS)
    if unknown:
        raise BadInput(f"layers={sorted(policies)}: expected some of {', '.join(FINDINGS)}")
    wanted = {entry for policy in policies for entry in FINDINGS[policy]}
    found: dict[str, dict[str, Tensor]] = {}
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
    """Measure angles between the states at all layer boundaries, and each layer's influence.

    Uses the angular distance of Gromov et al. (arXiv 2403.17887), but over all real tokens instead
    of the last one, and the Block Influence of ShortGPT (arXiv 2403.03853). Takes one pass.
    """
    model = headless(teacher.model)
    turns, cosines, counts = dict[str, Tensor](), dict[str, Tensor](), dict[str, int]()
    for piece in (piece for batch in batches for piece in pieces(batch)):
        with torch.inference_mode(), _boundaries(teacher) as recorded:
            model(**given(piece))
        for stack, states in recorded.items():
            real = torch.stack([_real(state, piece, stack) for state in states])
            directions = normalize(real.double(), dim=-1).transpose(0, 1)
            cosine = (directions @ directions.mT).clamp(-1, 1)
            turns[stack] = turns.get(stack, 0) + cosine.arccos().sum(0) / pi
            cosines[stack] = cosines.get(stack, 0) + cosine.sum(0)
            counts[stack] = counts.get(stack, 0) + len(cosine)
    angles = {stack: (turn / counts[stack]).float() for stack, turn in turns.items()}
    kept = {stack: cosine.diagonal(1) / counts[stack] for stack, cosine in cosines.items()}
    return Geometry(angles, {stack: (1 - share).float() for stack, share in kept.items()})


@contextmanager
def _boundaries(teacher: LaidOutModel) -> Iterator[dict[str, list[Tensor]]]:
    """Record each stack's states inside the block: every layer's input, the last one's output."""
    states: dict[str, list[Tensor]] = {}
    with ExitStack() as handles:
        for stack, layers in teacher.layout.layers(teacher.model).items():
            own = states[stack] = []

            def entered(_module: nn.Module, given: Any, named: Any, at: Any = own) -> None:
                at.append(_input(given, named).cpu())

            def left(_module: nn.Module, _given: Any, output: Any, at: Any = own) -> None:
                at.append((output[0] if isinstance(output, tuple) else output).cpu())

            for layer in layers:
                hook = layer.register_forward_pre_hook(entered, with_kwargs=True)
                handles.enter_context(hook)
            handles.enter_context(layers[-1].register_forward_hook(left))
        yield states


def _input(given: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    """Return the residual states that a layer is called with."""
    return given[0] if given else named["hidden_states"]


def _real(states: Tensor, batch: Batch, stack: str) -> Tensor:
    """Return the states of real tokens, ``(tokens, hidden)``; of all tokens without a mask."""
    real = real_tokens(batch, states.shape[:2], in_decoder=stack == "decoder")
    return states.flatten(0, 1) if real is None else states[real]


def greedy_ladder(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    announce: Callable[[str], None] = lambda _: None,
    depths: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Tensor]:
    """Find the order in which to remove each stack's layers, ``(layers - 1,)``, greedily.

    The cost of a layer is the increase of the distance between the outputs and the whole teacher's
    (see `distance`), on the first `TOKENS` real tokens. Each step removes the cheapest layer. Costs
    are updated lazily, which saves most of the time: a step tries at most the `TRIED` layers with
    the lowest last known costs, and stops once the next known cost exceeds the lowest new one,
    because costs rarely fall as more layers are gone. The two stacks of an encoder-decoder are
    measured separately, each with the other one whole. Removals below a stack's depth in
    ``depths``, by default 1, are not measured; the remaining layers follow in order of their last
    known costs.
    """
    stacks = teacher.layout.layers(teacher.model)
    rungs = {stack: len(layers) - depths.get(stack, 1) for stack, layers in stacks.items()}
    with torch.inference_mode():
        measures = any(rungs.values())
        whole = (
            [_Outputs.by_all(teacher, one) for one in first_sequences(batches)] if measures else []
        )
        return {
            stack: _ladder(
                whole, layers, rungs[stack], Remaining(announce, f"choosing {stack} layers to drop")
            )
            for stack, layers in stacks.items()
        }


def _ladder(
    outputs: list["_Outputs"], layers: list[nn.Module], rungs: int, remaining: Remaining
) -> Tensor:
    """Return the removal order of one stack, ``(layers - 1,)``; measure the first ``rungs``."""
    costs = [-inf] * len(layers)
    left, removed = list(range(len(layers))), list[int]()
    while len(removed) < rungs:
        left.sort(key=costs.__getitem__)
        gone, before = {layers[number] for number in removed}, sum(one.loss for one in outputs)
        best, least = outputs, -1
        for number in left[:TRIED] if removed else left:
            if least >= 0 and costs[number] > costs[least]:
                break
            tried = [one.without(layers[number], gone) for one in outputs]
            costs[number] = sum(one.loss for one in tried) - before
            if least < 0 or costs[number] < costs[least]:
                best, least = tried, number
        outputs = best
        left.remove(least)
        removed.append(least)
        remaining.at(len(removed) / rungs)
    left.sort(key=costs.__getitem__)
    return torch.tensor([*removed, *left][: len(layers) - 1], dtype=torch.int64)


@dataclass(frozen=True)
class _Outputs:
    """The outputs of the teacher on a batch, without some of its layers.

    Attributes:
        targets: The whole teacher's outputs: probabilities or states.
        outputs: Each layer's output, in forward order; for removed layers their input.
        loss: The distance to the targets, summed (see `_loss`).
    """

    teacher: LaidOutModel
    batch: Batch
    targets: list[Tensor]
    outputs: Mapping[nn.Module, Any]
    loss: float

    @classmethod
    def by_all(cls, teacher: LaidOutModel, batch: Batch) -> "_Outputs":
        """Run the whole teacher."""
        with ForwardTrace(teacher) as course:
            found = answers(teacher, batch)
        is_logits = teacher.has_logits
        targets = [one.softmax(dim=-1) for one in found] if is_logits else found
        loss = _loss(targets, found, is_logits=is_logits)
        return cls(teacher, batch, targets, course.outputs, loss)

    def without(self, layer: nn.Module, gone: Collection[nn.Module]) -> "_Outputs":
        """Run without one more layer, starting there; ``gone`` are the layers removed before."""
        order = list(self.outputs)
        first = order.index(layer)
        later = [layer, *(one for one in order[first:] if one in gone)]
        skipped = {one: skipping(self.outputs[one]) for one in later}
        known = standing_in(self.outputs, first)
        with ForwardTrace(self.teacher) as course, known, running(skipped):
            found = answers(self.teacher, self.batch)
        loss = _loss(self.targets, found, is_logits=self.teacher.has_logits)
        return replace(self, outputs=course.outputs, loss=loss)


def _loss(targets: list[Tensor], outputs: list[Tensor], *, is_logits: bool) -> float:
    """Return the distance between outputs and targets, summed.

    For logits it is the cross-entropy in nats, which is the divergence plus a constant and faster.
    """
    pairs = zip(targets, outputs, strict=True)
    if is_logits:
        return sum(float(cross_entropy(one, target, reduction="sum")) for target, one in pairs)
    return sum(float(distance(target, one, is_logits=False)) for target, one in pairs)


def skipping(output: Any) -> Callable[..., Any]:
    """Return a forward that passes its input on, with the layer's other outputs unchanged.

    T5 passes the position bias along in these.
    """

    def forward(*given: Any, **named: Any) -> Any:
        states = _input(given, named)
        return (states, *output[1:]) if isinstance(output, tuple) else states

    return forward


def first_sequences(batches: Iterable[Batch], tokens: int = TOKENS) -> Iterator[Batch]:
    """Yield the first sequences with so many real tokens in total, at least one, in pieces."""
    taken = 0
    for batch in batches:
        ends = taken + lengths(batch).cumsum(0)
        count = max(int((ends <= tokens).sum()), int(taken == 0))
        if not count:
            return
        yield from pieces({name: value[:count] for name, value in batch.items()})
        if count < len(ends):
            return
        taken = int(ends[-1])
