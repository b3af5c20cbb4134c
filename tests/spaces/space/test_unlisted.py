"""A space that is not listed answers as the same space does that is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protege.spaces import Architecture, BadInput, Infeasible, SearchSpace
from protege.spaces.space.anchors import rungs
from protege.spaces.space.knobs import POLICIES, Params
from tests.spaces.space.apart import apart
from tests.spaces.space.test_boxes import TEACHERS, declared
from tests.zoo import teacher_of


@st.composite
def pairs(draw: st.DrawFn) -> tuple[SearchSpace, SearchSpace]:
    """Draw a space, listed and not."""
    space = draw(declared(teacher_of(draw(st.sampled_from([*TEACHERS.values()])))))
    return space, replace(space, listed=0)


def params_near(space: SearchSpace, data: st.DataObject) -> Params:
    """Draw values of the knobs, those of sizes between those of members."""
    return {
        knob.name: data.draw(
            st.integers(int(knob.values[0]), int(knob.values[-1]))
            if knob.is_size
            else st.sampled_from(knob.values)
        )
        for knob in space.knobs
    }


def distance(space: SearchSpace, params: Params, member: Architecture) -> float:
    total = 0.0
    for knob in space.knobs:
        a, b = params[knob.name], space.params(member)[knob.name]
        if isinstance(a, int) and isinstance(b, int):
            total += abs(a - b) / (int(knob.values[-1]) - int(knob.values[0]))
        else:
            total += a != b
    return total


@given(pairs())
def test_both_have_the_same_members_and_dimensions(pair: tuple[SearchSpace, SearchSpace]) -> None:
    listed, other = pair
    assert list(other) == list(listed)
    assert len(other) == len(listed)
    assert {knob.name: {*knob.values} for knob in other.knobs} == {
        knob.name: {*knob.values} for knob in listed.knobs
    }
    assert {*other.smallest} == {*listed.smallest}
    assert other.least_vocab_size == min(one.vocab_size for one in listed)
    assert other.looks_at_data == any(one.looks_at_data for one in listed)
    assert all(other.by_key[key] == member for key, member in listed.by_key.items())
    assert {*other.by_key} == {*listed.by_key}
    with pytest.raises(BadInput, match="members are too many to list"):
        _ = other.members


@given(pairs(), st.data())
def test_no_member_is_nearer_than_the_nearest(
    pair: tuple[SearchSpace, SearchSpace], data: st.DataObject
) -> None:
    listed, other = pair
    params = params_near(listed, data)
    excluded = data.draw(st.sets(st.sampled_from(listed.members), max_size=len(listed) - 1))
    expected = listed.nearest(params, excluded)
    found = other.nearest(params, excluded)
    assert found in listed
    assert found not in excluded
    assert distance(listed, params, found) == pytest.approx(distance(listed, params, expected))
    assert other.at(other.params(found)) == found


@given(pairs(), st.data())
def test_the_nearest_has_the_values_that_are_held(
    pair: tuple[SearchSpace, SearchSpace], data: st.DataObject
) -> None:
    one = data.draw(st.sampled_from(pair[0].members))
    names = data.draw(st.sets(st.sampled_from([knob.name for knob in pair[0].knobs])))
    held = {name: value for name, value in pair[0].params(one).items() if name in names}
    params = params_near(pair[0], data)
    found = [space.nearest(params, holding=held) for space in pair]
    own = [pair[0].params(member) for member in found]
    assert all(held.items() <= values.items() for values in own)
    near, far = (distance(pair[0], params, member) for member in found)
    assert near == pytest.approx(far)


@given(pairs())
def test_the_anchors_are_the_same_but_for_ties(pair: tuple[SearchSpace, SearchSpace]) -> None:
    listed, other = pair
    assert other.anchors[: len(other.baselines)] == listed.baselines
    assert {*other.anchors} <= {*listed}
    sizes = {knob.name for knob in listed.knobs if knob.is_size}
    mine, theirs = (
        [{name: rung[name] for name in sizes} for rung in rungs(space)] for space in pair
    )
    assert mine == theirs
    for space in pair:
        near = {space.nearest(rung, excluding=space.baselines) for rung in rungs(space)}
        assert {*space.anchors} == {*space.baselines} | near


@given(pairs())
def test_representatives_show_what_all_members_do(pair: tuple[SearchSpace, SearchSpace]) -> None:
    listed, other = pair
    assert {*other.representatives} <= {*listed}
    own = listed.baselines[0]

    def cuts(members: tuple[Architecture, ...], *policies: str) -> set[tuple[object, ...]]:
        """What is cut, with the policies that cut it."""
        return {
            (size, *(getattr(one, policy) for policy in policies))
            for one in members
            for size, value in one.sizes().items()
            if value < own.sizes()[size]
        }

    for policies in (("layer_policy",), ("width_policy", "healing"), POLICIES):
        assert {(getattr(one, p) for p in policies) for one in other.representatives}
        assert cuts(other.representatives, *policies[:2]) == cuts(listed.members, *policies[:2])

    def shallowest(members: tuple[Architecture, ...]) -> dict[object, int]:
        depth: dict[object, int] = {}
        for one in members:
            least = depth.get(one.layer_policy, one.num_hidden_layers)
            depth[one.layer_policy] = min(least, one.num_hidden_layers)
        return depth

    assert shallowest(other.representatives) == shallowest(listed.members)


def weights(one: Architecture) -> int:
    """A count of weights that grows with every size."""
    inner = one.intermediate_size + one.num_experts * one.moe_intermediate_size
    layers = one.num_hidden_layers + one.num_decoder_layers
    attention = (one.num_attention_heads + one.num_key_value_heads) * one.head_dim
    return one.hidden_size * (one.vocab_size + layers * (attention + inner))


@given(pairs())
def test_the_largest_student_is_a_representative(pair: tuple[SearchSpace, SearchSpace]) -> None:
    own = pair[0].baselines[0]
    most, found = (
        max((weights(one) for one in space.representatives if one != own), default=0)
        for space in pair
    )
    assert found == most


@given(pairs(), st.integers(0, 99))
def test_draws_and_neighbours_are_members(pair: tuple[SearchSpace, SearchSpace], seed: int) -> None:
    listed, other = pair
    drawn = other.drawn(20, np.random.RandomState(seed))
    assert drawn == other.drawn(20, np.random.RandomState(seed))
    assert 0 < len(drawn) == len({*drawn}) <= 20
    assert {*drawn} <= {*listed}
    for one in drawn[:3]:
        near = other.around(one)
        assert one in near
        assert {*near} <= {*listed}
        same = [m for m in listed if m.sizes() == one.sizes() and changed_policies(m, one) < 2]
        assert {*same} <= {*near}


def changed_policies(one: Architecture, other: Architecture) -> int:
    """Count the policies in which two members differ."""
    return sum(getattr(one, policy) != getattr(other, policy) for policy in POLICIES)


@pytest.mark.parametrize("choose", [SearchSpace.farthest, None])
@given(pair=pairs())
@settings(max_examples=5)
def test_every_member_is_found_before_the_space_is_exhausted(
    choose: Callable[..., Architecture] | None, pair: tuple[SearchSpace, SearchSpace]
) -> None:
    other = pair[1]
    params = other.params(other.baselines[-1])
    found: list[Architecture] = []
    params = other.params(other.baselines[-1])
    while len(found) < min(len(other), 200):
        found.append(choose(other, found) if choose else other.nearest(params, found))
    assert len({*found}) == len(found)
    with pytest.raises(Infeasible, match=f"all {len(other)} members of the space have been tried"):
        other.nearest(params, [*other])


@given(pairs(), st.data())
def test_the_farthest_is_farthest_among_those_given(
    pair: tuple[SearchSpace, SearchSpace], data: st.DataObject
) -> None:
    listed, other = pair
    some = data.draw(st.lists(st.sampled_from(listed.members), min_size=2, unique=True))
    excluded = [listed.members[0]]
    left = [one for one in some if one not in excluded]
    found = other.farthest(excluded, some)
    assert found in left
    most = max(apart(listed, one, excluded[0]) for one in left)
    assert apart(listed, found, excluded[0]) == pytest.approx(most)
