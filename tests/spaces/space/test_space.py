"""A search space lists what can be tried, finds the nearest of it, and nothing else."""

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protege.spaces import (
    Activation,
    Architecture,
    BadInput,
    Calibration,
    Contiguous,
    Ends,
    First,
    Greedy,
    Infeasible,
    Influence,
    LayerMap,
    SearchSpace,
    Uniform,
    Wanda,
)
from protege.spaces.space.ratios import Choice, Range, Ratios, spread
from tests.spaces.space.apart import apart

BERT = Architecture("bert", 6, 384, 12, 12, 32, 1536, 30522)
SMOL = Architecture("llama", 30, 576, 9, 3, 64, 1536, 49152)

WIDE = SearchSpace(
    layers=Range(0.3, 1.0),
    hidden=Choice(0.5, 0.75, 1.0),
    intermediate=Range(0.25, 1.0),
    layer_policy=Choice(Ends(), Uniform()),
    width_policy=Choice(Activation(), First()),
)
SPACES = {
    "bert": WIDE.of(BERT),
    "llama": SearchSpace(
        layers=Range(0.5, 1.0, 0.1),
        kv_heads=Choice(1 / 3, 1),
        heads=Range(1 / 3, 1),
        hidden=Range(0.5, 1),
    ).of(SMOL),
    "depth only": SearchSpace(layers=Range(0.2, 1.0)).of(SMOL),
}


@pytest.fixture(params=list(SPACES.values()), ids=list(SPACES), scope="module")
def space(request: pytest.FixtureRequest) -> SearchSpace:
    found: SearchSpace = request.param
    return found


def test_every_member_is_listed_once(space: SearchSpace) -> None:
    members = list(space)
    assert len(members) == len(set(members)) == len(space)
    assert len({member.key() for member in members}) == len(space)
    assert all(member in space for member in members)


def test_the_baselines_come_first_and_the_teacher_before_all(space: SearchSpace) -> None:
    assert space.members[:2] == space.baselines == space.anchors[:2]
    assert space.baselines[0] == space.teacher


def test_a_policy_that_follows_from_the_sizes_is_no_knob() -> None:
    space = SearchSpace(
        layers=Range(0.3, 1.0), hidden=Range(0.5, 1.0), intermediate=Range(0.25, 1.0)
    ).of(BERT)
    sizes = ["num_hidden_layers", "hidden_size", "intermediate_size"]
    # the declared student of the naive half's sizes is cut and healed otherwise
    assert [knob.name for knob in space.knobs] == [*sizes, "healing"]


