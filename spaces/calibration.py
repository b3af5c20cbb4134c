"""What one pass over calibration data tells about the teacher's units."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from protege.spaces.answers import Batch
from protege.spaces.importance import head_importance
from protege.spaces.layout import Layout
from protege.spaces.policies import HeadsBy

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher


@dataclass(frozen=True)
class Calibration:
    """Importance of the teacher's units by how active they are (Minitron, arXiv 2407.14679).

    With S sequences of a site's output ``x``, the activity of unit j is
    ``sqrt(sum_s (mean_t |x[s, t, j]|)**2)``, the mean taken over real tokens only, never padding.
    Of an expert it is the norm of what it adds to the token, nothing where the token is sent
    elsewhere; of a token of the vocabulary, how often it occurs.

    Attributes:
        importance: By name: ``hidden``, ``(hidden_size,)``, summed over the norms' outputs;
            ``vocab``, ``(vocab_size,)``; for every stack ``decoder.heads``, ``(layers, heads)``,
            at the input of the attention's output projection, the norm taken over the head's
            channels; ``decoder.ffn``, ``(layers, ffn)``, at the input of the feed-forward's last
            projection; ``decoder.experts`` and ``decoder.expert_ffn``, ``(layers, experts, ffn)``.
            Heads by another criterion have it in their name: ``decoder.heads.gradient``.
    """

    importance: Mapping[str, Tensor]

    @classmethod
    def of(
        cls,
        teacher: "Teacher",
        batches: Iterable[Batch],
        heads_by: Collection[HeadsBy] = (),
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """The calibration of a teacher on batches of its own inputs.

        Args:
            teacher: The teacher.
            batches: What its forward takes: ``input_ids`` and ``attention_mask``, ``pixel_values``,
                ``input_features``, and ``decoder_input_ids`` where there is a decoder.
            heads_by: The criteria to rank attention heads by; see `head_importance`.
            announce: Told how far those are.
        """
        others = [criterion for criterion in heads_by if criterion != "activation"]
        kept = list(batches) if others else batches
        sites = _Sites(teacher)
        tokens = torch.zeros(teacher.architecture.vocab_size)
        # the head is left out, but where it is the head that says what the decoder is given
        paired = teacher.config.is_encoder_decoder
        model: Any = teacher.model if paired else teacher.model.base_model
        with torch.inference_mode(), sites:
            for batch in kept:
                sites.masks = _masks(batch)
                tokens += _occurrences(batch, len(tokens))
                model(**{name: value for name, value in batch.items() if name != "labels"})
        found = cls({**cls.flat(teacher.layout).importance, **sites.activity(), "vocab": tokens})
        for criterion in others:
            found = found.with_heads(teacher, kept, criterion, announce)
        return found

    def with_heads(
        self,
        teacher: "Teacher",
        batches: Iterable[Batch],
        criterion: HeadsBy,
        announce: Callable[[str], None] = lambda _: None,
    ) -> "Calibration":
        """The same with heads measured by one more criterion, on batches of their own."""
        found = head_importance(teacher, batches, criterion, announce)
        named = {f"{site}.{criterion}": values for site, values in found.items()}
        return Calibration({**self.importance, **named})

    def counting(self, ids: Tensor) -> "Calibration":
        """The same with each token as important as it is frequent among these ids."""
        counts = ids.long().bincount(minlength=len(self.vocab))
        return Calibration({**self.importance, "vocab": counts.float()})

    @classmethod
    def flat(cls, layout: Layout) -> "Calibration":
        """Every unit as important as any other: what is known before a pass."""
        own = layout.architecture
        found = {"hidden": torch.ones(own.hidden_size), "vocab": torch.ones(own.vocab_size)}
        for (stack, _), units in layout.sites.items():
            layers = layout.depths[stack]
            for unit in units - {"kv_heads"}:
                shape = [layers, own.units(unit)]
                if unit == "expert_ffn":
                    shape.insert(1, own.num_experts)
                found[f"{stack}.{unit}"] = torch.ones(shape)
        return cls(found)

    def tensors(self) -> dict[str, Tensor]:
        """The importance by name, as a cache stores it."""
        return dict(self.importance)

    @property
    def hidden(self) -> Tensor:
        """Importance of the channels of the residual stream."""
        return self.importance["hidden"]

    @property
    def vocab(self) -> Tensor:
        """How often each token occurs."""
        return self.importance["vocab"]

    def units(self, unit: str, stack: str, heads_by: HeadsBy = "activation") -> Tensor:
        """Importance of the units of one axis in every layer of a stack."""
        name = f"{stack}.{unit}"
        if unit in {"heads", "cross_heads"} and heads_by != "activation":
            name = f"{name}.{heads_by}"
        # a head that no layer of a stack has, such as a pooler's, is ranked by what there is
        return self.importance.get(name, self.importance[f"{stack}.{unit}"])


def _masks(batch: Batch) -> list[Tensor]:
    """Masks of real tokens: of the input, then of what a decoder is given."""
    return [batch[name] for name in _MASKS if name in batch]


_MASKS = ("attention_mask", "decoder_attention_mask")


def _occurrences(batch: Batch, vocabulary: int) -> Tensor:
    """How often each token stands in the batch, padding left out."""
    counts = torch.zeros(vocabulary)
    for prefix in ("", "decoder_"):
        ids = batch.get(f"{prefix}input_ids")
        if ids is not None:
            mask = batch.get(f"{prefix}attention_mask", torch.ones_like(ids))
            counts += torch.bincount(ids[mask == 1], minlength=vocabulary)
    return counts


class _Sites:
    """Listens to the modules whose activity counts, found by the axes the family's table gives."""

    def __init__(self, teacher: "Teacher") -> None:
        self.masks: Sequence[Tensor] = ()
        self._teacher = teacher
        self._sums: dict[tuple[str, int], Tensor] = {}
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

    def activity(self) -> dict[str, Tensor]:
        """Activity at every site, as `Calibration` names them."""
        layout = self._teacher.layout
        norms = [total.sqrt() for (name, _), total in self._sums.items() if name == "hidden"]
        found = {"hidden": torch.stack(norms).sum(0).float()}
        for name in dict.fromkeys(name for name, _ in self._sums if name != "hidden"):
            stack, _, unit = name.partition(".")
            own = {layer: t.sqrt() for (of, layer), t in self._sums.items() if of == name}
            nothing = torch.zeros_like(next(iter(own.values())))
            layers = [own.get(layer, nothing) for layer in range(layout.depths[stack])]
            values = torch.stack(layers).float()
            if unit in {"heads", "cross_heads"}:
                heads = layout.architecture.num_attention_heads
                values = values.unflatten(1, (heads, -1)).norm(dim=-1)
            found[name] = values
        return found

    def _listen_to_output(self, module: nn.Module, place: tuple[str, int], **of: bool) -> None:
        hook: Callable[..., None] = lambda _m, _i, output: self._add(place, output, **of)  # noqa: E731
        self._handles.callback(module.register_forward_hook(hook).remove)

    def _listen_to_input(self, module: nn.Module, place: tuple[str, int], **of: bool) -> None:
        hook: Callable[..., None] = lambda _m, inputs: self._add(place, inputs[0], **of)  # noqa: E731
        self._handles.callback(module.register_forward_pre_hook(hook).remove)

    def _listen_to_experts(self, module: nn.Module, stack: str, layer: int) -> None:
        def hook(experts: Any, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
            load, neurons = _expert_activity(experts, *inputs, self._mask(None, in_decoder=False))
            self._sum((f"{stack}.experts", layer), load)
            self._sum((f"{stack}.expert_ffn", layer), neurons)

        self._handles.callback(module.register_forward_pre_hook(hook).remove)

    def _add(self, place: tuple[str, int], values: Any, *, in_decoder: bool) -> None:
        """Add a batch of activations, ``(sequences, tokens, units)``, to the site's sum."""
        if values.ndim == 2:  # OPT lays all tokens of a batch end to end
            shape = self._mask(None, in_decoder=in_decoder).shape
            if len(values) != shape.numel():
                return  # of positions, not of tokens: DeBERTa norms its distances too
            values = values.unflatten(0, shape)
        mask = self._mask(values, in_decoder=in_decoder).to(values.dtype).unsqueeze(-1)
        mean = (values.abs() * mask).sum(1) / mask.sum(1).clamp(min=1)
        self._sum(place, mean.double().square().sum(0))

    def _mask(self, values: Tensor | None, *, in_decoder: bool) -> Tensor:
        """Which tokens are real; all of them where the model has no mask for that side."""
        paired = self._teacher.config.is_encoder_decoder
        sides = self.masks[1:] if paired and in_decoder else self.masks[:1]
        if values is None:
            return sides[0]
        fitting = [mask for mask in sides if mask.shape == values.shape[:2]]
        return fitting[0] if fitting else torch.ones(values.shape[:2])

    def _sum(self, place: tuple[str, int], squares: Tensor) -> None:
        before = self._sums.get(place)
        self._sums[place] = squares if before is None else before + squares


def _expert_activity(
    experts: Any, hidden: Tensor, chosen: Tensor, weights: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Squared activity of experts, ``(experts,)``, and of their neurons, ``(experts, ffn)``.

    What each of them makes is worked out again, for transformers runs them in one piece.
    """
    rows, length = mask.shape
    real = mask.reshape(-1).bool()
    total = len(experts.down_proj)
    load = torch.zeros(total, dtype=torch.float64)
    neurons = torch.zeros(total, experts.down_proj.shape[2], dtype=torch.float64)
    for number in range(total):
        tokens, place = torch.where((chosen == number) & real[:, None])
        gate, up = nn.functional.linear(hidden[tokens], experts.gate_up_proj[number]).chunk(2, -1)
        active = experts.act_fn(gate) * up
        added = nn.functional.linear(active, experts.down_proj[number])
        norms = (added * weights[tokens, place, None]).norm(dim=-1).double()
        row = tokens // length
        by_row = torch.zeros(rows, dtype=torch.float64).index_add(0, row, norms)
        load[number] = (by_row / mask.sum(1).clamp(min=1)).square().sum()
        sums = torch.zeros(rows, active.shape[1], dtype=torch.float64)
        counts = torch.bincount(row, minlength=rows).clamp(min=1)
        sums = sums.index_add(0, row, active.abs().double()) / counts[:, None]
        neurons[number] = sums.square().sum(0)
    return load, neurons
