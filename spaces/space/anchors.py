"""The first architectures of a study, before the sampler has data."""

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.space.knobs import SIZES, Params, Value, value_of
from protege.spaces.space.members import Members

LADDER = (0.5, 0.25, 0.75)
"""Positions of anchors between the smallest student (0) and the teacher (1)."""

WIDTH = ("hidden_size", "num_attention_heads", "num_key_value_heads")
"""The hidden size, and the sizes that may follow from it."""


def anchors(space: Members) -> tuple[Architecture, ...]:
    """Return the baselines, the smallest student, and students between it and the teacher.

    Those in between interpolate every size except `hidden_size`, which stays the teacher's if any
    other size can shrink, because at the same speed shallow students beat narrow ones.
    """
    found = (space.nearest(rung, excluding=space.baselines) for rung in rungs(space))
    return tuple(dict.fromkeys((*space.baselines, *found)))


def rungs(space: Members) -> list[dict[str, Value]]:
    """Return the values of the knobs that the anchors between the baselines are nearest to."""
    teacher, students = space.baselines[0], space.representatives[len(space.baselines) :]
    if not students:
        return []
    usual = space.params(students[0])
    smallest = _between(space, 0, usual)
    others = [name for name in SIZES if name not in WIDTH]
    shrinks_elsewhere = len({tuple(value_of(one, name) for name in others) for one in students}) > 1
    width = {WIDTH[0]: teacher.hidden_size} if shrinks_elsewhere else {}
    return [smallest, *({**_between(space, share, usual), **width} for share in LADDER)]


def _between(space: Members, share: float, params: Params) -> dict[str, Value]:
    """Set every size to the given share of the way from its smallest to its largest value."""
    moved = dict(params)
    for knob in space.knobs:
        if knob.is_size:
            least, largest = int(knob.values[0]), int(knob.values[-1])
            moved[knob.name] = round(least + share * (largest - least))
    return moved
