"""The boxes of a space hold what scaling by every combination of ratios gives, in its order."""

from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protege.spaces import (
    Activation,
    Architecture,
    BadInput,
    Choice,
    Ends,
    First,
    Greedy,
    Infeasible,
    LayerMap,
    Range,
    Rotation,
    SearchSpace,
    Surgeon,
    Teacher,
    Uniform,
)
from protege.spaces.architecture.sizes import RATIOS
from protege.spaces.space.ratios import spread
from tests.zoo import teacher_of

TEACHERS = {
    "bert": "bert-sentences",
    "groups": "llama-causal-grouped",
    "narrow embedding": "electra-feature-extraction",
    "first layer stays": "modernbert-feature-extraction",
    "two stacks": "t5-text2text-generation",
    "experts": "qwen3_moe-text-generation",
    "feed-forward in multiples": "dinov2-image-classification",
}


@st.composite
def declared(draw: st.DrawFn, teacher: Teacher) -> SearchSpace:
    """Draw a space with students of that teacher."""
    own = teacher.architecture
    names = [n for n, size in RATIOS.items() if size in teacher.family.knobs and getattr(own, size)]
    ratio = st.sampled_from([0.2, 0.4, 0.5, 0.75, 0.9, 1.0])
    ratios = st.one_of(
        st.lists(ratio, min_size=1, max_size=3).map(lambda some: Choice(*some)),
        st.tuples(ratio, ratio).map(sorted).map(lambda ends: Range(*ends)),
    )
    chosen = draw(st.sets(st.sampled_from(names), min_size=1, max_size=3))
    given: dict[str, Any] = {name: draw(ratios) for name in sorted(chosen)}
    given["layer_policy"] = draw(
        st.sampled_from(
            [
                Greedy(),
                Choice(Ends(), Uniform(), First()),
                Choice(Greedy(), LayerMap([0, 2]), Ends()),
                LayerMap([1, 2], [0, 1, 2], name="mine"),
            ]
        )
    )
    given["width_policy"] = draw(
        st.sampled_from([Surgeon(), Choice(First(), Activation()), Choice(Rotation(), Surgeon())])
    )
    given["healing"] = draw(st.sampled_from(["none", "sequential", Choice("sequential", "none")]))
    space = SearchSpace(**given, multiple_of=draw(st.sampled_from([1, 4, 8])))
    try:
        return space.of(teacher)
    except BadInput:  # nothing but the teacher itself
        return SearchSpace(layers=Choice(0.5)).of(teacher)


def each(space: SearchSpace, teacher: Teacher) -> list[Architecture]:
    """List the members by scaling the teacher by every combination of ratios."""
    own = teacher.architecture
    whole = {"layers", "decoder_layers", "experts"}
    lists = [
        spread(
            name,
            getattr(space, name),
            Fraction(1, getattr(own, size) or 1) if name in whole else Fraction(1, 8),
        )
        for name, size in RATIOS.items()
    ]
    found = dict.fromkeys(space.baselines)
    for ratios in product(*lists):
        try:
            given: Any = dict(zip(RATIOS, ratios, strict=True))
            shape = own.scaled(multiple_of=space.multiple_of, **given)
        except Infeasible:
            continue
        found |= dict.fromkeys(
            one for one in under_policies(space, own, shape) if one != own and teacher.can_be(one)
        )
    return list(found)


def under_policies(
    space: SearchSpace, own: Architecture, shape: Architecture
) -> list[Architecture]:
    """List a shape under the declared policies; those that keep the same layers count once."""
    kept, found = set(), []
    layer_policies, width_policies, healings = (
        one.values if isinstance(one, Choice) else (one,)
        for one in (space.layer_policy, space.width_policy, space.healing)
    )
    for policy in layer_policies:
        try:
            layers = own.layers_kept(shape, policy)
        except Infeasible:
            continue
        if policy.is_resolved and layers in kept:
            continue
        if policy.is_resolved:
            kept.add(layers)
        found += [
            own.with_policies(shape, policy, width, healing)
            for width, healing in product(width_policies, healings)
        ]
    return found


@pytest.mark.parametrize("kind", TEACHERS)
@given(data=st.data())
@settings(max_examples=15)
def test_a_space_has_all_students_that_scaling_gives(kind: str, data: st.DataObject) -> None:
    teacher = teacher_of(TEACHERS[kind])
    space = data.draw(declared(teacher))
    expected = each(space, teacher)
    assert list(space) == expected
    assert len(space) == len(expected)
    assert all(member in space for member in expected)
