"""Compute what all trials share, before the first student."""

from dataclasses import replace

from protege.objectives.candidate import Prepared
from protege.search.planning.calibrating import calibrated
from protege.search.planning.needs import Needs, cuts_heads
from protege.search.records.heads import HeadScores
from protege.spaces import SearchSpace


def completed(prepared: Prepared, space: SearchSpace) -> Prepared:
    """Return the record with the calibration that the space needs, from the cache if it is there.

    Raises:
        BadInput: This machine has too little memory.
    """
    if prepared.distillation is None or not space.looks_at_data:
        return prepared
    with prepared.stopwatch.phase("calibrate"):
        own = prepared.teacher.architecture
        learnt, needs = prepared.data.learnt, Needs.of(space, own)
        found = calibrated(prepared.teacher, learnt, needs, prepared.cache, prepared.stopwatch)
    return replace(prepared, calibration=found)


def compute_outputs(prepared: Prepared) -> None:
    """Compute the teacher's outputs that every trial needs, so that the cache has them.

    Raises:
        DiskFull: The disk is full.
    """
    if prepared.distillation is None:
        return
    settings, data = prepared.settings, prepared.data
    data.outputs(data.selected)
    if settings.steps and settings.answers == "cached" and not settings.hidden_losses:
        data.outputs(data.learnt, settings.tuned(data.task))


def head_scores(prepared: Prepared, space: SearchSpace) -> list[HeadScores]:
    """Return the importance of the teacher's heads, if students have fewer of them."""
    found = prepared.calibration
    if found is None or not cuts_heads(space, prepared.teacher):
        return []
    needs = Needs.of(space, prepared.teacher.architecture)
    return [HeadScores.of(prepared.teacher, found, by) for by in needs.heads_by]
