import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protege.spaces import (
    BadInput,
    Calibration,
    Contiguous,
    Ends,
    First,
    Greedy,
    Infeasible,
    Influence,
    LayerMap,
    Uniform,
)
from protege.spaces.architecture.policies import LayerPolicy
from protege.spaces.students.selection import strongest

MEASURED: list[LayerPolicy] = [Contiguous(), Influence(), Greedy()]
COUNTED: list[LayerPolicy] = [Uniform(), Ends(), First(), *MEASURED]
DEPTHS = st.integers(1, 60).flatmap(lambda total: st.tuples(st.just(total), st.integers(1, total)))


@pytest.mark.parametrize("policy", COUNTED, ids=lambda policy: policy.name)
@given(depths=DEPTHS)
def test_layers_are_distinct_ascending_and_as_many_as_asked(
    policy: LayerPolicy, depths: tuple[int, int]
) -> None:
    total, count = depths
    layers = policy.layers(total, count)
    assert len(layers) == count
    assert list(layers) == sorted(set(layers))
    assert set(layers) <= set(range(total))
    assert policy.layers(total, total) == tuple(range(total))


@pytest.mark.parametrize("policy", COUNTED, ids=lambda policy: policy.name)
def test_no_policy_has_more_layers_than_the_teacher(policy: LayerPolicy) -> None:
    with pytest.raises(Infeasible, match="7 layers asked of a teacher of 6; keep at most 6"):
        policy.layers(6, 7)


def found_of(**totals: int) -> Calibration:
    """What might be measured of stacks of so many layers."""
    importance = {}
    for stack, total in totals.items():
        generator = torch.Generator().manual_seed(total)
        angles = torch.rand(total + 1, total + 1, generator=generator)
        importance[f"{stack}.angles"] = angles
        importance[f"{stack}.influence"] = angles[0, :total]
        importance[f"{stack}.ladder"] = torch.randperm(total, generator=generator)[: total - 1]
    return Calibration(importance)


@pytest.mark.parametrize("policy", MEASURED, ids=lambda policy: policy.name)
@given(depths=DEPTHS)
def test_a_policy_that_has_seen_data_has_a_choice_of_every_depth(
    policy: LayerPolicy, depths: tuple[int, int]
) -> None:
    total, count = depths
    resolved = policy.resolved(found_of(encoder=3, decoder=total))
    layers = resolved.layers(total, count, "decoder")
    assert len(layers) == count
    assert list(layers) == sorted(set(layers))
    assert set(layers) <= set(range(total))


@pytest.mark.parametrize("policy", MEASURED, ids=lambda policy: policy.name)
def test_a_policy_sees_data_once(policy: LayerPolicy) -> None:
    resolved = policy.resolved(found_of(decoder=6))
    assert resolved.is_resolved
    assert not policy.is_resolved
    assert resolved.resolved(None) is resolved.resolved(found_of(decoder=9)) is resolved
    assert len({resolved, policy.resolved(found_of(decoder=6)), policy}) == 2
    assert repr(resolved) == repr(policy)
    assert resolved.name == policy.name


def test_a_policy_drops_what_was_found_worth_least() -> None:
    angles = torch.ones(5, 5)
    angles[1, 2], angles[2, 4], angles[0, 3] = 0.1, 0.2, 0.3
    found = {
        "decoder.angles": angles,
        "decoder.influence": torch.tensor([0.9, 0.2, 0.7, 0.1]),
        "decoder.ladder": torch.tensor([2, 0, 1]),
    }
    kept = {
        policy.name: [
            policy.resolved(Calibration(found)).layers(4, count, "decoder") for count in (3, 2, 1)
        ]
        for policy in MEASURED
    }
    assert kept == {
        "contiguous": [(0, 2, 3), (0, 1), (3,)],
        "influence": [(0, 1, 2), (0, 2), (0,)],
        "greedy": [(0, 1, 3), (1, 3), (3,)],
    }


