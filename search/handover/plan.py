"""The settings of a student's full training."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from protege.objectives.machine.precision import TrainingPrecision, check_precision
from protege.spaces.errors import BadInput

if TYPE_CHECKING:  # the command line reads this module before it needs torch
    from protege.objectives import Progressive

EVALUATIONS = 10
"""Evaluations per training, each with a checkpoint."""

OWN_ARGUMENTS = frozenset(
    {
        *("output_dir", "num_train_epochs", "max_steps", "learning_rate", "warmup_steps"),
        *("per_device_train_batch_size", "lr_scheduler_type", "lr_scheduler_kwargs"),
        *("eval_strategy", "eval_steps", "save_strategy", "save_steps", "load_best_model_at_end"),
        *("metric_for_best_model", "greater_is_better", "resume_from_checkpoint"),
        *("gradient_checkpointing", "remove_unused_columns", "disable_tqdm", "seed", "data_seed"),
        *("push_to_hub", "hub_model_id"),
    }
)
"""Training arguments that a plan sets by its own fields, or that protege needs as they are."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a student is trained after the search.

    The length is a number of epochs, of optimiser steps, or of minutes; the shortest of those given
    ends the training. The learning rate rises, stays constant and falls to zero at the end (see
    `Distillation`), also if that end is a time.

    Attributes:
        epochs: Passes over the data.
        steps: Maximum number of optimiser steps.
        minutes: Maximum minutes: of training, those before a resumption included, and of the
            teacher's outputs, which are computed before.
        batch_size: Sequences per step, over all processes.
        learning_rate: Peak rate; None takes the study's, scaled by the student's distance from its
            teacher (`Distillation.rate`).
        warmup: Fraction of the training with a rising rate.
        decay: Fraction of the training with a falling rate.
        patience: Number of evaluations without improvement after which training ends; None trains
            to the end.
        held_out: Sequences to evaluate on; at most a quarter of the data.
        progressive: Schedule by which the student starts deeper, with layers of its teacher that
            it lacks, and drops them; None for no schedule. It is evaluated once they are dropped.
        precision: See `Distillation`.
        gradient_checkpointing: Whether activations are computed again in the backward pass, which
            saves memory and costs about a third more time.
        seed: Seed of the data order.
        push_to_hub: Id of a repository on the Hugging Face hub to upload the student to; empty
            uploads nothing.
        arguments: Further fields of `transformers.TrainingArguments`, such as
            ``{"report_to": "tensorboard", "gradient_accumulation_steps": 4}``.

    Raises:
        BadInput: A value is out of range.
    """

    epochs: float = 1.0
    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    warmup: float = 0.05
    decay: float = 0.2
    patience: int | None = None
    held_out: int = 512
    progressive: "Progressive | None" = None
    precision: TrainingPrecision = "auto"
    gradient_checkpointing: bool = False
    seed: int = 0
    push_to_hub: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "learning_rate"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, int | float) and given > 0):
                raise BadInput(f"{name}={given!r}: expected a number above 0")
        for name in ("steps", "batch_size", "patience", "held_out"):
            given = getattr(self, name)
            if given is not None and not (isinstance(given, int) and given >= 1):
                raise BadInput(f"{name}={given!r}: expected a whole number of at least 1")
        for name in ("warmup", "decay"):
            given = getattr(self, name)
            if not (isinstance(given, int | float) and 0 <= given <= 1):
                raise BadInput(f"{name}={given!r}: expected a share of the training from 0 to 1")
        check_precision(self.precision, get_args(TrainingPrecision))
        if taken := sorted(OWN_ARGUMENTS & self.arguments.keys()):
            raise BadInput(
                f"arguments {', '.join(taken)}: set by the fields of TrainingPlan (epochs, steps, "
                "batch_size, learning_rate, …) or needed as they are; leave them out"
            )

    @property
    def evaluates_from(self) -> float:
        """The fraction of the training from which on the student is evaluated."""
        return 0.0 if self.progressive is None else self.progressive.until

    def pace(self, done: float) -> float:
        """Return the learning rate relative to its peak.

        Args:
            done: The fraction of the training that is done when the next step ends.
        """
        rising = done / self.warmup if self.warmup else 1.0
        falling = (1 - done) / self.decay if self.decay else 1.0
        return max(0.0, min(rising, falling, 1.0))
