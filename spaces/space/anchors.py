"""What a study begins with, before anything is known."""

from typing import TYPE_CHECKING

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.space.knobs import SIZES, Params, Value, value_of

if TYPE_CHECKING:
    from protege.spaces.space.space import SearchSpace

LADDER = (0.5, 0.25, 0.75)
"""Where anchors are between the smallest student and the teacher, as a share of the way."""

WIDTH = ("hidden_size", "num_attention_heads", "num_key_value_heads")
"""The width of the stream, and the sizes that may follow from it."""


def anchors(space: "SearchSpace") -> tuple[Architecture, ...]:
    """The baselines, the smallest student, and a ladder between it and the teacher.

    A rung of the ladder is the same share of the way up in every size but `hidden_size`, which
    stays the teacher's where anything else can shrink: all else is worth what the channels of the
    stream let through, so narrow students are beaten by shallow ones as fast.
    """
    teacher, students = space.baselines[0], space.members[len(space.baselines) :]
    if not students:
        return space.baselines
    usual = space.params(students[0])
    rungs = [_between(space, 0, usual)]
    width = {WIDTH[0]: teacher.hidden_size} if _shrink_elsewhere(students) else {}
    rungs += [{**_between(space, share, usual), **width} for share in LADDER]
    ladder = (space.nearest(rung, excluding=space.baselines) for rung in rungs)
    return tuple(dict.fromkeys((*space.baselines, *ladder)))


def _shrink_elsewhere(students: tuple[Architecture, ...]) -> bool:
    """Whether students of one width are told apart by more than their heads."""
    rest = [name for name in SIZES if name not in WIDTH]
    return len({tuple(value_of(one, name) for name in rest) for one in students}) > 1


def _between(space: "SearchSpace", share: float, params: Params) -> dict[str, Value]:
    """The values with every size moved to that share of the way from least to largest."""
    moved = dict(params)
    for knob in space.knobs:
        if knob.is_size:
            least, largest = int(knob.values[0]), int(knob.values[-1])
            moved[knob.name] = round(least + share * (largest - least))
    return moved