@pytest.mark.parametrize("policy", MEASURED, ids=lambda policy: policy.name)
def test_a_policy_is_of_one_teacher(policy: LayerPolicy) -> None:
    resolved = policy.resolved(found_of(decoder=6))
    told = f"{policy.name}' of the .* stack: it was resolved with another teacher's calib"
    for total, stack in [(7, "decoder"), (6, "encoder"), (6, "")]:
        with pytest.raises(BadInput, match=told):
            resolved.layers(total, 3, stack)


def test_ends_are_what_distilbert_keeps_of_bert() -> None:
    # 0 2 4 7 9 11: its authors' own choice, in their extraction script
    assert Ends().layers(12, 6) == (0, 2, 4, 7, 9, 11)
    assert Ends().layers(12, 4) == (0, 4, 7, 11)
    assert Ends().layers(6, 5) == (0, 1, 3, 4, 5)


@given(depths=DEPTHS)
def test_ends_keep_both_ends(depths: tuple[int, int]) -> None:
    total, count = depths
    layers = Ends().layers(total, count)
    assert layers[0] == 0
    assert layers[-1] == (total - 1 if count > 1 else 0)


def test_uniform_is_every_kth_layer() -> None:
    assert Uniform().layers(12, 6) == (0, 2, 4, 6, 8, 10)
    assert Uniform().layers(6, 4) == (0, 1, 3, 4)
    assert Uniform().layers(6, 1) == (0,)


def test_a_layer_map_gives_the_layers_it_was_told() -> None:
    policy = LayerMap([0, 1, 3, 4, 5], [0, 5])
    assert policy.layers(6, 5) == (0, 1, 3, 4, 5)
    assert policy.layers(6, 2) == (0, 5)
    assert policy.name == "map-0.1.3.4.5-0.5"
    assert len({policy, LayerMap([0, 1, 3, 4, 5], [0, 5]), LayerMap([0, 5])}) == 2
    assert LayerMap([0, 5], name="ends").name == "ends"


@pytest.mark.parametrize(("total", "count"), [(6, 3), (5, 2)])
def test_a_layer_map_has_no_choice_of_other_depths(total: int, count: int) -> None:
    told = rf"{count} of {total} layers: the layer map 'map-0\.5' covers depths \[2\]"
    with pytest.raises(Infeasible, match=told):
        LayerMap([0, 5]).layers(total, count)


@pytest.mark.parametrize("layers", [[], [1, 0], [0, 0], [-1, 2]])
def test_a_layer_map_takes_ascending_layers_only(layers: list[int]) -> None:
    with pytest.raises(BadInput, match="expected ascending, distinct layer numbers"):
        LayerMap(layers)


@pytest.mark.parametrize("choices", [[], [[0, 1], [0, 2]]])
def test_a_layer_map_has_one_choice_a_depth(choices: list[list[int]]) -> None:
    with pytest.raises(BadInput, match="one list of layers for each depth"):
        LayerMap(*choices)


@given(
    importance=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    share=st.floats(0.01, 1.0),
)
def test_nothing_is_kept_that_is_weaker_than_what_is_dropped(
    importance: list[int], share: float
) -> None:
    count = max(1, int(share * len(importance)))
    kept = strongest(torch.tensor(importance).float(), count)
    dropped = set(range(len(importance))) - set(kept)
    assert len(kept) == count
    assert list(kept) == sorted(set(kept))
    weakest = min(importance[unit] for unit in kept)
    assert all(importance[unit] <= weakest for unit in dropped)


def test_equal_importance_keeps_the_first_units() -> None:
    assert strongest(torch.ones(8), 3) == (0, 1, 2)


def test_by_position_the_first_units_stay_whatever_was_measured() -> None:
    found = Calibration({"hidden": torch.arange(8.0)})
    assert strongest(found.residual(First().criterion("hidden")), 3) == (0, 1, 2)
