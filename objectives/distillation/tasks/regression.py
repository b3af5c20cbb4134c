"""The distillation task of regression heads, which match the teacher's scores."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.distillation.losses.losses import Loss, ScoreMSE, Targets
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import BadInput, Teacher

LEAST = 1e-12
"""Least variance to divide by; that of a constant score is 0."""


@dataclass(frozen=True)
class RegressionTask(ClassTask):
    """Scores of texts or images, one or more each.

    With the mean squared error between the student's and the teacher's scores, each divided by the
    variance of the teacher's, as e, the quality is 1 / (1 + e): 1 for equal scores, 1/2 for a
    student that says the mean of every example. It falls as 1 - e, the share of the variance that
    the student explains, and stays above 0. With labels it is the same of the labels, divided by
    the teacher's.

    Attributes:
        variances: The variance of each of the teacher's scores, by which the loss divides; empty
            for 1 each.
    """

    variances: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        return "image-scores" if self.images else "text-scores"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (ScoreMSE(variances=self.variances),)

    def standardised(self, targets: Targets) -> "RegressionTask":
        """Return the task whose loss divides by the variances of these outputs of the teacher."""
        found = _variances(targets["logits"].double())
        return replace(self, variances=tuple(found.tolist()))

    def labels(self, teacher: Teacher, examples: Sequence[Example]) -> Sequence[Any]:
        count = int(teacher.config.num_labels or 0)
        return [_scores_of(example, count) for example in examples]

    def check_labels(
        self,
        targets: Targets,
        labels: Tensor,
        names: Sequence[str],  # noqa: ARG002 - scores have no names
        teacher: Teacher,  # noqa: ARG002
    ) -> None:
        known = ~labels.isnan().any(-1)
        if not bool(known.any()):
            return
        errors = _errors(targets["logits"][known], labels[known])
        if len(errors) > 1 and float(errors.mean()) >= 1:
            raise BadInput(
                f"labels: the squared error of the teacher's scores is {float(errors.mean()):.3g} "
                "times the variance of the labels, so their mean is a better guess; give labels on "
                "the teacher's scale, or leave them out"
            )

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        return {"student": answer, "teacher": targets["logits"], "labels": labels}

    def score(self, scores: Scores) -> TaskScore:
        mine, theirs = scores["student"].double(), scores["teacher"].double()
        apart = _errors(mine, theirs)
        known = ~scores["labels"].isnan().any(-1)
        figures = {
            "explained": 1 - float(apart.mean()),
            "correlation": float(_correlations(mine, theirs).mean()),
        }
        if not bool(known.any()):
            return _relative(apart, torch.zeros_like(apart), figures)
        truth = scores["labels"].double()[known]
        errors = torch.full_like(apart, torch.nan)
        errors[known] = _errors(mine[known], truth)
        figures["label_correlation"] = float(_correlations(mine[known], truth).mean())
        figures["teacher_label_correlation"] = float(_correlations(theirs[known], truth).mean())
        of_teacher = torch.full_like(apart, torch.nan)
        of_teacher[known] = _errors(theirs[known], truth)
        return _relative(errors, of_teacher, figures)


def _relative(errors: Tensor, of_teacher: Tensor, figures: dict[str, float]) -> TaskScore:
    """Return the score by the standardised squared errors of each row, NaN if unknown."""
    known = ~errors.isnan()
    own, best = float(errors[known].mean()), float(of_teacher[known].mean())
    value = (1 + best) / (1 + own)
    # the first-order error of the ratio: leaves out the difficulty of examples that both share
    differ = errors[known] / (1 + own) - of_teacher[known] / (1 + best)
    return TaskScore(
        value=value,
        spread=value * standard_error(differ),
        figures=figures,
        rows=-errors.nan_to_num(own),
        of_mean=lambda mean: (1 + best) / (1 - mean),
    )


def _errors(found: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean squared error of each row, relative to the variance of the wanted scores.

    Args:
        found: ``(rows, scores)``.
        wanted: ``(rows, scores)``.
    """
    wanted = wanted.double()
    return ((found.double() - wanted).square() / _variances(wanted)).mean(-1)


def _variances(scores: Tensor) -> Tensor:
    return scores.var(0, correction=0).clamp(min=LEAST)


def _correlations(found: Tensor, wanted: Tensor) -> Tensor:
    """Return Pearson's correlation of each score, ``(scores,)``; 0 where one is constant."""
    found, wanted = found - found.mean(0), wanted - wanted.mean(0)
    scale = (found.square().sum(0) * wanted.square().sum(0)).sqrt()
    return (found * wanted).sum(0) / scale.clamp(min=LEAST)


def _scores_of(example: Example, count: int) -> list[float]:
    """Return the scores that label an example; NaN without a label.

    Raises:
        BadInput: The label is not that many finite numbers.
    """
    if example.label is None:
        return [math.nan] * count
    given = example.label if isinstance(example.label, tuple) else (example.label,)
    try:
        found = [float(one) for one in given]
    except ValueError:
        found = []
    if len(found) != count or not all(map(math.isfinite, found)):
        wanted = "a number" if count == 1 else f"{count} numbers"
        raise BadInput(f"label {example.label!r:.60}: expected {wanted}, as the teacher's scores")
    return found
