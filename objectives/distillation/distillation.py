"""A short distillation: a student against its teacher's remembered answers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel

from protege.objectives.distillation.lesson import Lesson, Targets
from protege.objectives.distillation.sequences import Batch, Sequences
from protege.spaces import (
    BadInput,
    Embedder,
    ProtegeError,
    Unsupported,
    family_of,
    layers_above,
)


@dataclass(frozen=True)
class Distillation:
    """How a student is taught within a trial.

    AdamW, the learning rate rising linearly over the first steps and falling linearly to zero.
    Dropout is off: the student is asked for the teacher's exact answers, and with one random draw
    less students differ by their architecture alone.

    Attributes:
        steps: Optimiser steps; 0 judges students as they are cut.
        batch_size: Sequences a step.
        learning_rate: At its peak.
        warmup: Share of the steps over which it rises.
        weight_decay: Of AdamW, on matrices only.
        max_tokens: Longest sequence; longer texts are cut, language models' text is packed to it.
        max_gradient: Norm to which gradients are clipped.
        layer_decay: What each layer's learning rate is of the one above it, so that what serves
            all inputs alike changes least (discriminative fine-tuning: Howard and Ruder,
            arXiv 1801.06146; with a fixed factor: BEiT, arXiv 2106.08254). The last layer of a
            stack has the full rate, as have heads, final norms and projections; embeddings have it
            times ``layer_decay ** n`` in a model of n layers. At 1 all rates are the same.
    """

    steps: int = 200
    batch_size: int = 32
    learning_rate: float = 3e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_tokens: int = 128
    max_gradient: float = 1.0
    layer_decay: float = 1.0

    def __post_init__(self) -> None:
        whole = {"steps": 0, "batch_size": 1, "max_tokens": 2}
        for name, least in whole.items():
            given = getattr(self, name)
            if not isinstance(given, int) or given < least:
                raise BadInput(f"{name}={given!r}: expected a whole number of at least {least}")
        if not self.learning_rate > 0 or not 0 <= self.warmup <= 1:
            given = f"learning_rate={self.learning_rate!r}, warmup={self.warmup!r}"
            raise BadInput(f"{given}: expected a rate above 0 and a warm-up share from 0 to 1")
        if not 0 < self.layer_decay <= 1:
            raise BadInput(
                f"layer_decay={self.layer_decay!r}: expected a factor above 0 and at most 1"
            )

    @property
    def sequences_seen(self) -> int:
        """How many sequences a run draws, repeats counted."""
        return self.steps * self.batch_size

    def teach(
        self,
        module: nn.Module,
        lesson: Lesson,
        sequences: Sequences,
        targets: Targets,
        seed: int,
        announce: Callable[[str], None] = lambda _: None,
    ) -> list[float]:
        """Train the module in place; the loss of every step.

        Raises:
            ProtegeError: The loss is no longer a finite number.
            Unsupported: Rates differ by layer and the module is no model with known layers.
        """
        optimizer = torch.optim.AdamW(_groups(module, self), lr=self.learning_rate, fused=True)
        schedule = LambdaLR(optimizer, self._pace)
        losses: list[float] = []
        batches: Iterator[Batch] = islice(sequences.shuffled(self.batch_size, seed), self.steps)
        module.eval()
        for step, batch in enumerate(batches, 1):
            remembered = {name: tensor[batch.rows] for name, tensor in targets.items()}
            loss = lesson.loss(lesson.answer(module, batch), remembered)
            losses.append(loss.item())
            if not torch.isfinite(loss):
                raise ProtegeError(
                    f"distillation diverged at step {step} of {self.steps} (loss {losses[-1]}); "
                    f"lower learning_rate={self.learning_rate:g} or raise warmup={self.warmup:g}"
                )
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), self.max_gradient)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            announce(f"distil {step}/{self.steps}")
        return losses

    def _pace(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rising = max(1, round(self.warmup * self.steps))
        return min((step + 1) / rising, (self.steps - step) / max(1, self.steps - rising), 1.0)


def remember(module: nn.Module, lesson: Lesson, sequences: Sequences, size: int) -> Targets:
    """The teacher's answers to every row of the sequences."""
    parts = [
        (batch.rows, lesson.targets(answer, sequences.labels[batch.rows]))
        for batch, answer in _answers(module, lesson, sequences, size)
    ]
    return _by_row(parts)


def judge(
    module: nn.Module, lesson: Lesson, sequences: Sequences, targets: Targets, size: int
) -> dict[str, Tensor]:
    """The scores of the module's answers to every row of the sequences."""
    parts = [
        (
            batch.rows,
            lesson.scores(
                answer,
                {name: tensor[batch.rows] for name, tensor in targets.items()},
                sequences.labels[batch.rows],
            ),
        )
        for batch, answer in _answers(module, lesson, sequences, size)
    ]
    return _by_row(parts)


def _answers(
    module: nn.Module, lesson: Lesson, sequences: Sequences, size: int
) -> Iterator[tuple[Batch, Tensor]]:
    module.eval()
    for batch in sequences.in_order(size):
        with torch.inference_mode():
            answer = lesson.answer(module, batch)
        yield batch, answer


def _by_row(parts: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Batches put back into the order of the rows."""
    order = torch.cat([rows for rows, _ in parts]).argsort()
    names = parts[0][1]
    return {name: torch.cat([found[name] for _, found in parts])[order] for name in names}


def _groups(module: nn.Module, distillation: Distillation) -> list[dict[str, object]]:
    """Parameters for AdamW: matrices decay, norms and biases do not; rates follow the layers."""
    decay, peak = distillation.layer_decay, distillation.learning_rate
    above = {} if decay == 1 else _layers_above(module)
    trained = [(above.get(n, 0), p) for n, p in module.named_parameters() if p.requires_grad]
    return [
        {
            "params": [p for at, p in trained if at == layers and (p.ndim > 1) == matrices],
            "weight_decay": distillation.weight_decay if matrices else 0.0,
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
