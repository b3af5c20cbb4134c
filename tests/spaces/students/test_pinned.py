"""A pinned architecture keeps the layers it is told, whatever its policy would."""

import pytest

from protege.spaces import Infeasible, LayerMap
from protege.spaces.students.selection import Pinned, everything, pinned
from tests.tiny import ZOO


@pytest.mark.parametrize(
    "name", ["bert-texts", "bart-text2text-generation", "t5-question-answering"]
)
def test_it_is_as_deep_as_what_is_kept_and_keeps_just_that(name: str) -> None:
    teacher = ZOO[name].teacher()
    given = teacher.architecture.scaled(layers=0.5, layer_policy=LayerMap([1, 2]))
    kept = teacher.student(given).kept
    found = pinned(teacher.architecture.scaled(), kept)
    assert found.sizes() == given.sizes()
    assert teacher.student(found).kept == kept
    assert pinned(given, everything(teacher.layout)).sizes() == teacher.architecture.sizes()


def test_it_goes_by_the_name_of_the_policy_it_comes_from() -> None:
    teacher = ZOO["bert-texts"].teacher()
    architecture = teacher.architecture.scaled(
        layers=0.5, layer_policy=LayerMap([1, 2], name="mine")
    )
    found = pinned(architecture, teacher.student(architecture).kept)
    assert found.layer_policy == Pinned("mine", (("encoder", (1, 2)),))
    assert found.layer_policy.resolved(None) is found.layer_policy
    assert found.key() == architecture.key()


@pytest.mark.parametrize(
    ("total", "count", "stack"), [(4, 1, "encoder"), (2, 2, "encoder"), (4, 2, "")]
)
def test_it_has_no_choice_but_one(total: int, count: int, stack: str) -> None:
    policy = Pinned("mine", (("encoder", (1, 3)),))
    assert policy.layers(4, 2, "encoder") == (1, 3)
    with pytest.raises(Infeasible, match=rf"{count} of {total} layers .*: the pinned layers are"):
        policy.layers(total, count, stack)
