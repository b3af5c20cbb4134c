"""How much units matter, heads above all, by criteria that look at what the model puts out."""

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
from protege.spaces.models.batches import Batch, rows
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.outputs import answers, distance
from protege.spaces.remaining import Remaining

AT_ONCE = 1024
"""Tokens at a time: a vocabulary's logits of more of them would fill a small machine."""


def head_importance(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    criterion: HeadsBy,
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """Importance of every attention head, by site, ``(layers, heads)``.

    - ``gradient``: the sensitivity of Michel et al. (2019, arXiv 1905.10650), equation 2: the mean
      over sequences of ``|dL/dm|``, m what the head's output is multiplied by. L is the loss of the
      next token where the model writes text. Elsewhere no label is needed: L is a random `reading`
      of the answer, which moves, squared and in the mean, as far as ``ablation`` says the answer
      does.
    - ``ablation``: how far the answer moves when the head alone is silenced, in the mean over
      answers (real tokens, or texts): Kullback-Leibler divergence of the logits in nats, squared
      distance of states relative to their own square. One pass a head, from its layer on.

    A site whose projection is not called as a module is left out: the pooler's of SigLIP, which
    torch runs in one piece.

    Args:
        teacher: The teacher.
        batches: What its forward takes.
        criterion: Which of the two; activity is measured by `Calibration` itself.
        announce: Told how far it is.
    """
    remaining = Remaining(announce, f"heads by {criterion}")
    if criterion == "gradient":
        gates = list(head_gates(teacher))
        return _over_all(teacher, batches, partial(slopes, gates=gates), remaining)
    return _over_all(teacher, batches, _by_ablation, remaining, tells=True)


def taylor_importance(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    announce: Callable[[str], None] = lambda _: None,
) -> dict[str, Tensor]:
    """First-order importance of heads, neurons and channels, as `Calibration` names it.

    Molchanov et al. (2019, arXiv 1906.10771), as LLM-Pruner ranks by (arXiv 2305.11627): the mean
    over sequences of ``|dL/dg|``, g what the unit is multiplied by. L is that of ``gradient`` in
    `head_importance`, and so are the heads' values: ``decoder.heads.gradient``. Neurons are
    ``decoder.ffn.taylor``, ``(layers, ffn)``, at the input of the feed-forward's last projection;
    channels ``hidden.taylor``, ``(hidden_size,)``, at the outputs of the residual stream's norms,
    summed over those. One backward pass.
    """
    measure = partial(slopes, gates=list(all_gates(teacher)))
    found = _over_all(teacher, batches, measure, Remaining(announce, "units by taylor"))
    named: dict[str, Tensor] = {}
    for site, values in found.items():
        if site == "hidden":
            named["hidden.taylor"] = values[0]
        else:
            named[f"{site}.taylor" if site.endswith(".ffn") else f"{site}.gradient"] = values
    return named


Measure = Callable[..., Found]
"""Measures a batch of a teacher's, given the number of its first sequence; told of the share that
is done if it asks for it."""


def _over_all(
    teacher: LaidOutModel,
    batches: Iterable[Batch],
    measure: Measure,
    remaining: Remaining,
    *,
    tells: bool = False,
) -> dict[str, Tensor]:
    """Return the mean over everything measured, by site, ``(layers, units)``.

    Args:
        teacher: The teacher.
        batches: What its forward takes.
        measure: Measures a piece of a batch.
        remaining: Announces how far that is.
        tells: Whether `measure` takes a callback for the share of the piece that is done.
    """
    parts = [piece for batch in batches for piece in pieces(batch)]
    found: dict[str, Tensor] = {}
    first = count = 0
    for number, piece in enumerate(parts, 1):
        within = [partial(_passing, remaining, number - 1, len(parts))] if tells else []
        counted, values = measure(teacher, piece, first, *within)
        for (site, layer), of_units in values.items():
            depth = teacher.layout.depths.get(site.partition(".")[0], 1)
            found.setdefault(site, torch.zeros(depth, len(of_units)))[layer] += of_units
        first, count = first + rows(piece), count + counted
        remaining.at(number / len(parts))
    return {site: table / count for site, table in found.items()}


def _passing(remaining: Remaining, done: int, total: int, share: float) -> None:
    """Announce that so many pieces are done, and a share of the next."""
    remaining.passing((done + share) / total)


def pieces(batch: Batch) -> Iterator[Batch]:
    """The batch, so many sequences at a time as have `AT_ONCE` tokens, padding counted."""
    longest = max((v.shape[1] for name, v in batch.items() if name.endswith("ids")), default=256)
    count = max(1, AT_ONCE // longest)
    for begin in range(0, rows(batch), count):
        yield {name: value[begin : begin + count] for name, value in batch.items()}


def _sites(teacher: LaidOutModel) -> Iterator[tuple[nn.Module, Place]]:
    """The output projections of all attentions, with where they are."""
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit != "ffn":
            yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


def _by_ablation(
    teacher: LaidOutModel, batch: Batch, _first: int, tell: Callable[[float], None]
) -> Found:
    """Return distances summed over the answers; `tell` is told the share that is done."""
    heads, is_logits = teacher.architecture.num_attention_heads, teacher.has_logits
    found: dict[Place, Tensor] = {}
    with torch.inference_mode():
        with Course(teacher) as course:
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
class Course:
    """What happens in a pass: every layer's output, and which were done before an attention was.

    Attributes:
        teacher: The teacher.
        outputs: What each layer gave, in the order they ran.
        before: By output projection, how many of the layers had run by then.
    """

    teacher: LaidOutModel
    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    before: dict[nn.Module, int] = field(default_factory=dict)
    _handles: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "Course":
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
    """The layers of each stack, in order; what is no stack of layers is left out."""
    return layers_of_stacks(teacher.layout, teacher.model)


@contextmanager
def standing_in(outputs: Mapping[nn.Module, Any], count: int) -> Iterator[None]:
    """The first layers that ran answer as they did, without running: nothing changed for them."""
    first = list(outputs)[:count]
    with running({layer: lambda *_, known=outputs[layer], **__: known for layer in first}):
        yield


@contextmanager
def running(forwards: Mapping[Any, Callable[..., Any]]) -> Iterator[None]:
    """Each of these modules runs what is given here, not the forward of its class."""
    before = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, own in before.items():
            del module.forward  # the class's own is there again
            if own is not None:  # a sharded model's modules have one each
                module.forward = own


@contextmanager
def _silenced(module: nn.Module, head: int, heads: int) -> Iterator[None]:
    """The projection reading nothing of one head."""

    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        by_head = given[0].unflatten(-1, (heads, -1)).clone()
        by_head[..., head, :] = 0
        return (by_head.flatten(-2), *given[1:])

    handle = module.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
