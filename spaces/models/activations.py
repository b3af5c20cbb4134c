"""Accumulate activation statistics of a teacher's units with hooks."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.utils.hooks import RemovableHandle
from transformers.pytorch_utils import Conv1D

from protege.spaces.models.batches import Batch, by_sequence, real_tokens
from protege.spaces.models.layout import LaidOutModel, Place
from protege.spaces.models.placement import values
from protege.spaces.models.tensors import reading_dimension

HEADS = frozenset({"heads", "cross_heads"})
"""Units with several channels each."""


class RunningMoments:
    """Running sums over real tokens at one site, such as ``decoder.ffn``, in every layer.

    Layers without this site keep zeros.

    Attributes:
        activity: ``sum_s (mean_t |x[s, t, j]|)**2``, ``(layers, units)``.
        tokens: Number of tokens, ``(layers,)``.
        sums: Sums of the values, ``(layers, units)``.
        squares: Sums of their squares, ``(layers, units)``.
        products: Sums of their outer products in fp32, ``(rows, units, units)``, one row for each
            layer that collects them.
        rows: The row of each of these layers.
    """

    def __init__(self, layers: int, units: int, products: Collection[int] = ()) -> None:
        self.activity = torch.zeros(layers, units, dtype=torch.float64)
        self.tokens = torch.zeros(layers, dtype=torch.float64)
        self.sums = torch.zeros(layers, units, dtype=torch.float64)
        self.squares = torch.zeros(layers, units, dtype=torch.float64)
        self.rows = {layer: row for row, layer in enumerate(sorted(products))}
        self.products = torch.zeros(len(self.rows), units, units)

    def add(self, layer: int, values: Tensor, mask: Tensor | None) -> None:
        """Add a batch.

        Args:
            layer: The layer's number.
            values: ``(sequences, tokens, units)``.
            mask: Which tokens are real, ``(sequences, tokens)``; None for all.
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
        self.squares[layer] += real.square().sum(0)  # many times faster than torch's norm
        self._multiply(layer, real)

    def add_products(self, layer: int, values: Tensor, mask: Tensor | None) -> None:
        """Add a batch only to the products; the arguments are those of `add`."""
        self.tokens[layer] += values.shape[0] * values.shape[1] if mask is None else mask.sum()
        self._multiply(layer, values.flatten(0, 1) if mask is None else values[mask])

    def _multiply(self, layer: int, real: Tensor) -> None:
        row = self.rows.get(layer)
        if row is not None:
            self.products[row].addmm_(real.T.float(), real.float())

    def gram(self) -> Tensor:
        """Return the second moments of the rows; divides the products in place."""
        tokens = self.tokens[list(self.rows)].clamp(min=1).to(self.products.dtype)
        return self.products.div_(tokens[:, None, None])

    def mean(self, sums: Tensor) -> Tensor:
        """Divide sums by the number of tokens, in fp32."""
        return (sums / self.tokens.clamp(min=1)[:, None]).float()


