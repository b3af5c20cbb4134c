"""What one pass over calibration data tells about the teacher's units."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protege.spaces.architecture import Architecture

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher


@dataclass(frozen=True)
class Calibration:
    """Importance of the teacher's units by how active they are (Minitron, arXiv 2407.14679).

    With S sequences of a site's output ``x``, the activity of unit j is
    ``sqrt(sum_s (mean_t |x[s, t, j]|)**2)``, the mean taken over real tokens only, never padding.

    Attributes:
        hidden: Channels of the residual stream, summed over the norms' outputs; ``(hidden_size,)``.
        heads: Query heads, at the input of the attention's output projection, the norm taken over
            the head's channels; ``(layers, heads)``.
        ffn: Neurons, at the input of the feed-forward's last projection; ``(layers, ffn)``.
    """

    hidden: Tensor
    heads: Tensor
    ffn: Tensor

    @classmethod
    def of(cls, teacher: "Teacher", batches: Iterable[Mapping[str, Tensor]]) -> "Calibration":
        """The calibration of a teacher on batches of ``input_ids`` and ``attention_mask``."""
        sites = _Sites(teacher)
        with torch.inference_mode(), sites:
            for batch in batches:
                sites.mask = batch["attention_mask"]
                teacher.model.base_model(**batch)
        own = teacher.architecture
        heads = sites.activity("hidden heads").unflatten(1, (own.num_attention_heads, -1))
        return cls(
            hidden=sites.activity("hidden").sum(0),
            heads=heads.norm(dim=-1),
            ffn=sites.activity("hidden ffn"),
        )

    @classmethod
    def flat(cls, architecture: Architecture) -> "Calibration":
        """Every unit as important as any other: what is known before a pass."""
        layers = architecture.num_hidden_layers
        return cls(
            hidden=torch.ones(architecture.hidden_size),
            heads=torch.ones(layers, architecture.num_attention_heads),
            ffn=torch.ones(layers, architecture.intermediate_size),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The fields by name, as a cache stores them."""
        return asdict(self)


class _Sites:
    """Listens to the modules whose activity counts, found by the axes the family's table gives."""

    def __init__(self, teacher: "Teacher") -> None:
        self.mask = torch.ones(1, 1)
        self._sums: dict[str, dict[str, Tensor]] = {}
        self._handles = ExitStack()
        self._listeners: list[tuple[nn.Module, str, str]] = []
        for name, module in teacher.model.base_model.named_modules():
            for axes in ("hidden", "hidden heads", "hidden ffn"):
                if any(rule.fullmatch(name) for rule in teacher.family.modules(axes)):
                    self._listeners.append((module, name, axes))

    def __enter__(self) -> None:
        for module, name, axes in self._listeners:
            sums = self._sums.setdefault(axes, {})
            if axes == "hidden":  # a norm: what it puts out
                handle = module.register_forward_hook(self._output_listener(sums, name))
            else:  # a projection back into the residual stream: what it reads
                handle = module.register_forward_pre_hook(self._input_listener(sums, name))
            self._handles.callback(handle.remove)

    def __exit__(self, *_: object) -> None:
        self._handles.close()

    def activity(self, axes: str) -> Tensor:
        """Activity at all sites of these axes, in the model's order; ``(sites, units)``."""
        return torch.stack([total.sqrt() for total in self._sums[axes].values()]).float()

    def _output_listener(self, sums: dict[str, Tensor], name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: self._add(sums, name, output)

    def _input_listener(self, sums: dict[str, Tensor], name: str) -> Callable[..., None]:
        return lambda _module, inputs: self._add(sums, name, inputs[0])

    def _add(self, sums: dict[str, Tensor], name: str, values: Any) -> None:
        """Add a batch of activations, ``(sequences, tokens, units)``, to the site's sum."""
        mask = self.mask.to(values.dtype).unsqueeze(-1)
        mean = (values.abs() * mask).sum(1) / mask.sum(1).clamp(min=1)
        total = mean.double().square().sum(0)
        sums[name] = sums.get(name, torch.zeros_like(total)) + total
