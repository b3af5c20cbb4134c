"""The default recipe is one: a student made by hand is the one that a search makes."""

from typing import Any

import pytest
import torch

from protege.spaces import (
    Architecture,
    BadInput,
    Calibration,
    Closest,
    SearchSpace,
    Surgeon,
    Teacher,
)
from tests.spaces.healed import plenty
from tests.tiny import ZOO

NAMES = ["bert-sentences", "llama-causal-grouped", "t5-text2text-generation"]
RATIOS: dict[str, Any] = {"layers": 0.5, "hidden": 0.5, "intermediate": 0.4, "multiple_of": 4}


def searched(teacher: Teacher, calibration: Calibration | None) -> Architecture:
    """The student that a search makes of these ratios."""
    declared = SearchSpace(**RATIOS).of(teacher, has_data=calibration is not None)
    space = declared.resolved(calibration)
    return space.members[-1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("has_data", "policies"),
    [(True, ("closest", "surgeon", "sequential")), (False, ("ends", "magnitude", "none"))],
    ids=["with data", "without"],
)
def test_by_hand_and_in_a_search_the_weights_are_equal(
    name: str, *, has_data: bool, policies: tuple[str, str, str]
) -> None:
    teacher = ZOO[name].teacher()
    known = Calibration.of(teacher, [plenty(teacher)]) if has_data else None
    by_hand = teacher.student(teacher.architecture.scaled(**RATIOS), known)
    member = searched(teacher, known)
    in_search = teacher.student(member, known)
    own = by_hand.architecture
    assert (own.layer_policy.name, own.width_policy.name, own.healing) == policies
    assert own == member == in_search.architecture
    assert by_hand.manifest() == in_search.manifest()
    mine, theirs = by_hand.model.state_dict(), in_search.model.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[tensor], theirs[tensor]) for tensor in mine)


def test_a_recipe_without_data_is_another_student_than_with() -> None:
    teacher = ZOO["bert-sentences"].teacher()
    shape = teacher.architecture.scaled(**RATIOS)
    known = Calibration.of(teacher, [plenty(teacher)])
    with_data, without = teacher.student(shape, known), teacher.student(shape)
    assert with_data.kept != without.kept


def test_a_calibration_for_other_policies_says_what_the_default_ones_lack() -> None:
    teacher = ZOO["bert-sentences"].teacher()
    shape = teacher.architecture.scaled(**RATIOS)
    batch = plenty(teacher)
    for policies, lacking in (([Surgeon()], "closest"), ([Closest()], "surgeon")):
        known = Calibration.of(teacher, [batch], policies)
        with pytest.raises(BadInput, match=f"a calibration without {lacking}"):
            teacher.student(shape, known)
    with pytest.raises(BadInput, match="healing needs data that the calibration lacks"):
        teacher.student(shape, Calibration.of(teacher, [batch], healing="none"))


@pytest.mark.parametrize("given", ["surgeon", 3, None])
def test_policies_of_a_calibration_are_values(given: Any) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    with pytest.raises(BadInput, match="expected policies such as Surgeon"):
        Calibration.of(teacher, [plenty(teacher)], [given])


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_take_the_default_recipe_too(name: str) -> None:
    teacher = ZOO[name].teacher()
    shape = teacher.architecture.scaled(**RATIOS)
    assert teacher.fresh(shape).architecture == teacher.student(shape).architecture
