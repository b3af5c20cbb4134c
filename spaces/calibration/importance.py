"""Importance of heads and other units by their effect on the model's outputs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.forward_trace import ForwardTrace, output_projections, standing_in
from protege.spaces.models.activations import HEADS, inputs
from protege.spaces.models.batches import Batch, by_sequence, pieces, rows
from protege.spaces.models.layout import LaidOutModel, Place
from protege.spaces.models.outputs import answers, distance, next_token_loss, reading, written
from protege.spaces.remaining import Remaining

Found = tuple[int, dict[Place, Tensor]]
"""The number of measurements, and their sum for each place, ``(units,)``."""


def head_importance(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    criterion: HeadsBy,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Measure the importance of every attention head.

    - ``gradient``: the sensitivity of Michel et al. (2019, arXiv 1905.10650), equation 2: the mean
      over sequences of ``|dL/dm|``, with m a factor on the head's output. L is the next-token loss
      if the model generates text. Otherwise L is a random `reading` of the outputs, which needs no
      labels and whose expected squared change equals the change that ``ablation`` measures.
    - ``ablation``: the change of the outputs when the head is set to zero, averaged over outputs
      (real tokens or texts): Kullback-Leibler divergence of logits in nats, or relative squared
      distance of states. Takes one pass per head, from its layer on.

    A site whose projection is not called as a module is left out (SigLIP's pooler, which torch runs
    as one fused operation).

    Returns:
        By site, ``(layers, heads)``.
    """
    remaining = Remaining(announce, f"ranking heads by {criterion}")
    if criterion == "gradient":
        gates = list(head_gates(teacher))
        return _mean(teacher, batches, partial(_slopes, gates=gates), remaining)
    return _mean(teacher, batches, _by_ablation, remaining)


