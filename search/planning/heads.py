"""Measure how much each attention head of a teacher matters."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from protege.objectives import Distillation, Examples, Objective, Retention, Texts
from protege.objectives.distillation.questions import Questions
from protege.objectives.retention import lesson_of
from protege.search.planning.calibrating import Reading
from protege.search.planning.foretelling import foretell_calibration
from protege.search.planning.needs import Needs
from protege.search.records.heads import HEAD_TOKENS, HeadScores
from protege.spaces import BadInput, Calibration, Teacher, Unsupported
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.blocks import Room
from protege.spaces.calibration.plan import CalibrationPlan

Data = Examples | Questions | Iterable[str] | Iterable[Mapping[str, Tensor]]
"""Texts or images, or batches of inputs of the teacher's forward."""


def head_table(
    teacher: Teacher, data: Data, by: HeadsBy = "ablation", tokens: int | None = None
) -> pd.DataFrame:
    """Return the importance of every attention head, one row per head.

    Args:
        teacher: The teacher.
        data: Texts, or batches of the teacher's inputs, each a mapping of tensors.
        by: ``activation``, ``gradient``, ``ablation`` or ``wanda``; see `head_importance`.
        tokens: Real tokens of the texts to read, at most, if not `HEAD_TOKENS`.
            Batches are read whole.

    Returns:
        Columns ``site``, ``layer``, ``head``, ``kv_group`` and ``importance``. Within a group some
        query heads can be dropped, or the group as a whole.

    Raises:
        BadInput: The criterion is unknown, or there is no data.
        Unsupported: The teacher cannot run on texts alone.
    """
    return measure_heads(teacher, data, by, tokens).table


def measure_heads(
    teacher: Teacher,
    data: Data,
    by: HeadsBy = "ablation",
    tokens: int | None = None,
    announce: Callable[[str], None] = lambda _: None,
    tell: Callable[[str], None] = lambda _: None,
) -> HeadScores:
    """Measure the scores of every attention head; see `head_table`.

    Args:
        teacher: The teacher.
        data: The data.
        by: The criterion.
        tokens: Maximum number of real tokens to read from texts.
        announce: Called with the progress.
        tell: Called with an estimate of time and memory if the measurement is costly.
    """
    if by not in HEAD_TOKENS:
        raise BadInput(f"by={by!r}: expected one of {', '.join(HEAD_TOKENS)}")
    given = _batches(teacher, data, tokens or HEAD_TOKENS[by])
    if isinstance(given, Reading):
        foretell_calibration(teacher, given.questions, Needs(heads_by=[by]), Room(), tell)
    plan = CalibrationPlan(heads_by=[by])
    return HeadScores.of(teacher, Calibration.measured(teacher, given, plan, announce), by)


def read_in(objectives: Iterable[Objective], teacher: Teacher) -> Questions:
    """Return the tokenised training data of a study.

    Raises:
        BadInput: No objective has data.
    """
    for objective in objectives:
        if isinstance(objective, Retention):
            return objective.parts(teacher).learnt
    raise BadInput("none of the study's objectives has data; give --texts FILE, one text a line")


def _batches(teacher: Teacher, data: Data, tokens: int) -> Iterable[Mapping[str, Tensor]]:
    if isinstance(data, Questions):
        return Reading(data.up_to(tokens))
    given: list[Any] = [] if isinstance(data, Examples) else list(data)
    if given and all(isinstance(one, Mapping) for one in given):
        return given
    return Reading(
        _questions(teacher, data if isinstance(data, Examples) else Texts.of(given), tokens)
    )


def _questions(teacher: Teacher, data: Examples, tokens: int) -> Questions:
    """Tokenise shuffled examples as a study does."""
    try:
        lesson = lesson_of(teacher)
    except Unsupported as error:
        raise Unsupported(
            f"{teacher.source}: a model for {teacher.task} needs more than texts; "
            f"give protege.search.head_table batches of its own inputs ({error})"
        ) from None
    some = data.split(train=tokens, selection=0, held_out=0).train
    return lesson.questions(teacher, some, Distillation().max_tokens).up_to(tokens)
