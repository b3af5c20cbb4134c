"""Start a full training from a deeper student, whose further layers are dropped on the way."""

from copy import deepcopy
from dataclasses import replace

from protege.objectives.distillation.progressive import (
    Progressive,
    Shrinking,
    first_holds_more,
    with_layers,
)
from protege.spaces import BadInput, Magnitude, Student, Teacher, Uniform
from protege.spaces.architecture.sizes import nearest
from protege.spaces.students.selection import pinned


def deepened(teacher: Teacher, student: Student, progressive: Progressive) -> Shrinking | None:
    """Return a deeper student with a student's own weights, or None if no layer was dropped.

    Its further layers are the teacher's, cut to the student's widths; their heads and neurons are
    those with the largest weights. Of the dropped layers the lower ones are taken first if not all
    of them are, and the upper ones go first: dropping from the top harms a trained encoder least
    (Sajjad et al., arXiv 2004.03844, section 5).

    Args:
        teacher: The model that the student was cut from.
        student: The student; its weights are copied.
        progressive: The schedule.

    Raises:
        BadInput: The student's layers are unknown, or its residual stream is rotated.
    """
    kept = student.kept
    if not kept.stacks:
        raise BadInput("progressive: the student's record does not name the layers that it keeps")
    if kept.turned:
        raise BadInput(
            "progressive: the student's residual stream is rotated, and its directions are not "
            "recorded, so that no layer of the teacher fits it; train without progressive"
        )
    depths, going = teacher.layout.depths, {}
    for stack in kept.stacks:
        own, total = kept.layers(stack), depths[stack]
        least = own[0] if first_holds_more(teacher.layout, stack) else -1
        gone = [number for number in range(total) if number not in own and number > least]
        count = max(0, nearest(total, progressive.start) - len(own))
        going[stack] = tuple(reversed(gone[:count]))
    if not any(going.values()):
        return None
    final = replace(
        student.architecture,
        layer_policy=Uniform(),
        width_policy=Magnitude(),
        healing="none",
    )
    every = with_layers(teacher, final, kept, going, None)
    deep = teacher.student_of(pinned(final, every), every)
    if student.embedder is not None and deep.embedder is not None:
        deep.embedder.projection = deepcopy(student.embedder.projection)
    found = Shrinking(deep, teacher, kept, going, progressive, student.copy)
    found.begin_from(student)
    return found
