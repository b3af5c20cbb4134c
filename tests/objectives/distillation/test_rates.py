"""The farther a student starts from its teacher, the higher is the rate at which it is taught."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protege.objectives import Distillation, Texts
from protege.objectives.distillation.distillation import LEAST_RATE
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.spaces import BadInput, Cache
from tests.objectives.candidates import candidate, completed, itself
from tests.objectives.distillation.taught import material, training
from tests.tiny import CASES, texts

SHORT = Distillation(Texts.of(texts(120)), 9, 8, 30, max_tokens=16, precision="float32")
KINDS = ["bert-sentences", "bert-masked", "bert-texts", "bert-tokens", "llama-causal-tied"]
TASKS: list[DistillationTask] = [SentenceTask(), LanguageTask(), ClassTask(), PairTask()]


@pytest.mark.parametrize("name", KINDS)
def test_the_teacher_is_at_no_distance_and_gets_the_least_rate(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    found = training(teacher, material(teacher), SHORT)
    own = itself(teacher, cache).built().student
    assert found.distance(own) == pytest.approx(0.0, abs=1e-5)
    assert found.distance(found.student) > 0.0
    assert found.at_rate(own).settings.learning_rate == LEAST_RATE * SHORT.learning_rate
    least = SHORT.rate(0.0, distillation_task(teacher))
    assert least == LEAST_RATE * SHORT.learning_rate


@given(st.floats(0, 2), st.floats(0, 2), st.sampled_from(TASKS))
def test_the_farther_a_student_starts_the_higher_its_rate(
    near: float, far: float, task: DistillationTask
) -> None:
    near, far = sorted((near, far))
    low, high = SHORT.rate(near, task), SHORT.rate(far, task)
    assert 0 < low <= high <= SHORT.learning_rate
    assert high == SHORT.learning_rate or far < task.full_rate_distance


def test_a_student_that_starts_closer_is_trained_at_a_lower_rate(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, full_rate_at=1.0)
    near, far = (
        completed(candidate(teacher, cache, settings, **ratios)).learning_rate
        for ratios in ({"intermediate": 0.75}, {"layers": 0.5})
    )
    assert 0 < near < far < SHORT.learning_rate


def test_every_student_gets_the_whole_rate_where_that_is_asked_for(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    near = candidate(teacher, cache, replace(SHORT, full_rate_at=0.0), intermediate=0.75)
    assert completed(near).learning_rate == SHORT.learning_rate


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_distance_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match=r"full_rate_at=.*: expected a share from 0"):
        replace(SHORT, full_rate_at=share)
