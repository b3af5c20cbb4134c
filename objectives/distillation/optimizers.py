"""The optimisers of a training, their learning rates, and gradient clipping."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
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


class Optimizers:
    """AdamW, with lazy Adam for embeddings that have more rows than a batch has tokens.

    Lazy Adam updates only the rows that the batch reads. AdamW would update all of them: in MiniLM,
    where embeddings are two thirds of a half-size student's weights, clipping and the optimiser
    would take a fifth of every step. Embeddings tied to a head have dense gradients and stay in
    AdamW.

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
        self.max_gradient = settings.max_gradient
        self._pace = settings.pace
        self.lazy: list[Tensor] = []
        read = settings.batch_size * settings.max_tokens
        for embedding in hardly_read(module, read):
            embedding.sparse = True
            stack.callback(_make_dense, embedding)
            self.lazy.append(embedding.weight)
        every = groups(module, settings)
        if along:
            every.append({"params": [*along], "weight_decay": settings.weight_decay})
        dense = [*self._with(every, lazy=False)]
        self.dense: list[Tensor] = [one for group in dense for one in group["params"]]
        self._all: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(dense, lr=settings.learning_rate, fused=True)
        ]
        if self.lazy:
            self._all.append(SparseAdam([*self._with(every, lazy=True)], settings.learning_rate))
        self._schedules = [LambdaLR(one, settings.pace) for one in self._all]

    def step(self) -> Tensor:
        """Clip the gradients, update the parameters and clear the gradients.

        Returns:
            The gradient norm before clipping. If it is not finite, nothing is updated.
        """
        gradients = [one.grad for one in self.dense if one.grad is not None]
        gradients += [self._of_rows(one) for one in self.lazy if one.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            return norm
        if norm > self.max_gradient:
            torch._foreach_mul_(gradients, float(self.max_gradient / (norm + 1e-6)))
        for optimizer, schedule in zip(self._all, self._schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the optimisers' state by path: optimiser, parameter number, name."""
        return {
            f"{at}.{number}.{name}": torch.as_tensor(value).cpu()
            for at, optimizer in enumerate(self._all)
            for number, known in optimizer.state_dict()["state"].items()
            for name, value in known.items()
        }

    def load(self, state: Mapping[str, Tensor], step: int) -> None:
        """Restore the optimisers from `state` after a number of steps."""
        for at, (optimizer, schedule) in enumerate(zip(self._all, self._schedules, strict=True)):
            known: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            for path, value in state.items():
                which, number, name = path.split(".")
                if int(which) == at:
                    # SparseAdam counts steps in an int, AdamW in a tensor
                    is_count = name == "step" and isinstance(optimizer, SparseAdam)
                    known[int(number)][name] = int(value) if is_count else value.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(known)})
            schedule.last_epoch = step
            for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = rate * self._pace(step)

    def _with(self, every: list[Group], *, lazy: bool) -> Iterator[Group]:
        """Yield the groups with the lazy parameters only, or without them."""
        known = {id(one) for one in self.lazy}
        for group in every:
            found = [one for one in group["params"] if (id(one) in known) == lazy]
            if found:
                # no weight decay for lazy Adam, as it would update all rows
                kept = {"lr"} if lazy else {"lr", "weight_decay"}
                yield {**{k: v for k, v in group.items() if k in kept}, "params": found}

    @staticmethod
    def _of_rows(parameter: Tensor) -> Tensor:
        """Return a view of the gradient of the rows in the batch, ``(rows, width)``."""
        assert parameter.grad is not None  # the caller filters
        parameter.grad = parameter.grad.coalesce()
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


def groups(module: nn.Module, settings: Distillation) -> list[Group]:
    """Group parameters by learning rate and weight decay; only matrices have weight decay.

    Raises:
        Unsupported: `layer_decay` is not 1 and the layers of the module are unknown.
    """
    decay, peak = settings.layer_decay, settings.learning_rate
    above = {} if decay == 1 else _layers_above(module)
    trained = [(above.get(n, 0), p) for n, p in module.named_parameters() if p.requires_grad]
    return [
        {
            "params": [p for at, p in trained if at == layers and (p.ndim > 1) == matrices],
            "weight_decay": settings.weight_decay if matrices else 0.0,
            "lr": peak * decay**layers,
        }
        for layers in sorted({at for at, _ in trained})
        for matrices in (True, False)
    ]


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
