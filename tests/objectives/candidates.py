"""Candidates of tiny teachers, as a search would try them."""

from protege.objectives import Candidate
from protege.spaces import Cache, Teacher


def half(teacher: Teacher, cache: Cache) -> Candidate:
    """The student of half the depth."""
    return Candidate(teacher, teacher.architecture.scaled(layers=0.5), cache)


def itself(teacher: Teacher, cache: Cache) -> Candidate:
    """The student that is all of the teacher."""
    return Candidate(teacher, teacher.architecture, cache)
