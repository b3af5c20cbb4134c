"""How a student is taught within a trial: the settings of a short distillation."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from protege.objectives.distillation.inside import Inside
from protege.objectives.distillation.language import LanguageLesson
from protege.objectives.distillation.lesson import Lesson, Loss
from protege.objectives.distillation.losses import LogitsKL
from protege.objectives.distillation.pairs import PairLesson
from protege.objectives.distillation.progressive import Progressive
from protege.objectives.precision import TrainingPrecision, check_precision
from protege.spaces import BadInput

Term = Loss | Inside
"""One term of what a student minimises."""

LEAST_RATE = 0.01
"""Least share of `Distillation.learning_rate` that a student close to its teacher gets."""


@dataclass(frozen=True)
class Distillation:
    """How a student is taught within a trial.

    AdamW, lazy on embeddings of more rows than a batch has tokens. The learning rate rises
    linearly, is stable, and falls linearly to zero at the end (warm-up, stable, decay: Hu et al.,
    arXiv 2404.06395; Hägele et al., arXiv 2405.18392). What comes before the fall depends on no
    end, so that a run may stop at any rung. Dropout is off: the student is asked for the teacher's
    exact answers, and with one random draw less students differ by their architecture alone.

    A student that starts close to its teacher gets a lower rate. Adam moves every parameter by
    about the rate at each step, however small the gradient is. What that costs does not depend on
    how good the student is, so the same rate improves a poor student and harms a good one. The peak
    rate is therefore proportional to the student's distance from its teacher
    (`Training.distance`), up to `learning_rate` at a distance of `full_rate_at`.

    Attributes:
        steps: Optimiser steps; 0 judges students as they are cut.
        batch_size: Sequences a step.
        learning_rate: At its peak, of a student at a distance of `full_rate_at` or more.
        full_rate_at: Distance from the teacher, as a share, from which a student gets the whole
            `learning_rate`; 0 gives every student the whole rate, None is the task's own distance.
        warmup: Share of the steps over which it rises.
        decay: Share of the steps over which it falls.
        rungs: Shares of the steps at which a student is judged where students race, the end apart;
            0 is as it was cut and healed.
        losses: What is minimised, the weighted sum of these; the task's own if there are none.
        answers: Whether the teacher's answers are computed once and ``"cached"`` on disk, or given
            ``"online"``, at every step anew. Losses that look inside need the teacher itself.
        progressive: Whether students start deeper and lose layers on the way.
        weight_decay: Of AdamW, on matrices only; not on rows of embeddings that few batches read.
        max_tokens: Longest sequence; longer texts are cut, language models' text is packed to it.
        max_gradient: Norm to which gradients are clipped.
        layer_decay: What each layer's learning rate is of the one above it, so that what serves
            all inputs alike changes least (discriminative fine-tuning: Howard and Ruder,
            arXiv 1801.06146; with a fixed factor: BEiT, arXiv 2106.08254). The last layer of a
            stack has the full rate, as have heads, final norms and projections; embeddings have it
            times ``layer_decay ** n`` in a model of n layers. At 1 all rates are the same.
        accumulate: Parts that a batch is read in, one after another, where memory is short.
        precision: ``"bfloat16"`` multiplies matrices in it, ``"auto"`` where the hardware does
            (AMX, CUDA from Ampere on), ``"float32"`` nowhere. Weights, attention, losses and all
            that is judged stay float32.
        device: Where students are trained; ``"auto"`` is a CUDA device if there is one.
    """

    steps: int = 200
    batch_size: int = 32
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

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_rate()
        self._check_words()
        if self.progressive and self.looks_inside:
            raise BadInput(
                "progressive with losses that look inside: the layers they match go on the way; "
                "leave out one of the two"
            )
        if self.answers == "cached" and any(getattr(one, "top", 1) is None for one in self.losses):
            raise BadInput(
                "losses with top=None: all of a vocabulary is too much to cache; give "
                'answers="online", or the number of tokens to keep'
            )

    def _check_numbers(self) -> None:
        whole = {"steps": 0, "batch_size": 1, "max_tokens": 2, "accumulate": 1}
        for name, least in whole.items():
            given = getattr(self, name)
            if not isinstance(given, int) or given < least:
                raise BadInput(f"{name}={given!r}: expected a whole number of at least {least}")
        for name in ("warmup", "decay"):
            given = getattr(self, name)
            if not 0 <= given <= 1:
                raise BadInput(f"{name}={given!r}: expected a share of the steps from 0 to 1")
        if not 0 < self.layer_decay <= 1:
            raise BadInput(
                f"layer_decay={self.layer_decay!r}: expected a factor above 0 and at most 1"
            )
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
        check_precision(self.precision, get_args(TrainingPrecision))
        if self.answers not in {"cached", "online"}:
            raise BadInput(f"answers={self.answers!r}: expected 'cached' or 'online'")

    @property
    def sequences_seen(self) -> int:
        """How many sequences a run draws, repeats counted."""
        return self.steps * self.batch_size

    @property
    def rung_steps(self) -> list[int]:
        """The steps after which a student is judged, the last included.

        A student that starts deeper is judged from when it has its own depth on.
        """
        first = round(self.progressive.until * self.steps) if self.progressive else 0
        steps = {round(share * self.steps) for share in self.rungs}
        return sorted({step for step in steps if step >= first} | {self.steps})

    @property
    def looks_inside(self) -> list[Inside]:
        """The losses that look inside student and teacher."""
        return [loss for loss in self.losses if isinstance(loss, Inside)]

    def terms(self, lesson: Lesson) -> tuple[Loss, ...]:
        """The losses on answers; the lesson's own where none are given."""
        if not self.losses:
            return lesson.losses
        return tuple(loss for loss in self.losses if not isinstance(loss, Inside))

    def tuned(self, lesson: Lesson) -> Lesson:
        """The lesson, its answers remembered as the losses want them.

        Raises:
            BadInput: Two of them want them differently.
        """
        wanted = [one for one in self.losses if isinstance(one, LogitsKL)]
        if not isinstance(lesson, LanguageLesson | PairLesson) or not wanted:
            return lesson
        kinds: set[tuple[Any, Any]] = {(one.temperature, one.top) for one in wanted}
        if len(kinds) > 1:
            raise BadInput(f"losses {wanted}: expected one temperature and one number of tokens")
        ((temperature, top),) = kinds
        return replace(lesson, temperature=temperature, top=top)

    def rate(self, distance: float, lesson: Lesson) -> float:
        """Return the peak learning rate of a student at a distance from its teacher.

        Args:
            distance: The student's loss before training, as a share of the loss of a student whose
                answers are all zero.
            lesson: The task.
        """
        far = lesson.far if self.full_rate_at is None else self.full_rate_at
        share = distance / far if far else 1.0
        return self.learning_rate * min(max(share, LEAST_RATE), 1.0)

    def pace(self, step: int) -> float:
        """Share of the peak learning rate at a step."""
        rising = max(1, round(self.warmup * self.steps))
        falling = max(1, min(round(self.decay * self.steps), self.steps - rising))
        return min((step + 1) / rising, (self.steps - step) / falling, 1.0)
