"""Of equally deep students the closest decides which layers stay."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.spaces import Calibration, Closest, Surgeon, Teacher
from protege.spaces.architecture.layer_policies import LADDERS
from protege.spaces.architecture.policies import Healing, LayerPolicy
from protege.spaces.calibration.closest import DEPTHS, closest_layers, spaced, without_block
from protege.spaces.models.outputs import distance, final_answers
from tests.spaces.healed import plenty
from tests.tiny import ZOO

KINDS = {
    "vectors": "bert-sentences",
    "grouped decoder": "llama-causal-grouped",
    "encoder and decoder": "t5-text2text-generation",
    "images": "vit-image-classification",
}


def apart(teacher: Teacher, calibration: Calibration, batch: Any, changes: Any) -> float:
    """How far a student's answers are from the teacher's."""
    student = teacher.student(replace(teacher.architecture, **changes), calibration)
    itself = teacher.with_model(student.model, teacher.pooling)
    with torch.inference_mode():
        pairs = zip(final_answers(teacher, batch), final_answers(itself, batch), strict=True)
    is_logits = teacher.has_logits
    return sum(float(distance(*pair, is_logits=is_logits)) for pair in pairs)


@pytest.mark.parametrize("healing", ["none", "sequential"])
@pytest.mark.parametrize("name", KINDS.values(), ids=KINDS)
def test_of_all_ladders_the_closest_student_decides(name: str, healing: Healing) -> None:
    teacher = ZOO[name].teacher()
    batch = {name: values[:8] for name, values in plenty(teacher).items()}  # all are read
    calibration = Calibration.of(teacher, [batch], [Closest(), Surgeon()], healing)
    closest = Closest().resolved(calibration)
    others = [policy.resolved(calibration) for policy in LADDERS]
    for stack, size in teacher.family.depths.items():
        total = teacher.layout.depths.get(stack, 0)
        for depth in range(1, total):

            def lost(policy: LayerPolicy, size: str = size, depth: int = depth) -> float:
                given = {size: depth, "layer_policy": policy, "healing": healing}
                return apart(teacher, calibration, batch, given)

            least = min(map(lost, others))
            assert lost(closest) <= least * 1.001, (stack, depth)
            kept = closest.layers(total, depth, stack)
            if kept not in [one.layers(total, depth, stack) for one in others]:
                assert set(kept) < set(closest.layers(total, depth + 1, stack))
                assert lost(closest) < least


def test_by_default_layers_are_compared() -> None:
    teacher = ZOO["bert-sentences"].teacher()
    found = Calibration.of(teacher, [plenty(teacher)]).importance["encoder.closest"]
    assert found.shape == (3, 4)
    assert found.sum(1).tolist() == [1, 2, 3]


def test_only_depths_that_students_have_are_compared() -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    batch, told = plenty(teacher), list[str]()
    calibration = Calibration.of(teacher, [batch], [Closest()], "sequential")
    found = closest_layers(teacher, calibration, [batch], {"decoder": 3}, told.append)
    assert found["decoder.closest"].shape == (3, 4)
    assert torch.equal(found["decoder.closest"][2], calibration.importance["decoder.closest"][2])


@given(least=st.integers(1, 80), more=st.integers(0, 80))
def test_depths_are_spread_from_the_least_to_the_most(least: int, more: int) -> None:
    found = spaced(least, least + more)
    assert len(found) == min(DEPTHS, more + 1)
    assert found == sorted(set(found), reverse=True)
    assert found[0] == least + more
    assert found[-1] == least


def test_the_block_goes_that_turns_the_states_least() -> None:
    angles = torch.tensor([[abs(one - other) for one in range(6)] for other in range(6)]).float()
    angles[1, 4], angles[0, 3] = 0.5, 0.6  # layers 1 to 3, and layers 0 to 2
    assert without_block(angles, (0, 1, 2, 3, 4), 2) == (0, 4)
    assert without_block(angles, (1, 2, 3, 4), 1) == (4,)
    assert without_block(angles, (0, 1, 3, 4), 2) == (0, 4)  # layer 2 is gone before
    assert without_block(angles, (0, 1, 2), 3) == (0, 1, 2)


@given(st.data())
def test_a_smaller_student_keeps_layers_of_the_larger(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 12))
    angles = torch.rand(total + 1, total + 1, generator=torch.Generator().manual_seed(total))
    layers = tuple(sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1))))
    depth = data.draw(st.integers(1, len(layers)))
    found = without_block(angles, layers, depth)
    assert len(found) == depth
    assert set(found) <= set(layers)
    assert list(found) == sorted(found)


def test_the_table_is_read_as_layers() -> None:
    table: Tensor = torch.tensor([[0, 0, 1, 0], [1, 0, 1, 0], [1, 0, 1, 1]]).bool()
    kept = Closest().resolved(Calibration({"decoder.closest": table}))
    assert [kept.layers(4, count, "decoder") for count in (1, 2, 3)] == [(2,), (0, 2), (0, 2, 3)]
