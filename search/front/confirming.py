"""An exported student measured again, from its files."""

from collections.abc import Sequence
from pathlib import Path

from protege.objectives import Candidate, Latency, Objective, Retention
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.latency import Checkpoint, compare
from protege.objectives.latency.models import Model
from protege.spaces import Teacher
from protege.spaces.students.manifest import kept_tokens


def confirmed(objectives: Sequence[Objective], own: Candidate, folder: Path) -> dict[str, float]:
    """Each objective's figure for the student as it lies in a folder.

    Of retention also the one on examples that the search never saw, as ``unseen_retention``; of a
    latency the ``speedup`` too: student and teacher are timed in one run, and the latency is told
    on the scale of the teacher's time in the study.

    Args:
        objectives: What is measured.
        own: The teacher as a candidate.
        folder: Where the student is.
    """
    figures: dict[str, float] = {}
    for objective in objectives:
        if isinstance(objective, Retention):
            figures |= _retained(objective, own, folder)
        elif isinstance(objective, Latency):
            models: list[Model] = [own.blueprint, Checkpoint.at(folder)]
            plan = objective.plan.with_samples(objective.percentile)
            teacher, student = compare(models, objective.workload, objective.target, plan)
            known = objective.measure(own)  # from the cache: the study's own scale
            share = student.over(teacher, objective.percentile)
            figures[objective.name] = share * known.value
            figures.setdefault("speedup", 1 / student.ratio)  # the first latency's
    return figures


def _retained(retention: Retention, own: Candidate, folder: Path) -> dict[str, float]:
    """On the examples that the search judged on, and on those that it never saw."""
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
