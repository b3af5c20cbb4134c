"""A study begins with its baselines, the smallest student, and a ladder between."""

from dataclasses import replace

import pytest

from protege.spaces import Choice, First, Range, SearchSpace, Uniform
from tests.spaces.space.test_space import BERT, SPACES


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_study_begins_with_the_smallest_and_a_ladder_to_the_teacher(space: SearchSpace) -> None:
    assert len(set(space.anchors)) == len(space.anchors)
    assert set(space.anchors) <= set(space)
    ladder = space.anchors[2:]
    assert ladder[0] in space.smallest
    for name, value in space.params(ladder[0]).items():
        if isinstance(value, str):  # the declared policies, not a baseline's
            assert {space.params(one)[name] for one in ladder} == {value}
            continue
        sizes = [int(space.params(one)[name]) for one in ladder]
        assert (
            sizes[0]
            <= sizes[2]
            <= sizes[1]
            <= sizes[3]
            <= int(space.params(space.anchors[0])[name])
        )


def test_the_ladder_has_equal_steps() -> None:
    widths = [one.intermediate_size for one in SPACES["bert"].anchors[2:]]
    assert widths == [384, 960, 768, 1152]


def test_the_ladder_keeps_the_width_of_the_stream_where_anything_else_shrinks() -> None:
    widths = [one.hidden_size for one in SPACES["bert"].anchors[2:]]
    assert widths == [192, 384, 384, 384]
    narrow = SearchSpace(hidden=Range(0.25, 1.0)).of(BERT)
    smallest, half, quarter, most = (one.hidden_size for one in narrow.anchors[2:])
    assert 96 == smallest < quarter < half < most < 384


def test_a_space_of_hardly_any_has_no_more_anchors_than_members() -> None:
    naive = SearchSpace(0.5, hidden=0.5, intermediate=0.5, layer_policy=Uniform())
    plain = replace(naive, width_policy=First(), healing="none").of(BERT)
    assert plain.anchors == plain.baselines == plain.members
    few = SearchSpace(layers=Choice(0.5)).of(BERT)
    assert set(few.anchors) == set(few)