def taylor_importance(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Measure the first-order importance of heads, neurons and channels in one backward pass.

    The criterion of Molchanov et al. (2019, arXiv 1906.10771), used by LLM-Pruner (arXiv
    2305.11627): the mean over sequences of ``|dL/dg|``, with g a factor on the unit and L the loss
    of ``gradient`` in `head_importance`.

    Returns:
        ``decoder.heads.gradient``, ``(layers, heads)``; ``decoder.ffn.taylor``, ``(layers, ffn)``,
        at the input of the feed-forward's last projection; ``hidden.taylor``, ``(hidden_size,)``,
        summed over the outputs of the residual stream's norms.
    """
    measure = partial(_slopes, gates=list(all_gates(teacher)))
    found = _mean(teacher, batches, measure, Remaining(announce, "ranking units by taylor"))
    named: dict[str, Tensor] = {}
    for site, values in found.items():
        if site == "hidden":
            named["hidden.taylor"] = values[0]
        else:
            named[f"{site}.taylor" if site.endswith(".ffn") else f"{site}.gradient"] = values
    return named


def _mean(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    measure: Callable[..., Found],
    remaining: Remaining,
) -> dict[str, Tensor]:
    """Average measurements over all data, by site, ``(layers, units)``.

    ``measure`` is given a piece of a batch, the number of its first sequence, and a callback for
    its progress.
    """
    parts = [piece for batch in batches for piece in pieces(batch)]
    found: dict[str, Tensor] = {}
    first = count = 0
    for number, piece in enumerate(parts, 1):

        def tell(share: float, done: int = number - 1) -> None:
            remaining.passing((done + share) / len(parts))

        counted, values = measure(teacher, piece, first, tell)
        for (site, layer), of_units in values.items():
            depth = teacher.layout.depths.get(site.partition(".")[0], 1)
            found.setdefault(site, torch.zeros(depth, len(of_units)))[layer] += of_units
        first, count = first + rows(piece), count + counted
        remaining.at(number / len(parts))
    return {site: table / count for site, table in found.items()}


def _by_ablation(
    teacher: LaidOutModel, batch: Batch, _first: int, tell: Callable[[float], None]
) -> Found:
    """Measure each head's ablation, summed over outputs; report progress to ``tell``."""
    heads, is_logits = teacher.architecture.num_attention_heads, teacher.has_logits
    found: dict[Place, Tensor] = {}
    with torch.inference_mode():
        with ForwardTrace(teacher) as course:
            whole = answers(teacher, batch)
        sites = [site for site in output_projections(teacher) if site[0] in course.before]
        for number, (module, place) in enumerate(sites, 1):
            lost = torch.zeros(heads)
            with standing_in(course.outputs, course.before[module]):
                for head in range(heads):
                    with _silenced(module, head, heads):
                        pairs = zip(whole, answers(teacher, batch), strict=True)
                        lost[head] = sum(distance(*pair, is_logits=is_logits) for pair in pairs)
            found[place] = lost
            tell(number / len(sites))
    return sum(map(len, whole)), found


def _silenced(module: nn.Module, head: int, heads: int) -> RemovableHandle:
    """Set one head's channels to zero in the projection's input, by a hook."""

    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        by_head = given[0].unflatten(-1, (heads, -1)).clone()
        by_head[..., head, :] = 0
        return (by_head.flatten(-2), *given[1:])

    return module.register_forward_pre_hook(hook)


@dataclass(frozen=True, eq=False)
class UnitGate:
    """A factor of one on each unit of a site, to take the gradient with respect to it.

    The units are the input or output of a module. Gradients are summed by place; norms share one.
    """

    module: nn.Module
    place: Place
    units: int
    at_output: bool = False

    def hook(self, made: list[tuple[Place, Tensor]], batch: Batch) -> RemovableHandle:
        """Install the gate as a hook that adds its factors, ``(sequences, units)``, to a list."""

        def gated(values: Tensor) -> Tensor:
            by_text = by_sequence(values, batch)
            if by_text is None:
                return values
            ones = by_text.new_ones(len(by_text), self.units, requires_grad=True)
            made.append((self.place, ones))
            by_unit = by_text.unflatten(-1, (self.units, -1))
            of_tokens = ones.reshape(len(ones), *[1] * (by_unit.ndim - 3), self.units, 1)
            found: Tensor = (by_unit * of_tokens).reshape(values.shape)
            return found

        if self.at_output:
            after: Callable[..., Any] = lambda _m, _given, output: gated(output)  # noqa: E731
            return self.module.register_forward_hook(after)
        before: Callable[..., Any] = lambda _m, given: (gated(given[0]), *given[1:])  # noqa: E731
        return self.module.register_forward_pre_hook(before)


def head_gates(teacher: LaidOutModel) -> Iterator[UnitGate]:
    """Yield a gate for the heads at every attention's output projection."""
    heads = teacher.architecture.num_attention_heads
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit in HEADS:
            yield UnitGate(module, (f"{slot.stack}.{unit}", slot.layer or 0), heads)


def all_gates(teacher: LaidOutModel) -> Iterator[UnitGate]:
    """Yield the gates of heads, of neurons, and of channels at the residual stream's norms."""
    yield from head_gates(teacher)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit == "ffn":
            yield UnitGate(module, (f"{slot.stack}.ffn", slot.layer or 0), inputs(module))
    width = teacher.architecture.hidden_size
    for module, _ in teacher.layout.norms(teacher.model):
        yield UnitGate(module, ("hidden", 0), width, at_output=True)


def _slopes(
    teacher: LaidOutModel, batch: Batch, first: int, _: object, gates: Iterable[UnitGate]
) -> Found:
    """Sum ``|dL/dgate|`` over the sequences of a batch, in one backward pass."""
    made: list[tuple[Place, Tensor]] = []
    with ExitStack() as handles, torch.enable_grad():
        for gate in gates:
            handles.enter_context(gate.hook(made, batch))
        lost = losses(teacher, batch, first)
        # each sequence has gates of its own, so the losses can be summed first
        ones = [factors for _, factors in made]
        found = torch.autograd.grad(torch.stack(lost).sum(), ones, materialize_grads=True)
    sums: dict[Place, Tensor] = {}
    for (place, _), slope in zip(made, found, strict=True):
        total = slope.abs().sum(0).cpu()
        sums[place] = sums[place] + total if place in sums else total
    return len(lost), sums


def losses(teacher: LaidOutModel, batch: Batch, first: int) -> list[Tensor]:
    """Return each sequence's next-token loss, or a random `reading` if no text is generated."""
    said, ids = answers(teacher, batch), written(teacher, batch)
    if ids is not None:
        return [next_token_loss(logits, own) for logits, own in zip(said, ids, strict=True)]
    is_logits = teacher.has_logits
    return [reading(one, first + row, is_logits=is_logits) for row, one in enumerate(said)]
