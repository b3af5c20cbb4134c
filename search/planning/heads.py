"""Measure how much each attention head of a teacher matters."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd
from torch import Tensor

from protege.objectives import Distillation, Examples, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.search.planning.calibrating import CalibrationBatches
from protege.search.planning.calibration_cost import check_calibration_cost
from protege.search.planning.needs import Needs
from protege.search.records.heads import HEAD_TOKENS, HeadScores
from protege.spaces import BadInput, Calibration, Teacher, Unsupported
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.calibration.blocks import Room
from protege.spaces.calibration.plan import CalibrationPlan

Data = Examples | TaskInputs | Iterable[str] | Iterable[Mapping[str, Tensor]]
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
    if isinstance(given, CalibrationBatches):
        check_calibration_cost(teacher, given.inputs, Needs(heads_by=[by]), Room.here(), tell)
    plan = CalibrationPlan(heads_by=[by])
    return HeadScores.of(teacher, Calibration.measured(teacher, given, plan, announce), by)


def _batches(teacher: Teacher, data: Data, tokens: int) -> Iterable[Mapping[str, Tensor]]:
    if isinstance(data, TaskInputs):
        return CalibrationBatches(data.up_to(tokens))
    given: list[Any] = [] if isinstance(data, Examples) else list(data)
    if given and all(isinstance(one, Mapping) for one in given):
        return given
    return CalibrationBatches(
        _questions(teacher, data if isinstance(data, Examples) else Texts.of(given), tokens)
    )


def _questions(teacher: Teacher, data: Examples, tokens: int) -> TaskInputs:
    """Tokenise shuffled examples as a study does."""
    try:
        task = distillation_task(teacher)
    except Unsupported as error:
        raise Unsupported(
            f"{teacher.source}: a model for {teacher.task} needs more than texts; "
            f"give protege.search.head_table batches of its own inputs ({error})"
        ) from None
    some = data.split(train=tokens, selection=0, held_out=0).train
    return task.inputs(teacher, some, Distillation(data).max_tokens).up_to(tokens)
