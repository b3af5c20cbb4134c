"""Search spaces with other families: members, knobs, anchors and neighbours."""

from typing import Any

import pytest

from protege.spaces import BadInput, Choice, OtherFamily, Range, SearchSpace
from tests.tiny import CASES

OTHERS = (
    OtherFamily("convbert", layers=Range(0.25, 1.0), hidden=Choice(0.5, 1.0)),
    OtherFamily("static", hidden=Choice(0.25, 0.5, 1.0)),
)


def space(**changes: Any) -> SearchSpace:
    given: dict[str, Any] = {"layers": Range(0.25, 1.0), "multiple_of": 4, "others": OTHERS}
    return SearchSpace(**(given | changes)).of(CASES["bert-sentences"].teacher())


def test_members_of_all_families_are_found_by_key_and_by_values() -> None:
    own = space()
    families = [one.model_type for one in own]
    assert families.count("convbert") == 4 * 2
    assert families.count("static") == 3
    assert len(own) == len({*own}) == len(families)
    for member in own:
        assert own.by_key[member.key()] == member
        assert own.at(own.params(member)) == member
        assert member in own


def test_a_space_that_is_not_listed_has_the_same_members() -> None:
    listed, other = space(), space(listed=3)
    assert not other.is_listed
    assert {*other} == {*listed}
    for member in listed:
        assert other.by_key[member.key()] == member
        assert other.at(other.params(member)) == member
        assert all(one in other for one in other.around(member))
    assert {one.model_type for one in other.representatives} == {"bert", "convbert", "static"}


def test_family_is_a_dimension_of_the_search() -> None:
    (family,) = (knob for knob in space().knobs if knob.name == "model_type")
    assert family.values == ("bert", "convbert", "static")
    assert not family.is_size


def test_a_study_begins_with_two_students_of_every_family() -> None:
    own, alone = space(), space(others=())
    before = [one.key() for one in alone.anchors]
    assert [one.key() for one in own.anchors[: len(before)]] == before
    added = [(one.model_type, one.num_hidden_layers, one.hidden_size) for one in own.anchors]
    assert added[len(before) :] == [
        ("convbert", 1, 12),
        ("convbert", 2, 12),
        ("static", 0, 8),
        ("static", 0, 12),
    ]


def test_a_space_may_have_other_families_only() -> None:
    own = space(layers=1.0)
    assert {one.model_type for one in own} == {"bert", "convbert", "static"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"others": "convbert"}, r"others='convbert'.*\[OtherFamily"),
        ({"others": [OtherFamily("fnet"), OtherFamily("fnet")]}, "each family once"),
        ({"others": [OtherFamily("static", layers=0.5)]}, "'static' has no layers"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        space(**given)


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(BadInput, match=r"'convnet': expected one of convbert"):
        OtherFamily("convnet")
