"""How much each attention head matters, by criteria that look at what the model puts out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protege.spaces.answers import Batch, answers, distance, next_token_loss, reading, written
from protege.spaces.policies import HeadsBy

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher

Place = tuple[str, int]
"""A site, such as ``decoder.cross_heads``, and the number of the layer."""

AT_ONCE = 1024
"""Tokens at a time: a vocabulary's logits of more of them would fill a small machine."""


def head_importance(
    teacher: "Teacher",
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
    measure = _by_gradient if criterion == "gradient" else _by_ablation
    depths, heads = teacher.layout.depths, teacher.architecture.num_attention_heads
    pieces = [piece for batch in batches for piece in _pieces(batch)]
    found: dict[str, Tensor] = {}
    first = count = 0
    for number, piece in enumerate(pieces, 1):
        counted, values = measure(teacher, piece, first)
        for (site, layer), of_heads in values.items():
            stack = site.partition(".")[0]
            found.setdefault(site, torch.zeros(depths[stack], heads))[layer] += of_heads
        first, count = first + _rows(piece), count + counted
        announce(f"heads by {criterion} {number / len(pieces):.0%}")
    return {site: table / count for site, table in found.items()}


def _rows(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _pieces(batch: Batch) -> Iterator[Batch]:
    """The batch, so many sequences at a time as have `AT_ONCE` tokens, padding counted."""
    longest = max((v.shape[1] for name, v in batch.items() if name.endswith("ids")), default=256)
    rows = max(1, AT_ONCE // longest)
    for begin in range(0, _rows(batch), rows):
        yield {name: value[begin : begin + rows] for name, value in batch.items()}


def _sites(teacher: "Teacher") -> Iterator[tuple[nn.Module, Place]]:
    """The output projections of all attentions, with where they are."""
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit != "ffn":
            yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


Found = tuple[int, dict[Place, Tensor]]
"""How many were measured, and of each place the sum over them, ``(heads,)``."""


def _by_gradient(teacher: "Teacher", batch: Batch, first: int) -> Found:
    """Sensitivities summed over the sequences; the first of them has that number."""
    heads, gates = teacher.architecture.num_attention_heads, dict[Place, Tensor]()

    def gating(place: Place) -> Callable[..., Any]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            by_head = given[0].unflatten(-1, (heads, -1))
            gates[place] = torch.ones(len(by_head), heads, requires_grad=True)
            of_tokens = gates[place].reshape(len(by_head), *[1] * (by_head.ndim - 3), heads, 1)
            return ((by_head * of_tokens).flatten(-2), *given[1:])

        return hook

    with ExitStack() as handles, torch.enable_grad():
        for module, place in _sites(teacher):
            handles.callback(module.register_forward_pre_hook(gating(place)).remove)
        losses = _losses(teacher, batch, first)
        # of a sequence's loss only its own gates know, so that all can be summed before
        slopes = torch.autograd.grad(
            torch.stack(losses).sum(), list(gates.values()), materialize_grads=True
        )
    found = {p: slope.abs().sum(0) for p, slope in zip(gates, slopes, strict=True)}
    return len(losses), found


def _losses(teacher: "Teacher", batch: Batch, first: int) -> list[Tensor]:
    """The next token's loss where text is written, else a random reading, of every sequence."""
    said, ids = answers(teacher, batch), written(teacher, batch)
    if ids is not None:
        return [next_token_loss(logits, own) for logits, own in zip(said, ids, strict=True)]
    is_logits = teacher.task.has_logits
    return [reading(one, first + row, is_logits=is_logits) for row, one in enumerate(said)]


def _by_ablation(teacher: "Teacher", batch: Batch, _first: int) -> Found:
    """Distances summed over the answers."""
    heads, is_logits = teacher.architecture.num_attention_heads, teacher.task.has_logits
    found: dict[Place, Tensor] = {}
    with torch.inference_mode():
        with _Course(teacher) as course:
            whole = answers(teacher, batch)
        for module, place in _sites(teacher):
            if module not in course.before:
                continue
            lost = torch.zeros(heads)
            with _standing_in(course.outputs, course.before[module]):
                for head in range(heads):
                    with _silenced(module, head, heads):
                        pairs = zip(whole, answers(teacher, batch), strict=True)
                        lost[head] = sum(distance(*pair, is_logits=is_logits) for pair in pairs)
            found[place] = lost
    return sum(map(len, whole)), found


@dataclass
class _Course:
    """What happens in a pass: every layer's output, and which were done before an attention was.

    Attributes:
        teacher: The teacher.
        outputs: What each layer gave, in the order they ran.
        before: By output projection, how many of the layers had run by then.
    """

    teacher: "Teacher"
    outputs: dict[nn.Module, Any] = field(default_factory=dict)
    before: dict[nn.Module, int] = field(default_factory=dict)
    _handles: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> "_Course":
        for layer in _layers(self.teacher):
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


def _layers(teacher: "Teacher") -> list[nn.Module]:
    """The layers of all stacks."""
    modules = dict(teacher.model.named_modules())
    numbered = (slot for slot in teacher.layout.slots if slot.number_at != (0, 0))
    return [modules[name] for name in dict.fromkeys(s.name[: s.number_at[1]] for s in numbered)]


@contextmanager
def _standing_in(outputs: Mapping[nn.Module, Any], count: int) -> Iterator[None]:
    """The first layers that ran answer as they did, without running: nothing changed for them."""
    first: list[Any] = list(outputs)[:count]
    for layer in first:
        layer.forward = lambda *_, known=outputs[layer], **__: known
    try:
        yield
    finally:
        for layer in first:
            del layer.forward  # the class's own is there again


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
