"""Weights to start from that have learnt already: those of a finished student on the front."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from protege.search.results import artifact
from protege.search.trial import Trial
from protege.search.weights import belongs, damage
from protege.spaces import Architecture, Calibration, SearchSpace, Student, Teacher
from protege.spaces.inheriting import inherited, nearest

_log = logging.getLogger("protege")


def finished(
    folder: Path, front: Iterable[Trial], space: SearchSpace, teacher: Teacher
) -> dict[Path, Architecture]:
    """The students of a run whose weights are kept, by where they are.

    The teacher's own trial is not among them: it has learnt nothing.

    Args:
        folder: The run folder.
        front: The trials on the front; of no others are weights kept.
        space: What they are members of.
        teacher: Their teacher.
    """
    own = teacher.architecture.key()
    stored = {artifact(folder, one.number): one for one in front if one.key != own}
    return {
        path: space.by_key[one.key]
        for path, one in stored.items()
        if one.key in space.by_key and belongs(path, one.weights)
    }


def warm(
    teacher: Teacher,
    space: SearchSpace,
    stored: Mapping[Path, Architecture],
    architecture: Architecture,
    calibration: Calibration | None,
) -> Student | None:
    """The student of that architecture with the weights of the nearest one it is nested in.

    Args:
        teacher: The teacher of all of them.
        space: Says how far apart two students are.
        stored: Finished students by their folders.
        architecture: Of the new one.
        calibration: What is known of the teacher's units, where the student is made by it.

    Returns:
        The student, not healed; none where it is nested in none of them.
    """
    near = nearest(space, architecture, stored)
    if not near:
        return None
    # which units it keeps is settled by the teacher: whoever passes weights on, it is one student
    plain = teacher.student(replace(architecture, healing="none"), calibration)
    wanted = replace(plain.architecture, healing=architecture.healing)
    for folder in near:
        if damaged := damage(folder):
            _log.warning("no student starts from these weights: %s", damaged)
            continue
        with suppress(FileNotFoundError):  # it has left the front since
            heir = inherited(teacher, folder, wanted, plain.kept)
            if heir is not None:
                return heir
    return None