def test_the_farthest_is_as_far_as_any_from_the_nearest_that_is_excluded(
    space: SearchSpace,
) -> None:
    excluded = space.members[: len(space) // 2 : 3]
    found = space.farthest(excluded)

    def nearest(member: Architecture) -> float:
        return min(apart(space, member, other) for other in excluded)

    assert found not in excluded
    assert all(nearest(member) <= nearest(found) + 1e-9 for member in space.members[::7])
    with pytest.raises(Infeasible, match="members of the space have been tried"):
        space.farthest(space.members)


def test_the_naive_half_is_half_of_everything_by_slicing() -> None:
    naive = SPACES["bert"].baselines[1]
    assert str(naive) == "3x192 heads 6 ffn 768 vocab 30522 (uniform, first)"
    assert str(SPACES["depth only"].baselines[1]).startswith("15x")


def test_ratios_give_whole_layers_and_snapped_widths() -> None:
    knobs = {knob.name: knob.values for knob in SearchSpace(layers=Range(0.3, 1)).of(SMOL).knobs}
    assert knobs["num_hidden_layers"] == tuple(range(9, 31))
    knobs = {knob.name: knob.values for knob in SPACES["bert"].knobs}
    assert knobs["hidden_size"] == (192, 288, 384)
    assert knobs["intermediate_size"] == tuple(range(384, 1537, 192))
    assert "num_attention_heads" not in knobs  # they follow the hidden size
    assert set(knobs["layer_policy"]) == {"uniform", "ends"}


def test_params_lead_back_to_their_member(space: SearchSpace) -> None:
    for member in space:
        assert space.at(space.params(member)) == member
        assert space.nearest(space.params(member)) == member


def test_a_member_that_is_not_there_is_infeasible(space: SearchSpace) -> None:
    knob = space.knobs[0]
    params = {**space.params(space.members[0]), knob.name: int(knob.values[0]) - 1}
    with pytest.raises(Infeasible, match="no member of the space; the nearest is"):
        space.at(params)


def test_nearest_leaves_out_what_is_excluded_and_then_takes_the_next(space: SearchSpace) -> None:
    params = space.params(space.members[-1])
    taken: list[Architecture] = []
    for _ in range(min(len(space), 30)):
        taken.append(space.nearest(params, excluding=taken))
    assert len(set(taken)) == len(taken)
    distances = [apart(space, space.members[-1], member) for member in taken]
    assert all(near <= far + 1e-9 for near, far in pairwise(distances))


def test_when_all_are_excluded_there_is_no_nearest(space: SearchSpace) -> None:
    with pytest.raises(Infeasible, match=rf"all {len(space)} members of the space have been tried"):
        space.nearest(space.params(space.members[0]), excluding=space.members)


def test_no_member_is_smaller_than_the_smallest(space: SearchSpace) -> None:
    for member in space:
        sizes = member.sizes()
        assert any(
            all(size <= sizes[name] for name, size in least.sizes().items())
            for least in space.smallest
        )


@pytest.mark.parametrize(
    ("declared", "step", "expected"),
    [
        (0.5, Fraction(1, 8), [0.5]),
        (Choice(1.0, 0.5, 0.5), Fraction(1, 8), [0.5, 1.0]),
        (Range(0.5, 1.0), Fraction(1, 8), [0.5, 0.625, 0.75, 0.875, 1.0]),
        (Range(0.3, 0.7), Fraction(1, 8), [0.3, 0.375, 0.5, 0.625, 0.7]),
        (Range(0.3, 0.9, 0.2), Fraction(1, 8), [0.3, 0.5, 0.7, 0.9]),
        (Range(0.3, 1.0, 0.2), Fraction(1, 8), [0.3, 0.5, 0.7, 0.9, 1.0]),
        (Range(0.3, 1.0, 0.2), Fraction(1, 30), [0.3, 0.5, 0.7, 0.9, 1.0]),
        (Range(0.3, 1.0), Fraction(1, 6), [1 / 3, 0.5, 2 / 3, 5 / 6, 1.0]),
        (Range(0.3, 0.5), Fraction(1, 30), [n / 30 for n in range(9, 16)]),
        (Range(1.0, 1.0), Fraction(1, 8), [1.0]),
    ],
)
def test_a_declaration_stands_for_these_ratios(
    declared: Ratios, step: Fraction, expected: list[float]
) -> None:
    name = "layers" if step.denominator in {6, 30} else "hidden"
    assert spread(name, declared, step) == pytest.approx(expected)


@given(low=st.floats(0.05, 1), high=st.floats(0.05, 1), layers=st.integers(1, 48))
def test_a_range_of_layers_has_the_whole_numbers_in_it(
    low: float, high: float, layers: int
) -> None:
    low, high = round(min(low, high), 3), round(max(low, high), 3)
    found = spread("layers", Range(low, high), Fraction(1, layers))
    first, last = Fraction(str(low)) * layers, Fraction(str(high)) * layers
    expected = [n for n in range(1, layers + 1) if first <= n <= last]
    assert [round(ratio * layers) for ratio in found] == expected


@pytest.mark.parametrize("knob", ["layers", "hidden", "heads", "kv_heads", "intermediate"])
@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (0, "expected a ratio above 0 and at most 1"),
        (1.5, "expected a ratio above 0 and at most 1"),
        (Choice(0.5, 2), "expected a ratio above 0 and at most 1"),
        (Range(0.0, 1.0), "expected a ratio above 0 and at most 1"),
        (Range(0.5, 1.0, 0), "expected a ratio above 0 and at most 1"),
        (Range(1.0, 0.5), "expected the smaller ratio first"),
        (Choice(), "expected one or more ratios"),
        ((0.5, 1.0), r"expected a number, Range\(0\.5, 1\.0\) or Choice\(0\.5, 1\.0\)$"),
        ((0.5, 1.0, 0.1), r"expected a number, Range\(0\.5, 1\.0, 0\.1\) or Choice\(0\.5, "),
        ([0.5, 1.0], r"expected a number, Choice\(0\.5, 1\.0\)$"),
        ((0.5,), r"expected a number, Choice\(0\.5\)$"),
        ([], r"expected a number, Choice\(\)$"),
        ("half", "expected a ratio above 0 and at most 1"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_by_its_knob(
    knob: str, declared: Any, message: str
) -> None:
    with pytest.raises(BadInput, match=rf"^{knob}.*{message}"):
        SearchSpace(**{knob: declared})


@pytest.mark.parametrize("multiple_of", [0, -8, 2.5, 8.0, "eight"])
def test_widths_are_multiples_of_a_whole_number(multiple_of: Any) -> None:
    with pytest.raises(BadInput, match=rf"multiple_of={multiple_of!r}: expected a whole number"):
        SearchSpace(multiple_of=multiple_of)


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ({"layer_policy": Choice()}, "expected one or more policies with distinct names"),
        ({"layer_policy": Choice(Ends(), Ends())}, "expected one or more policies with distinct"),
        ({"healing": Choice("none", "none")}, "expected one or more policies with distinct names"),
        ({"width_policy": [First()]}, r"expected one policy, or Choice\(First\(\)\)"),
        ({"layer_policy": (Ends(), First())}, r"expected one policy, or Choice\(Ends\(\), First"),
    ],
)
def test_policies_are_one_or_more_with_distinct_names(
    policies: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        SearchSpace(**policies)


@pytest.mark.parametrize("healing", ["sequentail", Choice("none", "twice")])
def test_a_way_of_healing_that_there_is_none_of_is_refused(healing: Any) -> None:
    told = r"healing='(sequentail|twice)': expected one of none, one-shot, sequential"
    with pytest.raises(BadInput, match=told):
        SearchSpace(healing=healing)
    with pytest.raises(BadInput, match=told):
        BERT.scaled(layers=0.5, healing="sequentail" if isinstance(healing, str) else "twice")  # type: ignore[arg-type]


def test_ways_of_healing_are_a_choice_of_the_search() -> None:
    space = SearchSpace(layers=Choice(0.5), healing=Choice("none", "one-shot", "sequential")).of(
        BERT
    )
    knob = next(knob for knob in space.knobs if knob.name == "healing")
    assert set(knob.values) == {"none", "one-shot", "sequential"}
    assert len({member.key() for member in space}) == len(space)


@pytest.mark.parametrize(
    ("space", "teacher"),
    [
        (SearchSpace(), SMOL),
        (SearchSpace(heads=0.5), BERT),
        (SearchSpace(layers=Choice(0.5), layer_policy=LayerMap([0, 1])), BERT),
        (SearchSpace(intermediate=0.999), BERT),
    ],
)
def test_a_space_without_students_is_refused(space: SearchSpace, teacher: Architecture) -> None:
    with pytest.raises(BadInput, match=r"has no student of .*; widen a range or add a policy"):
        space.of(teacher)


def test_policies_that_keep_the_same_layers_are_one_choice() -> None:
    same = LayerMap([0, 5], name="mine")
    space = SearchSpace(layers=Choice(1 / 3), layer_policy=Choice(Ends(), same)).of(BERT)
    assert sum(member.num_hidden_layers == 2 for member in space) == 1


MEASURED = SearchSpace(
    layers=Range(0.3, 1.0), layer_policy=Choice(Greedy(), Ends(), Influence()), width_policy=First()
).of(BERT)
SEEN = Calibration(
    {
        "encoder.ladder": torch.tensor([4, 1, 2, 3, 0]),
        "encoder.influence": torch.tensor([0.6, 0.2, 0.3, 0.4, 0.1, 0.5]),
    }
)


def test_policies_that_look_at_data_are_choices_of_their_own_before_they_do() -> None:
    for depth in (2, 3, 4, 5):
        members = [m for m in MEASURED if m.num_hidden_layers == depth and m.hidden_size == 384]
        assert [member.layer_policy.name for member in members] == ["greedy", "ends", "influence"]


def test_policies_that_have_seen_data_are_one_choice_where_they_keep_the_same() -> None:
    space = MEASURED.resolved(SEEN)
    kept = {
        (member.num_hidden_layers, member.layer_policy.name): BERT.layers_kept(
            member, member.layer_policy
        )
        for member in space
        if member.hidden_size == 384
    }
    assert kept[5, "greedy"] == ((0, 1, 2, 3, 5),)
    assert kept[2, "greedy"] == ((0, 5),)
    assert {key for key in kept if key[0] in {2, 5}} == {(2, "greedy"), (5, "greedy"), (5, "ends")}
    assert space.baselines == MEASURED.baselines
    assert len(space) == len({member.key() for member in space}) < len(MEASURED)


def declared(space: SearchSpace) -> dict[str, str]:
    """What a space was declared as, in words."""
    return {name: repr(value) for name, value in space.declaration().items()}


def test_what_data_show_is_no_part_of_a_declaration() -> None:
    space = MEASURED.resolved(SEEN)
    assert declared(space) == declared(MEASURED)
    assert space.resolved(None).members == space.members
    several = SearchSpace(layers=0.5, layer_policy=Choice(Greedy(), Ends())).of(BERT)
    assert declared(several.resolved(SEEN)) == declared(several)
    single = SearchSpace(layers=0.5, layer_policy=Greedy()).of(BERT)
    assert declared(single.resolved(SEEN)) == declared(single)


def test_a_space_of_policies_that_look_at_data_asks_for_them() -> None:
    assert any(member.looks_at_data for member in MEASURED)
    assert any(member.looks_at_data for member in MEASURED.resolved(SEEN))
    assert any(member.looks_at_data for member in SPACES["bert"])
    plain = SearchSpace(layers=Range(0.3, 1.0)).of(BERT, has_data=False)
    assert not any(member.looks_at_data for member in plain)
    assert plain.resolved(None).members == plain.members
    with pytest.raises(BadInput, match=r"'greedy': needs a calibration; pass calibration="):
        MEASURED.resolved(None)
    with pytest.raises(BadInput, match="'contiguous': a calibration without angles; pass"):
        SearchSpace(layers=0.5, layer_policy=Contiguous()).of(BERT).resolved(SEEN)


def test_an_unbound_space_asks_for_a_teacher() -> None:
    with pytest.raises(BadInput, match=r"no teacher yet: use space\.of\(teacher\)"):
        len(WIDE)


def test_a_space_says_what_was_declared_and_what_that_means() -> None:
    assert repr(SearchSpace(layers=Range(0.3, 1.0))) == "SearchSpace(layers=Range(0.3, 1.0))"
    bound = repr(SearchSpace(layers=Choice(0.5)).of(BERT))
    chosen = "layer_policy=Closest(), width_policy=Surgeon(), healing='sequential'"
    assert bound.startswith(
        f"SearchSpace(layers=Choice(0.5), {chosen}): 3 students of 6x384 heads 12"
    )
    assert "num_hidden_layers 3 6" in bound


def test_equal_declarations_are_recognised_as_equal() -> None:
    first, second = (SearchSpace(layers=Range(0.3, 1), width_policy=Wanda()) for _ in range(2))
    assert first.of(BERT).declaration() == second.of(SMOL).declaration()
    assert first.declaration() != WIDE.declaration()