class ActivationHooks:
    """Hooks that collect activations at all sites whose units can be cut.

    Set `batch` before each forward pass. Second moments are collected of the layers of each site in
    ``products``; if ``alone``, nothing else.
    """

    def __init__(
        self, teacher: LaidOutModel, products: Mapping[str, Collection[int]], *, alone: bool = False
    ) -> None:
        self.batch: Batch = {}
        self._teacher = teacher
        self._alone = alone
        self._moments = {
            name: RunningMoments(*shape, products.get(name, ()))
            for name, shape in shapes(teacher).items()
            if name in products or not alone
        }
        self._experts: dict[str, Tensor] = {}
        self._handles = ExitStack()

    def __enter__(self) -> None:
        layout, model = self._teacher.layout, self._teacher.model
        for number, (module, in_decoder) in enumerate(layout.norms(model)):
            self._watch(module, ("hidden", number), in_decoder=in_decoder, at_output=True)
        for module, slot, unit in layout.reading(model):
            place = (f"{slot.stack}.{unit}", slot.layer or 0)
            self._watch(module, place, in_decoder=slot.stack == "decoder")
        if not self._alone:
            for module, slot in layout.experts(model):
                self._hook_experts(module, slot.stack, slot.layer or 0)

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def _watch(
        self, module: nn.Module, place: Place, *, in_decoder: bool, at_output: bool = False
    ) -> None:
        """Collect a module's inputs or outputs, if they are wanted."""
        site, layer = place
        if self._alone and (site not in self._moments or layer not in self._moments[site].rows):
            return

        def hook(_module: nn.Module, given: tuple[Tensor, ...], gave: Any = None) -> None:
            self._accumulate(place, gave if at_output else given[0], in_decoder=in_decoder)

        register: Callable[..., RemovableHandle] = (
            module.register_forward_hook if at_output else module.register_forward_pre_hook
        )
        self._handles.enter_context(register(hook))

    def found(self) -> dict[str, Tensor]:
        """Return the statistics except second moments, by the names of `Calibration`.

        Sites that no token passed are left out.
        """
        found = {name: total.sqrt().float() for name, total in self._experts.items()}
        for name, moments in self._moments.items():
            if moments.tokens.any():
                values = moments.activity.sqrt().float()
                # channels are summed over the norms
                found[name] = values.sum(0) if name == "hidden" else self._by_head(name, values)
        found["hidden.energy"] = self._moments["hidden"].mean(self._moments["hidden"].squares)
        return found | self._wanda()

    def grams(self) -> Iterator[tuple[str, list[int], Tensor]]:
        """Yield each site with its layers and their second moments; can be called once."""
        for name, moments in self._moments.items():
            if moments.rows and moments.tokens.any():
                yield name, list(moments.rows), moments.gram()

    def _by_head(self, name: str, values: Tensor) -> Tensor:
        """The norm over each head's channels, where units are heads."""
        if name.partition(".")[2] not in HEADS:
            return values
        heads = self._teacher.architecture.num_attention_heads
        by_head: Tensor = vector_norm(values.unflatten(1, (heads, -1)), dim=-1)
        return by_head

    def _wanda(self) -> dict[str, Tensor]:
        """Return each unit's contribution to the output of the projection that reads it."""
        found: dict[str, Tensor] = {}
        for module, slot, unit in self._teacher.layout.reading(self._teacher.model):
            name = f"{slot.stack}.{unit}"
            moments = self._moments[name]
            if moments.tokens.any():
                own = found.setdefault(name, moments.mean(moments.squares).sqrt())
                own[slot.layer or 0] *= vector_norm(columns(module), dim=0)
        return {f"{name}.wanda": self._by_head(name, own) for name, own in found.items()}

    def means(self) -> dict[str, Tensor]:
        """Return the means of units, and the number of tokens."""
        most = torch.stack([moments.tokens.max() for moments in self._moments.values()]).max()
        passed = {name: one for name, one in self._moments.items() if one.tokens.any()}
        means = {f"{name}.mean": one.mean(one.sums) for name, one in passed.items()}
        return {"tokens": most.float(), **means}

    def _hook_experts(self, module: nn.Module, stack: str, layer: int) -> None:
        def hook(experts: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            ids = self.batch["input_ids"]
            mask = self.batch.get("attention_mask", torch.ones_like(ids))
            hidden, chosen, weights = (one.cpu() for one in inputs)
            load, neurons = _expert_activity(experts, hidden, chosen, weights, mask)
            self._sum(f"{stack}.experts", layer, load)
            self._sum(f"{stack}.expert_ffn", layer, neurons)

        self._handles.enter_context(module.register_forward_pre_hook(hook))

    def _sum(self, name: str, layer: int, squares: Tensor) -> None:
        depth = self._teacher.layout.depths[name.partition(".")[0]]
        nothing = torch.zeros(depth, *squares.shape, dtype=squares.dtype)
        self._experts.setdefault(name, nothing)[layer] += squares

    def _accumulate(self, place: Place, values: Tensor, *, in_decoder: bool) -> None:
        by_text = by_sequence(values, self.batch)
        if by_text is not None:
            mask = real_tokens(self.batch, by_text.shape[:2], in_decoder=in_decoder)
            moments = self._moments[place[0]]
            add = moments.add_products if self._alone else moments.add
            add(place[1], by_text.cpu(), mask)


def columns(module: Any) -> Tensor:
    """Return the weight of a projection as ``(outputs, inputs)``."""
    weight = values(module)
    return weight.T if isinstance(module, Conv1D) else weight


def inputs(module: Any) -> int:
    """Return the number of inputs of a projection."""
    return int(module.weight.shape[reading_dimension(module)])


def shapes(teacher: LaidOutModel) -> dict[str, tuple[int, int]]:
    """Return the layers and units of each site by name; units of heads are channels."""
    layout, model = teacher.layout, teacher.model
    found = {"hidden": (len(list(layout.norms(model))), layout.architecture.hidden_size)}
    for module, slot, unit in layout.reading(model):
        found[f"{slot.stack}.{unit}"] = (layout.depths[slot.stack], inputs(module))
    return found


def _expert_activity(
    experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the squared activity of experts, ``(experts,)``, and neurons, ``(experts, ffn)``.

    Recomputes each expert's output, because transformers runs all experts in one fused call.
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
