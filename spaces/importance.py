"""How much each attention head matters, by criteria that look at what the model puts out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from protege.spaces.policies import HeadsBy
from protege.spaces.tasks import Task

if TYPE_CHECKING:
    from protege.spaces.layout import Slot
    from protege.spaces.teacher import Teacher

Batch = Mapping[str, Tensor]


def head_importance(
    teacher: "Teacher", batches: Iterable[Batch], criterion: HeadsBy
) -> dict[str, Tensor]:
    """Importance of every attention head, by site, ``(layers, heads)``.

    - ``gradient``: the sensitivity of Michel et al. (2019, arXiv 1905.10650), equation 2:
      ``mean_s |sum_t x . dL/dx|`` with x what the head puts out over sequence s. L is the loss of
      the next token where the model writes text; elsewhere the answer's inner product with random
      signs, so that it is the answer's own sensitivity that is measured and no label is needed.
    - ``ablation``: how far the answer moves when the head alone is silenced: Kullback-Leibler
      divergence of the logits, squared relative distance of states. One pass a head.

    Args:
        teacher: The teacher.
        batches: What its forward takes.
        criterion: Which of the two; activity is measured by `Calibration` itself.
    """
    measure = _by_gradient if criterion == "gradient" else _by_ablation
    layout = teacher.layout
    heads = layout.architecture.num_attention_heads
    found: dict[str, Tensor] = {}
    for batch in batches:
        for (site, layer), values in measure(teacher, batch).items():
            stack = site.partition(".")[0]
            table = found.setdefault(site, torch.zeros(layout.depths[stack], heads))
            table[layer] += values
    return found


Place = tuple[str, int]


def _sites(teacher: "Teacher") -> Iterator[tuple[nn.Module, Place]]:
    """The output projections of all attentions, with where they are."""
    for module, slot in teacher.layout.reading(teacher.model):
        unit = _unit(slot)
        if unit != "ffn":
            yield module, (f"{slot.stack}.{unit}", slot.layer or 0)


def _unit(slot: "Slot") -> str:
    return next(axis for axis in slot.axes if axis != "hidden")


def _by_gradient(teacher: "Teacher", batch: Batch) -> dict[Place, Tensor]:
    heads = teacher.architecture.num_attention_heads
    inputs: dict[Place, Tensor] = {}

    def keeping(place: Place) -> Callable[..., Any]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # a copy of its own: weights need no gradient, and so neither would what they made
            inputs[place] = given[0].detach().requires_grad_() if not inputs else given[0]
            return (inputs[place], *given[1:])

        return hook

    with ExitStack() as handles, torch.enable_grad():
        for module, place in _sites(teacher):
            handles.callback(module.register_forward_pre_hook(keeping(place)).remove)
        loss = _loss(teacher, batch)
    gradients = torch.autograd.grad(loss, list(inputs.values()), allow_unused=True)
    found = {}
    for (place, x), slope in zip(inputs.items(), gradients, strict=True):
        if slope is not None:
            by_head = (x.detach() * slope).unflatten(-1, (heads, -1))
            found[place] = by_head.sum(dim=(1, 3)).abs().sum(0)
    return found


def _loss(teacher: "Teacher", batch: Batch) -> Tensor:
    """The next token's loss where text is written, else a random reading of the answer."""
    output = _answer(teacher.model(**_inputs(batch)))
    mask = batch.get("attention_mask")
    if teacher.task is Task.GENERATION and mask is not None:
        ids = batch["input_ids"][:, 1:]
        losses = -log_softmax(output[:, :-1], -1).gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        return (losses * mask[:, 1:]).sum()
    generator = torch.Generator().manual_seed(0)
    signs = torch.randint(2, output.shape[-1:], generator=generator) * 2.0 - 1
    reading = output @ signs
    if mask is not None and mask.shape == reading.shape:
        reading = reading * mask
    return reading.sum()


def _by_ablation(teacher: "Teacher", batch: Batch) -> dict[Place, Tensor]:
    heads, found = teacher.architecture.num_attention_heads, dict[Place, Tensor]()
    with torch.inference_mode():
        whole = _answer(teacher.model(**_inputs(batch)))
        for module, place in _sites(teacher):
            lost = []
            for head in range(heads):
                with _silenced(module, head, heads):
                    lost.append(_distance(teacher, whole, batch))
            found[place] = torch.stack(lost)
    return found


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


def _distance(teacher: "Teacher", whole: Tensor, batch: Batch) -> Tensor:
    """How far the answer is from the whole model's, summed over what is real of the batch."""
    output = _answer(teacher.model(**_inputs(batch)))
    if teacher.task.has_logits:
        theirs, mine = log_softmax(whole, -1), log_softmax(output, -1)
        apart = kl_div(mine, theirs, log_target=True, reduction="none").sum(-1)
    else:
        apart = (output - whole).square().sum(-1) / whole.square().sum(-1).clamp(min=1e-12)
    mask = batch.get("attention_mask")
    if mask is not None and mask.shape == apart.shape:
        apart = apart * mask
    return apart.sum()


def _answer(output: Any) -> Tensor:
    """What the model says: logits where it has a head, states where it has none."""
    answer: Tensor = output[0]
    return answer


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return {name: value for name, value in batch.items() if name != "labels"}
