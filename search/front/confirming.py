"""Confirm a student: measure it again from its exported files."""

from collections.abc import Sequence
from pathlib import Path

from protege.objectives import Candidate, Latency, Objective, Retention
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.latency import Checkpoint, compare
from protege.objectives.latency.models import Model
from protege.spaces import Teacher
from protege.spaces.files.manifest import kept_tokens


def confirmed(objectives: Sequence[Objective], own: Candidate, folder: Path) -> dict[str, float]:
    """Measure each objective on the exported student.

    Retention is also measured on examples that the search never saw, as ``unseen_retention``. A
    latency also gives ``speedup``: student and teacher are timed in one run, and the ratio is
    multiplied by the teacher's time in the study.

    Args:
        objectives: The objectives of the study.
        own: The teacher as a candidate.
        folder: The folder of the exported student.

    Returns:
        Values by name.
    """
    figures: dict[str, float] = {}
    for objective in objectives:
        if isinstance(objective, Retention):
            figures |= _retained(objective, own, folder)
        elif isinstance(objective, Latency):
            models: list[Model] = [own.blueprint, Checkpoint.at(folder)]
            plan = objective.plan.with_samples(objective.percentile)
            teacher, student = compare(models, objective.workload, objective.target, plan)
            known = objective.measure(own)  # cached: the teacher's time in the study
            share = student.over(teacher, objective.percentile)
            figures[objective.name] = share * known.value
            figures.setdefault("speedup", 1 / student.ratio)  # of the first latency
    return figures


def _retained(retention: Retention, own: Candidate, folder: Path) -> dict[str, float]:
    """Measure retention on the examples of the search and on unseen ones."""
    loaded = Teacher.load(folder, task=own.teacher.task)
    kept = kept_tokens(folder)
    spelling = (
        None if kept is None else Spelling.of(own.teacher, loaded.model, loaded.tokenizer, kept)
    )
    module = loaded.embedder() or loaded.model
    return {
        name: retention.judge(module, own, spelling, held_out=unseen).value
        for name, unseen in ((retention.name, False), (f"unseen_{retention.name}", True))
    }
