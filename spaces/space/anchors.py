"""The first architectures of a study, before the sampler has data."""

from collections.abc import Sequence

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.space.boxes import Factor, SizeTuple
from protege.spaces.space.knobs import SIZES, Params, Value, value_of
from protege.spaces.space.members import Members

LADDER = (0.5, 0.25, 0.75)
"""Positions of anchors between the smallest student (0) and the teacher (1)."""

FAMILY = "model_type"

WIDTH = ("hidden_size", "num_attention_heads", "num_key_value_heads")
"""The hidden size, and the sizes that may follow from it."""


def anchors(space: Members) -> tuple[Architecture, ...]:
    """Return the baselines, the smallest student, and students between it and the teacher.

    Those in between interpolate every size except `hidden_size`, which stays the teacher's if any
    other size can shrink, because at the same speed shallow students beat narrow ones. Of every
    other family they have the smallest student and one of half the way to its largest.
    """
    own = {} if not space.other_boxes else {FAMILY: space.baselines[0].model_type}
    found = [space.nearest(rung, space.baselines, own) for rung in rungs(space)]
    others = [
        box.at([_value(f, at) for f in box.factors]) for box in space.other_boxes for at in (0, 0.5)
    ]
    return tuple(dict.fromkeys((*space.baselines, *found, *others)))


def _value(factor: Factor, share: float) -> SizeTuple:
    """Return the value at a share of the way from a factor's smallest to its largest."""
    ordered = sorted(factor.values)
    return ordered[int(share * (len(ordered) - 1))]


def rungs(space: Members) -> list[dict[str, Value]]:
    """Return the values of the knobs that the anchors between the baselines are nearest to."""
    teacher = space.baselines[0]
    students = [
        one
        for one in space.representatives[len(space.baselines) :]
        if one.model_type == teacher.model_type
    ]
    if not students:
        return []
    usual = space.params(students[0])
    own = [*space.baselines, *students]
    smallest = _between(space, own, 0, usual)
    others = [name for name in SIZES if name not in WIDTH]
    shrinks_elsewhere = len({tuple(value_of(one, name) for name in others) for one in students}) > 1
    width = {WIDTH[0]: teacher.hidden_size} if shrinks_elsewhere else {}
    return [smallest, *({**_between(space, own, share, usual), **width} for share in LADDER)]


def _between(
    space: Members, own: Sequence[Architecture], share: float, params: Params
) -> dict[str, Value]:
    """Set every size to the given share of the way from its smallest to its largest value."""
    moved = dict(params)
    for knob in space.knobs:
        if knob.is_size:
            values = [int(getattr(one, knob.name)) for one in own]
            least, largest = min(values), max(values)
            moved[knob.name] = round(least + share * (largest - least))
    return moved
