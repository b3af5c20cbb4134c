"""Candidates of tiny teachers, as a search would try them."""

from typing import Any

from protege.objectives import Candidate, Distillation, Objective, Retention
from protege.objectives.candidate import Prepared
from protege.objectives.measurement import Measurement
from protege.objectives.quality.rungs import BestRung, CandidateDistillation
from protege.spaces import Cache, Teacher


def candidate(
    teacher: Teacher, cache: Cache, distillation: Distillation | None = None, **ratios: Any
) -> Candidate:
    """The student with these ratios to its teacher."""
    prepared = Prepared(teacher, cache, distillation)
    return Candidate(prepared, teacher.architecture.scaled(**ratios))


def half(teacher: Teacher, cache: Cache, distillation: Distillation | None = None) -> Candidate:
    """The student of half the depth."""
    return candidate(teacher, cache, distillation, layers=0.5)


def itself(teacher: Teacher, cache: Cache, distillation: Distillation | None = None) -> Candidate:
    """The student that is all of the teacher."""
    return candidate(teacher, cache, distillation)


def completed(given: Candidate, *judges: Objective) -> CandidateDistillation:
    """The distillation of a candidate, run to its end."""
    found = CandidateDistillation(given, judges or [Retention()])
    found.last()
    return found


def distilled(given: Candidate, *judges: Objective) -> BestRung:
    """The best rung of a candidate's distillation, by its retention unless others judge."""
    return completed(given, *judges).published


def retained(given: Candidate) -> Measurement:
    """The retention of a candidate's best rung."""
    return distilled(given).measurements["retention"]
