"""The optimisers of a training, their learning rates, and gradient clipping."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SparseAdam
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from protege.objectives.distillation.distillation import Distillation
from protege.spaces import Embedder, Unsupported, family_of, layers_above

Group = dict[str, Any]
"""A parameter group of a torch optimiser."""


class LazyAdamW(torch.optim.Optimizer):
    """AdamW, with lazy Adam for embeddings that have more rows than a batch has tokens.

    Lazy Adam updates only the rows that the batch reads. AdamW would update all of them: in MiniLM,
    where embeddings are two thirds of a half-size student's weights, clipping and the optimiser
    would take a fifth of every step. Embeddings tied to a head have dense gradients and stay in
    AdamW.

    Args:
        every: The groups of parameters, from `groups`.
        lazy: The weights of the embeddings, which are in these groups too.
        learning_rate: Peak rate.
        max_gradient: Norm to which all gradients together are clipped.

    Attributes:
        norm: The gradient norm before clipping at the last step.
    """

    def __init__(
        self,
        every: Sequence[Group],
        lazy: Sequence[Tensor],
        learning_rate: float,
        max_gradient: float,
    ) -> None:
        self.max_gradient, self.norm = max_gradient, torch.tensor(0.0)
        known = {id(one) for one in lazy}
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([*_dense(every, known)], lr=learning_rate, fused=True)
        ]
        if lazy:
            self.parts.append(SparseAdam([*_lazy(every, known)], learning_rate))
        super().__init__([*self._groups()], {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Clip the gradients and update the parameters; nothing if the norm is not finite."""
        dense, *rest = (self._with_gradient(one) for one in self.parts)
        gradients = [_known(one.grad) for one in dense]
        gradients += [_of_rows(one) for part in rest for one in part]
        self.norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(self.norm):
            return
        if self.norm > self.max_gradient:
            torch._foreach_mul_(gradients, float(self.max_gradient / (self.norm + 1e-6)))
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [one.state_dict() for one in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        for part, known in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(known)
        self.param_groups = [*self._groups()]  # loading replaces those of the parts

    def _groups(self) -> Iterator[Group]:
        """Yield the groups of all parts, the same objects: schedules set their rates."""
        for part in self.parts:
            yield from part.param_groups

    @staticmethod
    def _with_gradient(part: torch.optim.Optimizer) -> list[Tensor]:
        every = (one for group in part.param_groups for one in group["params"])
        return [one for one in every if one.grad is not None]


class Optimizers:
    """The optimiser of a student and its schedule.

    Args:
        module: The module to train.
        settings: Learning rates, weight decay, schedule and clipping.
        along: Further parameters to train.
        stack: Restores dense embedding gradients when it closes.

    Raises:
        Unsupported: `layer_decay` is not 1 and the layers of the module are unknown.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: Distillation,
        along: Sequence[Tensor],
        stack: ExitStack,
    ) -> None:
        self._optimizer = lazy_adamw(module, settings, along, stack)
        self._pace = settings.pace
        self._schedule = LambdaLR(self._optimizer, settings.pace)

    def step(self) -> Tensor:
        """Clip the gradients, update the parameters and clear the gradients.

        Returns:
            The gradient norm before clipping. If it is not finite, nothing is updated.
        """
        self._optimizer.step()
        norm = self._optimizer.norm
        if torch.isfinite(norm):
            self._schedule.step()
            self._optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the optimiser's state by path: part, parameter number, name."""
        return {
            f"{at}.{number}.{name}": torch.as_tensor(value).cpu()
            for at, part in enumerate(self._optimizer.parts)
            for number, known in part.state_dict()["state"].items()
            for name, value in known.items()
        }

    def load(self, state: Mapping[str, Tensor], step: int) -> None:
        """Restore the optimiser from `state` after a number of steps."""
        parts = []
        for at, part in enumerate(self._optimizer.parts):
            known: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            for path, value in state.items():
                which, number, name = path.split(".")
                if int(which) == at:
                    # SparseAdam counts steps in an int, AdamW in a tensor
                    is_count = name == "step" and isinstance(part, SparseAdam)
                    known[int(number)][name] = int(value) if is_count else value.clone()
            parts.append({**part.state_dict(), "state": dict(known)})
        self._optimizer.load_state_dict({"parts": parts})
        schedule = self._schedule
        schedule.last_epoch = step
        groups = self._optimizer.param_groups
        for group, rate in zip(groups, schedule.base_lrs, strict=True):
            group["lr"] = rate * self._pace(step)


def lazy_adamw(
    module: nn.Module,
    settings: Distillation,
    along: Iterable[Tensor],
    stack: ExitStack | None,
) -> LazyAdamW:
    """Return the optimiser of a module.

    Args:
        module: The module to train.
        settings: Learning rates, weight decay and clipping.
        along: Further parameters to train.
        stack: Restores dense gradients of lazy embeddings when it closes. None leaves them dense,
            as several processes exchange them.

    Raises:
        Unsupported: `layer_decay` is not 1 and the layers of the module are unknown.
    """
    lazy = hardly_read(module, settings.batch_size * settings.max_tokens)
    if stack is not None:
        for embedding in lazy:
            embedding.sparse = True
            stack.callback(_make_dense, embedding)
    weights = [one.weight for one in lazy]
    every = groups(module, settings, along)
    return LazyAdamW(every, weights, settings.learning_rate, settings.max_gradient)


def _dense(every: Sequence[Group], lazy: set[int]) -> Iterator[Group]:
    for group in every:
        if found := [one for one in group["params"] if id(one) not in lazy]:
            yield {**group, "params": found}


def _lazy(every: Sequence[Group], lazy: set[int]) -> Iterator[Group]:
    """Yield the lazy groups, without weight decay: it would update all rows."""
    for group in every:
        if found := [one for one in group["params"] if id(one) in lazy]:
            yield {**{k: v for k, v in group.items() if k == "lr"}, "params": found}


def _known(gradient: Tensor | None) -> Tensor:
    assert gradient is not None  # the caller filters
    return gradient


def _of_rows(parameter: Tensor) -> Tensor:
    """Return a view of the gradient of the rows in the batch, ``(rows, width)``.

    The gradients that several processes exchange are dense; their rows are those that are not zero.
    """
    gradient = _known(parameter.grad)
    if not gradient.is_sparse:
        rows = gradient.any(dim=1).nonzero().T
        gradient = torch.sparse_coo_tensor(rows, gradient[rows[0]], gradient.shape)
    parameter.grad = gradient.coalesce()
    return parameter.grad._values()  # noqa: SLF001 - `values()` is not differentiable in place


def hardly_read(module: nn.Module, tokens: int) -> list[nn.Embedding]:
    """Return trainable, untied embeddings with more rows than tokens per batch."""
    holders = Counter(id(p) for one in module.modules() for p in one.parameters(recurse=False))
    return [
        one
        for one in module.modules()
        if type(one) is nn.Embedding
        and one.num_embeddings > tokens
        and one.weight.requires_grad
        and holders[id(one.weight)] == 1
    ]


def _make_dense(embedding: nn.Embedding) -> None:
    embedding.sparse = False


def groups(module: nn.Module, settings: Distillation, along: Iterable[Tensor] = ()) -> list[Group]:
    """Group parameters by learning rate and weight decay; only matrices have weight decay.

    Args:
        module: The module to train.
        settings: Learning rates and weight decay.
        along: Further parameters to train, all with weight decay.

    Raises:
        Unsupported: `layer_decay` is not 1 and the layers of the module are unknown.
    """
    decay, peak = settings.layer_decay, settings.learning_rate
    above = {} if decay == 1 else _layers_above(module)
    trained = [(above.get(n, 0), p) for n, p in module.named_parameters() if p.requires_grad]
    every = [
        {
            "params": [p for at, p in trained if at == layers and (p.ndim > 1) == matrices],
            "weight_decay": settings.weight_decay if matrices else 0.0,
            "lr": peak * decay**layers,
        }
        for layers in sorted({at for at, _ in trained})
        for matrices in (True, False)
    ]
    if further := [*along]:
        every.append({"params": further, "weight_decay": settings.weight_decay})
    return every


def _layers_above(module: nn.Module) -> dict[str, int]:
    """Count the layers above each parameter, without those that an embedder adds to its model.

    Raises:
        Unsupported: The module is no transformers model and no embedder of one.
    """
    prefix, model = "", module
    if isinstance(module, Embedder):
        prefix, model = "transformer.", module.transformer
    if not isinstance(model, PreTrainedModel):
        raise Unsupported(
            f"learning rates by layer of a {type(model).__name__}: expected a transformers model, "
            "or an Embedder of one; leave layer_decay at 1"
        )
    found = layers_above(family_of(model.config.model_type), model)
    return {f"{prefix}{name}": layers for name, layers in found.items()}
