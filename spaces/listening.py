"""What passes the sites of a teacher whose units count, summed batch by batch as it runs."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from transformers.pytorch_utils import Conv1D

from protege.spaces.batches import Batch, real_tokens
from protege.spaces.layout import reading_dimension
from protege.spaces.sharding import values

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher

GRAM_BYTES = 2 * 2**30
"""Memory that second moments may take; the smallest sites come first, those left over go without.

SmolLM2-135M needs 0.4 GB of it; of a 7B Llama the channels of its norms alone would need 4 GB.
"""

HEADS = frozenset({"heads", "cross_heads"})
"""Units that have several channels each at the site where they are read."""


class Moments:
    """Sums over the real tokens that pass one kind of site, such as ``decoder.ffn``.

    A layer that has no such site keeps zeros.

    Attributes:
        activity: ``sum_s (mean_t |x[s, t, j]|)**2``, ``(layers, units)``.
        tokens: How many tokens passed, ``(layers,)``.
        sums: Of the values, ``(layers, units)``.
        squares: Of their squares, ``(layers, units)``.
        products: Of their products with each other in fp32, ``(layers, units, units)``; or none.
    """

    def __init__(self, layers: int, units: int, *, products: bool) -> None:
        self.activity = torch.zeros(layers, units, dtype=torch.float64)
        self.tokens = torch.zeros(layers, dtype=torch.float64)
        self.sums = torch.zeros(layers, units, dtype=torch.float64)
        self.squares = torch.zeros(layers, units, dtype=torch.float64)
        self.products = torch.zeros(layers, units, units) if products else None

    def add(self, layer: int, values: Tensor, mask: Tensor | None) -> None:
        """Add a batch.

        Args:
            layer: Where it passed.
            values: ``(sequences, tokens, units)``.
            mask: Which tokens are real, ``(sequences, tokens)``; none where all of them are.
        """
        if mask is None:
            real, means = values.flatten(0, 1), values.abs().mean(1)
        else:
            real = values[mask]
            totals = values.masked_fill(~mask.unsqueeze(-1), 0).abs().sum(1)
            means = totals / mask.sum(1, keepdim=True).clamp(min=1)
        self.activity[layer] += means.double().square().sum(0)
        self.tokens[layer] += len(real)
        self.sums[layer] += real.sum(0)
        self.squares[layer] += real.square().sum(0)  # many times as fast as torch's norm
        if self.products is not None:
            self.products[layer].addmm_(real.T.float(), real.float())

    def mean(self, sums: Tensor) -> Tensor:
        """Sums as means over the tokens, in fp32; those of pairs of units are divided in place."""
        tokens = self.tokens.clamp(min=1).to(sums.dtype)
        return (
            sums.div_(tokens[:, None, None]) if sums.ndim == 3 else (sums / tokens[:, None]).float()
        )


class Sites:
    """Listens to the modules whose units count, found by the axes the family's table gives.

    Set `batch` before each forward pass.
    """

    def __init__(self, teacher: "Teacher", *, grams: bool) -> None:
        self.batch: Batch = {}
        self._teacher = teacher
        self._grams = grams
        shapes = _shapes(teacher)
        fitting = _fitting(shapes, GRAM_BYTES) if grams else set()
        self._moments = {
            name: Moments(*shape, products=name in fitting) for name, shape in shapes.items()
        }
        self._experts: dict[str, Tensor] = {}
        self._handles = ExitStack()

    def __enter__(self) -> None:
        layout, model = self._teacher.layout, self._teacher.model
        for number, (module, in_decoder) in enumerate(layout.norms(model)):
            self._listen_to_output(module, ("hidden", number), in_decoder=in_decoder)
        for module, slot, unit in layout.reading(model):
            place = (f"{slot.stack}.{unit}", slot.layer or 0)
            self._listen_to_input(module, place, in_decoder=slot.stack == "decoder")
        for module, slot in layout.experts(model):
            self._listen_to_experts(module, slot.stack, slot.layer or 0)

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def found(self) -> dict[str, Tensor]:
        """Everything that was summed, as `Calibration` names it; nothing of sites never passed."""
        found = {name: total.sqrt().float() for name, total in self._experts.items()}
        for name, moments in self._moments.items():
            if moments.tokens.any():
                found[name] = self._activity(name, moments.activity.sqrt().float())
        found["hidden.energy"] = self._moments["hidden"].mean(self._moments["hidden"].squares)
        return found | self._wanda() | (self._second() if self._grams else {})

    def _activity(self, name: str, values: Tensor) -> Tensor:
        """Activity of units, ``(layers, units)``; of the residual stream's channels in one."""
        return values.sum(0) if name == "hidden" else self._by_head(name, values)

    def _by_head(self, name: str, values: Tensor) -> Tensor:
        """The norm over each head's channels, where units are heads."""
        if name.partition(".")[2] not in HEADS:
            return values
        heads = self._teacher.architecture.num_attention_heads
        by_head: Tensor = vector_norm(values.unflatten(1, (heads, -1)), dim=-1)
        return by_head

    def _wanda(self) -> dict[str, Tensor]:
        """How much each unit adds to the output of the projection that reads it."""
        found: dict[str, Tensor] = {}
        for module, slot, unit in self._teacher.layout.reading(self._teacher.model):
            name = f"{slot.stack}.{unit}"
            moments = self._moments[name]
            if moments.tokens.any():
                own = found.setdefault(name, moments.mean(moments.squares).sqrt())
                own[slot.layer or 0] *= vector_norm(columns(module), dim=0)
        return {f"{name}.wanda": self._by_head(name, own) for name, own in found.items()}

    def _second(self) -> dict[str, Tensor]:
        """Means and uncentred second moments, and how many tokens they are of."""
        most = torch.stack([moments.tokens.max() for moments in self._moments.values()]).max()
        found = {"tokens": most.float()}
        for name, moments in self._moments.items():
            if not moments.tokens.any():
                continue
            found[f"{name}.mean"] = moments.mean(moments.sums)
            if moments.products is not None:
                found[f"{name}.gram"] = moments.mean(moments.products)
        return found

    def _listen_to_output(self, module: nn.Module, place: tuple[str, int], **of: bool) -> None:
        hook: Callable[..., None] = lambda _m, _i, output: self._add(place, output, **of)  # noqa: E731
        self._handles.callback(module.register_forward_hook(hook).remove)

    def _listen_to_input(self, module: nn.Module, place: tuple[str, int], **of: bool) -> None:
        hook: Callable[..., None] = lambda _m, inputs: self._add(place, inputs[0], **of)  # noqa: E731
        self._handles.callback(module.register_forward_pre_hook(hook).remove)

    def _listen_to_experts(self, module: nn.Module, stack: str, layer: int) -> None:
        def hook(experts: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            ids = self.batch["input_ids"]
            mask = self.batch.get("attention_mask", torch.ones_like(ids))
            hidden, chosen, weights = (one.cpu() for one in inputs)
            load, neurons = _expert_activity(experts, hidden, chosen, weights, mask)
            self._sum(f"{stack}.experts", layer, load)
            self._sum(f"{stack}.expert_ffn", layer, neurons)

        self._handles.callback(module.register_forward_pre_hook(hook).remove)

    def _sum(self, name: str, layer: int, squares: Tensor) -> None:
        depth = self._teacher.layout.depths[name.partition(".")[0]]
        nothing = torch.zeros(depth, *squares.shape, dtype=squares.dtype)
        self._experts.setdefault(name, nothing)[layer] += squares

    def _add(self, place: tuple[str, int], values: Tensor, *, in_decoder: bool) -> None:
        by_text = by_sequence(values, self.batch)
        if by_text is not None:
            mask = real_tokens(self.batch, by_text.shape[:2], in_decoder=in_decoder)
            self._moments[place[0]].add(place[1], by_text.cpu(), mask)


def by_sequence(values: Tensor, batch: Batch) -> Tensor | None:
    """Activations as ``(sequences, tokens, units)``, where OPT lays all tokens end to end.

    None where they are not of tokens: DeBERTa norms its distances too.
    """
    if values.ndim != 2:
        return values
    tokens = batch.get("input_ids", batch.get("attention_mask"))
    if tokens is None or len(values) != tokens.numel():
        return None
    by_text: Tensor = values.unflatten(0, tokens.shape)
    return by_text


def columns(module: Any) -> Tensor:
    """The weight of a projection as ``(outputs, inputs)``, one column for each input."""
    weight = values(module)
    return weight.T if isinstance(module, Conv1D) else weight


def inputs(module: Any) -> int:
    """How many inputs a projection reads."""
    return int(module.weight.shape[reading_dimension(module)])


def _shapes(teacher: "Teacher") -> dict[str, tuple[int, int]]:
    """Layers and channels of every kind of site."""
    layout, model = teacher.layout, teacher.model
    found = {"hidden": (len(list(layout.norms(model))), layout.architecture.hidden_size)}
    for module, slot, unit in layout.reading(model):
        found[f"{slot.stack}.{unit}"] = (layout.depths[slot.stack], inputs(module))
    return found


def _fitting(shapes: Mapping[str, tuple[int, int]], limit: int) -> set[str]:
    """The sites, from the smallest on, whose second moments in fp32 fit into so many bytes."""
    sizes = {name: 4 * layers * units**2 for name, (layers, units) in shapes.items()}
    found: set[str] = set()
    for name in sorted(sizes, key=lambda name: sizes[name]):
        limit -= sizes[name]
        if limit < 0:
            break
        found.add(name)
    return found


def _expert_activity(
    experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared activity of experts, ``(experts,)``, and of their neurons, ``(experts, ffn)``.

    What each of them makes is worked out again, for transformers runs them in one piece.
    """
    (rows, length), width = mask.shape, experts.down_proj.shape[2]
    both, last = values(experts, "gate_up_proj"), values(experts, "down_proj")
    real = mask.reshape(-1).bool()
    total = len(last)
    load = torch.zeros(total, dtype=torch.float64)
    neurons = torch.zeros(total, width, dtype=torch.float64)
    for number in range(total):
        tokens, place = torch.where((chosen == number) & real[:, None])
        gate, up = nn.functional.linear(hidden[tokens], both[number]).chunk(2, -1)
        active = experts.act_fn(gate) * up
        added = nn.functional.linear(active, last[number])
        norms = (added * weights[tokens, place, None]).norm(dim=-1).double()
        row = tokens // length
        by_row = torch.zeros(rows, dtype=torch.float64).index_add(0, row, norms)
        load[number] = (by_row / mask.sum(1).clamp(min=1)).square().sum()
        sums = torch.zeros(rows, active.shape[1], dtype=torch.float64)
        counts = torch.bincount(row, minlength=rows).clamp(min=1)
        sums = sums.index_add(0, row, active.abs().double()) / counts[:, None]
        neurons[number] = sums.square().sum(0)
    return load, neurons
