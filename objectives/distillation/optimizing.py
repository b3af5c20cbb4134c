"""How a student's parameters move: the optimisers of a run, their rates, and clipping."""

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
"""Parameters of one rate and one weight decay, as an optimiser of torch takes them."""


class Optimizers:
    """AdamW, and lazy Adam for embeddings with more rows than a batch has tokens.

    Of such an embedding a step changes the rows that the batch reads and no others. AdamW would
    pass over all of them; in MiniLM, where they are two thirds of a half-size student's weights,
    clipping and the optimiser would take a fifth of every step. An embedding that is a head as well
    has a gradient for each row, and is left to AdamW.

    Args:
        module: What is trained.
        settings: How.
        along: Parameters that are trained along with it.
        stack: When it closes, the module is as it was.

    Raises:
        Unsupported: Rates differ by layer and the module is no model with known layers.
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
        """Clip the gradients, move the parameters and clear the gradients.

        Nothing moves if the norm of the gradients, which is returned, is not finite.
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
        """What the optimisers remember, by names of this class's own."""
        return {
            f"{at}.{number}.{name}": torch.as_tensor(value).cpu()
            for at, optimizer in enumerate(self._all)
            for number, known in optimizer.state_dict()["state"].items()
            for name, value in known.items()
        }

    def load(self, state: Mapping[str, Tensor], step: int) -> None:
        """Go on after so many steps with what `state` gave."""
        for at, (optimizer, schedule) in enumerate(zip(self._all, self._schedules, strict=True)):
            known: defaultdict[int, dict[str, Any]] = defaultdict(dict)
            for path, value in state.items():
                which, number, name = path.split(".")
                if int(which) == at:
                    # lazy Adam counts in Python, AdamW in a tensor
                    is_count = name == "step" and isinstance(optimizer, SparseAdam)
                    known[int(number)][name] = int(value) if is_count else value.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": dict(known)})
            schedule.last_epoch = step
            for group, rate in zip(optimizer.param_groups, schedule.base_lrs, strict=True):
                group["lr"] = rate * self._pace(step)

    def _with(self, every: list[Group], *, lazy: bool) -> Iterator[Group]:
        """The groups, with the lazy parameters alone or without them."""
        known = {id(one) for one in self.lazy}
        for group in every:
            found = [one for one in group["params"] if (id(one) in known) == lazy]
            if found:
                # lazy Adam has no weight decay: it would be of all rows
                kept = {"lr"} if lazy else {"lr", "weight_decay"}
                yield {**{k: v for k, v in group.items() if k in kept}, "params": found}

    @staticmethod
    def _of_rows(parameter: Tensor) -> Tensor:
        """The gradient of the rows that were read, ``(rows, width)``; a view of it."""
        assert parameter.grad is not None  # asked before
        parameter.grad = parameter.grad.coalesce()
        return parameter.grad._values()  # noqa: SLF001 - `values()` is not differentiable in place


def hardly_read(module: nn.Module, tokens: int) -> list[nn.Embedding]:
    """Trained embeddings with more rows than tokens are read at once, that are nothing else too."""
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
    """Parameters for AdamW: matrices decay, norms and biases do not; rates follow the layers."""
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
    """How many layers stand above each parameter; what an embedder adds to its model is not in it.

    Raises:
        Unsupported: There is no model in it.
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
