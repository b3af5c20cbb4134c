"""Importance of heads and other units by their effect on the model's outputs."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.gradients import Found, Place, all_gates, head_gates, slopes
from protege.spaces.models.attention import layers_of_stacks
from protege.spaces.models.batches import Batch, answers, distance, rows
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.remaining import Remaining

AT_ONCE = 1024
"""Tokens per forward pass, which bounds the memory for logits."""


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

    Args:
        teacher: The teacher.
        batches: Inputs of its forward.
        criterion: ``gradient`` or ``ablation``; `Calibration` measures activity itself.
        announce: Callback for progress messages.

    Returns:
        By site, ``(layers, heads)``.
    """
    remaining = Remaining(announce, f"heads by {criterion}")
    if criterion == "gradient":
        gates = list(head_gates(teacher))
        return _mean(teacher, batches, partial(slopes, gates=gates), remaining)
    return _mean(teacher, batches, _by_ablation, remaining, reports=True)


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
    measure = partial(slopes, gates=list(all_gates(teacher)))
    found = _mean(teacher, batches, measure, Remaining(announce, "units by taylor"))
    named: dict[str, Tensor] = {}
    for site, values in found.items():
        if site == "hidden":
            named["hidden.taylor"] = values[0]
        else:
            named[f"{site}.taylor" if site.endswith(".ffn") else f"{site}.gradient"] = values
    return named


Measure = Callable[..., Found]
"""Measures a batch, given the teacher, the batch and the number of its first sequence; may take a
progress callback."""


def _mean(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    measure: Measure,
    remaining: Remaining,
    *,
    reports: bool = False,
) -> dict[str, Tensor]:
    """Average measurements over all data, by site, ``(layers, units)``.

    Args:
        teacher: The teacher.
        batches: Inputs of its forward.
        measure: Measures a piece of a batch.
        remaining: Announces progress.
        reports: Whether `measure` takes a callback for its progress within a piece.
    """
    parts = [piece for batch in batches for piece in pieces(batch)]
    found: dict[str, Tensor] = {}
    first = count = 0
    for number, piece in enumerate(parts, 1):
        within = [partial(_passing, remaining, number - 1, len(parts))] if reports else []
        counted, values = measure(teacher, piece, first, *within)
        for (site, layer), of_units in values.items():
            depth = teacher.layout.depths.get(site.partition(".")[0], 1)
            found.setdefault(site, torch.zeros(depth, len(of_units)))[layer] += of_units
        first, count = first + rows(piece), count + counted
        remaining.at(number / len(parts))
    return {site: table / count for site, table in found.items()}


def _passing(remaining: Remaining, done: int, total: int, share: float) -> None:
    """Announce the number of finished pieces plus a share of the next."""
    remaining.passing((done + share) / total)


def pieces(batch: Batch) -> Iterator[Batch]:
    """Split a batch into pieces of at most `AT_ONCE` tokens, padding included."""
    longest = max((v.shape[1] for name, v in batch.items() if name.endswith("ids")), default=256)
    count = max(1, AT_ONCE // longest)
    for begin in range(0, rows(batch), count):
        yield {name: value[begin : begin + count] for name, value in batch.items()}


def _sites(teacher: LaidOutModel) -> Iterator[tuple[nn.Module, Place]]:
    """Yield the output projections of all attentions with their places."""
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit != "ffn":
            yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


def _by_ablation(
    teacher: LaidOutModel, batch: Batch, _first: int, tell: Callable[[float], None]
) -> Found:
    """Measure each head's ablation, summed over outputs; report progress to ``tell``."""
    heads, is_logits = teacher.architecture.num_attention_heads, teacher.has_logits
    found: dict[Place, Tensor] = {}
    with torch.inference_mode():
        with ForwardTrace(teacher) as course:
            whole = answers(teacher, batch)
        sites = [(module, place) for module, place in _sites(teacher) if module in course.before]
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


@dataclass
class ForwardTrace:
    """Records a forward pass with hooks.

    Attributes:
        teacher: The teacher.
        outputs: Each layer's output, in forward order.
        before: For each output projection, the number of layers that had finished before it.
    """

    teacher: LaidOutModel
    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    before: dict[nn.Module, int] = field(default_factory=dict)
    _handles: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "ForwardTrace":
        for layers in layers_by_stack(self.teacher).values():
            for layer in layers:
                self._handles.callback(layer.register_forward_hook(self._layer_ran).remove)
        for module, _ in _sites(self.teacher):
            self._handles.callback(module.register_forward_pre_hook(self._site_reached).remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def _layer_ran(self, layer: nn.Module, _given: Any, output: Any) -> None:
        self.outputs[layer] = output

    def _site_reached(self, module: nn.Module, _given: Any) -> None:
        self.before[module] = len(self.outputs)


def layers_by_stack(teacher: LaidOutModel) -> dict[str, list[nn.Module]]:
    """Return the layers of each stack, in order."""
    return layers_of_stacks(teacher.layout, teacher.model)


@contextmanager
def standing_in(outputs: Mapping[nn.Module, Any], count: int) -> Iterator[None]:
    """Replace the first ``count`` layers by their recorded outputs inside the block."""
    first = list(outputs)[:count]
    with running({layer: lambda *_, known=outputs[layer], **__: known for layer in first}):
        yield


@contextmanager
def running(forwards: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Replace the forward of each module inside the block."""
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before.items():
            del module.forward  # restores the class's method
            if own is not None:  # accelerate gives modules of sharded models their own
                module.forward = own


@contextmanager
def _silenced(module: nn.Module, head: int, heads: int) -> Iterator[None]:
    """Set one head's channels to zero in the projection's input inside the block."""

    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        by_head = given[0].unflatten(-1, (heads, -1)).clone()
        by_head[..., head, :] = 0
        return (by_head.flatten(-2), *given[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
