"""The declaration of a distillation: its data and its settings."""

from dataclasses import dataclass, field, replace
from numbers import Real
from pathlib import PurePath
from typing import Any, Literal, get_args

from protege.objectives.data.examples import Examples
from protege.objectives.distillation.losses.hooked import HiddenLoss
from protege.objectives.distillation.losses.losses import LogitsKL, Loss
from protege.objectives.distillation.progressive import Progressive
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.machine.precision import TrainingPrecision, check_precision
from protege.spaces import BadInput
from protege.spaces.arguments import checks_fields

Term = Loss | HiddenLoss
"""One term of the training loss."""

LEAST_RATE = 0.01
"""Minimum peak rate of a student close to its teacher, relative to the full learning rate."""


@checks_fields
@dataclass(frozen=True)
class Distillation:
    """What students learn from, and how, in every trial of a search.

    The data is split by content into three disjoint parts, independent of order and duplicates:
    students train on the first, the search scores on the second, and `Search.confirm` scores the
    chosen students on the third, which the search never uses.

    The optimiser is AdamW, with lazy Adam on embeddings that have more rows than a batch has
    tokens. The learning rate warms up linearly, stays constant, and decays linearly to zero
    (warm-up, stable, decay: Hu et al., arXiv 2404.06395; Hägele et al., arXiv 2405.18392). Before
    the decay the schedule does not depend on the end, so a run may stop at any rung. Dropout is
    off: the targets are the teacher's exact outputs, and students differ only by architecture.

    A student that starts close to its teacher gets a lower rate. Adam moves every parameter by
    about the learning rate at each step, however small the gradient is, so a rate that improves a
    poor student harms a good one. The peak rate is proportional to the student's distance from its
    teacher (`Training.distance`), up to `learning_rate` at a distance of `full_rate_at`.

    Attributes:
        data: Examples to train and score on.
        steps: Optimiser steps; 0 scores untrained students.
        batch_size: Sequences per step.
        selection: Sequences to score on during the search; at most a quarter of the data.
        held_out: Sequences to confirm on; at most a quarter of the data.
        learning_rate: Peak rate of a student at a distance of `full_rate_at` or more.
        full_rate_at: Relative distance from the teacher at which a student gets the full
            `learning_rate`; 0 gives it to every student, None uses the task's default.
        warmup: Fraction of the steps with a rising rate.
        decay: Fraction of the steps with a falling rate.
        rungs: Fractions of the steps at which racing students are scored, besides the end; 0 is the
            untrained student.
        losses: Terms of the weighted sum to minimise; empty uses the task's default.
        answers: ``"cached"`` computes the teacher's outputs once and stores them on disk;
            ``"online"`` runs the teacher at every step, as do losses on hidden states or attention.
        progressive: Schedule by which students start deeper and drop layers; None for no schedule.
        weight_decay: Weight decay of AdamW, on matrices; embeddings under lazy Adam have none.
        max_tokens: Maximum sequence length; longer texts are truncated, texts for next-token models
            are packed to it.
        max_gradient: Norm to which gradients are clipped.
        layer_decay: Factor between the learning rates of a layer and the layer above it
            (discriminative fine-tuning: Howard and Ruder, arXiv 1801.06146; with a fixed factor:
            BEiT, arXiv 2106.08254). The last layer of a stack, heads, final norms and projections
            have the full rate; in a model of n layers, embeddings have it times
            ``layer_decay ** n``. With 1 all rates are equal.
        accumulate: Parts per batch for gradient accumulation; more need less memory.
        precision: ``"bfloat16"`` multiplies matrices in bfloat16, ``"auto"`` does so if the
            hardware supports it natively (AMX, CUDA from Ampere on), ``"float32"`` does not.
            Weights, attention, losses and evaluation stay in float32.
        device: Training device; ``"auto"`` is CUDA if available.
        checkpoint_every_s: Minimum seconds of training between checkpoints: a small student is soon
            retrained, and a large one takes a second to write. It may change when a study is
            resumed.
        scores_start: Whether a trained student is also measured as cut and healed by the objectives
            of `Stage.STUDENT` that are not scored at rungs. That takes one more measurement by
            each, and one more cut, for a trial that reaches its end; a warning tells where the
            distillation made a student worse by them. It may change when a study is resumed.
    """

    data: Examples = field(repr=False)
    steps: int = 200
    batch_size: int = 32
    selection: int = 512
    held_out: int = 512
    learning_rate: float = 3e-4
    full_rate_at: float | None = None
    warmup: float = 0.1
    decay: float = 0.2
    rungs: tuple[float, ...] = (0.0, 1 / 9, 1 / 3)
    losses: tuple[Term, ...] = ()
    answers: Literal["cached", "online"] = "cached"
    progressive: Progressive | None = None
    weight_decay: float = 0.01
    max_tokens: int = 128
    max_gradient: float = 1.0
    layer_decay: float = 1.0
    accumulate: int = 1
    precision: TrainingPrecision = "auto"
    device: str = "auto"
    checkpoint_every_s: float = field(default=20.0, repr=False, compare=False)
    scores_start: bool = field(default=True, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_data()
        self._check_numbers()
        self._check_rungs()
        self._check_rate()
        self._check_words()
        if self.progressive and self.hidden_losses:
            raise BadInput(
                "progressive with losses on hidden states or attention: the matched layers are "
                "dropped during training; leave out one of the two"
            )
        if self.answers == "cached" and any(getattr(one, "top", 1) is None for one in self.losses):
            raise BadInput(
                "losses with top=None: logits over the whole vocabulary are too large to cache; "
                'give answers="online", or the number of tokens to keep'
            )

    def _check_data(self) -> None:
        given: object = self.data
        if isinstance(given, Examples):
            return
        if isinstance(given, str | PurePath):
            raise BadInput(f"data={str(given)!r}: expected Texts.from_file({str(given)!r})")
        raise BadInput(
            f"data of type {type(given).__name__}: expected Texts, Images or Speech, such as "
            "Texts.of([...]) or Texts.from_dataset(dataset)"
        )

    def _check_numbers(self) -> None:
        whole = {"steps": 0, "batch_size": 1, "max_tokens": 2, "accumulate": 1}
        whole |= {"selection": 1, "held_out": 0}
        for name, least in whole.items():
            given = getattr(self, name)
            if not isinstance(given, int) or given < least:
                raise BadInput(f"{name}={given!r}: expected a whole number of at least {least}")
        for name in ("warmup", "decay"):
            given = getattr(self, name)
            if not 0 <= given <= 1:
                raise BadInput(f"{name}={given!r}: expected a share of the steps from 0 to 1")
        if not self.checkpoint_every_s >= 0:
            raise BadInput(
                f"checkpoint_every_s={self.checkpoint_every_s!r}: expected seconds, 0 or more"
            )
        if not 0 < self.layer_decay <= 1:
            raise BadInput(
                f"layer_decay={self.layer_decay!r}: expected a factor above 0 and at most 1"
            )

    def _check_rungs(self) -> None:
        rungs: object = self.rungs
        if not isinstance(rungs, tuple | list) or not all(isinstance(one, Real) for one in rungs):
            raise BadInput(f"rungs={rungs!r}: expected shares of the steps, such as (0.0, 1 / 3)")
        if not all(0 <= share < 1 for share in self.rungs):
            raise BadInput(f"rungs={self.rungs!r}: expected shares of the steps, from 0 to below 1")

    def _check_rate(self) -> None:
        if not self.learning_rate > 0:
            raise BadInput(f"learning_rate={self.learning_rate!r}: expected a rate above 0")
        if self.full_rate_at is not None and not 0 <= self.full_rate_at <= 1:
            raise BadInput(
                f"full_rate_at={self.full_rate_at!r}: expected a share from 0 (the whole rate for "
                "every student) to 1, or None for the task's own"
            )

    def _check_words(self) -> None:
        losses: object = self.losses
        if not isinstance(losses, tuple | list):
            raise BadInput(f"losses={losses!r}: expected several losses, such as ({losses!r},)")
        check_precision(self.precision, get_args(TrainingPrecision))
        if self.answers not in {"cached", "online"}:
            raise BadInput(f"answers={self.answers!r}: expected 'cached' or 'online'")

    @property
    def sequences_seen(self) -> int:
        """Number of sequences drawn in a run, including repeats."""
        return self.steps * self.batch_size

    @property
    def rung_steps(self) -> list[int]:
        """The steps after which a student is scored, including the last.

        With `progressive`, scoring starts when the student has reached its final depth.
        """
        first = round(self.progressive.until * self.steps) if self.progressive else 0
        steps = {round(share * self.steps) for share in self.rungs}
        return sorted({step for step in steps if step >= first} | {self.steps})

    @property
    def hidden_losses(self) -> list[HiddenLoss]:
        """The losses on hidden states or attention."""
        return [loss for loss in self.losses if isinstance(loss, HiddenLoss)]

    def terms(self, task: DistillationTask) -> tuple[Loss, ...]:
        """Return the losses on outputs; the task's default if no losses are given."""
        if not self.losses:
            return task.losses
        return tuple(loss for loss in self.losses if not isinstance(loss, HiddenLoss))

    def tuned(self, task: DistillationTask) -> DistillationTask:
        """Return the task with the temperature and `top` of the `LogitsKL` loss, if there is one.

        Raises:
            BadInput: Two `LogitsKL` losses differ in temperature or `top`.
        """
        wanted = [one for one in self.losses if isinstance(one, LogitsKL)]
        if not isinstance(task, LanguageTask | PairTask) or not wanted:
            return task
        kinds: set[tuple[Any, Any]] = {(one.temperature, one.top) for one in wanted}
        if len(kinds) > 1:
            raise BadInput(f"losses {wanted}: expected one temperature and one number of tokens")
        ((temperature, top),) = kinds
        return replace(task, temperature=temperature, top=top)

    def rate(self, distance: float, task: DistillationTask) -> float:
        """Return the peak learning rate of a student.

        Args:
            distance: The student's distance from its teacher; see `Training.distance`.
            task: The task.
        """
        full = task.full_rate_distance if self.full_rate_at is None else self.full_rate_at
        share = distance / full if full else 1.0
        return self.learning_rate * min(max(share, LEAST_RATE), 1.0)

    def pace(self, step: int) -> float:
        """Return the learning rate at a step, relative to its peak."""
        rising = max(1, round(self.warmup * self.steps))
        falling = max(1, min(round(self.decay * self.steps), self.steps - rising))
        return min((step + 1) / rising, (self.steps - step) / falling, 1.0)
