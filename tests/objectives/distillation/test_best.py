"""No trial is published below its start: the best rung's weights and figures are what is kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from protege.objectives import Candidate, Distillation, Progressive, Retention, Rung, Texts
from protege.objectives.distillation import checkpoint
from protege.objectives.distillation.best import Best
from protege.objectives.distillation.distillation import LEAST_RATE
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.tasks.sentences import SentenceTask
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.measurement import Measurement
from protege.objectives.retention import distillation_task
from protege.spaces import BadInput, Cache
from tests.objectives.candidates import half, itself
from tests.objectives.distillation.taught import material
from tests.objectives.distillation.taught import training as training_of
from tests.tiny import CASES, texts

SHORT = Distillation(steps=9, batch_size=8, max_tokens=16, precision="float32")
"""Rungs after 0, 1, 3 and 9 steps."""

CORPUS = Texts.of(texts(120))

# of language models this small some guess the text better than their random teacher does, and
# classifiers this small cannot be made worse
HARMED = [*(name for name in CASES if "sentences" in name), "llama-causal-tied"]


def state(candidate: Candidate) -> dict[str, Tensor]:
    found: dict[str, Tensor] = candidate.student.module.state_dict()
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("harmful_training")
@pytest.mark.parametrize("name", HARMED)
def test_a_student_that_training_makes_worse_is_published_as_it_was_cut(
    name: str, cache: Cache
) -> None:
    teacher = CASES[name].teacher()
    settings = replace(SHORT, learning_rate=3e-3)
    retention = Retention(CORPUS, settings, selection=30)
    candidate, cut = half(teacher, cache), half(teacher, cache)
    found = retention.measure(candidate)
    start = retention.judge(cut.student.module, cut)
    assert found.value == start.value
    assert found.details["best_step"] == 0
    assert found.details["steps"] == len(found.samples) == 9
    assert same(state(candidate), state(cut))
    assert retention.judge(candidate.student.module, candidate).value == found.value


@pytest.mark.usefixtures("harmful_training")
@pytest.mark.parametrize("rungs", [(), (0.5,)])
def test_the_start_counts_where_no_rung_is_asked_for_at_it(
    cache: Cache, rungs: tuple[float, ...]
) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, learning_rate=3e-3, rungs=rungs)
    retention = Retention(CORPUS, settings, selection=30)
    candidate, cut = half(teacher, cache), half(teacher, cache)
    found = [*retention.rungs(candidate)]
    assert [rung.step for rung in found] == settings.rung_steps
    assert found[-1].published.value == retention.judge(cut.student.module, cut).value
    assert same(state(candidate), state(cut))


@pytest.mark.usefixtures("harmful_training")
def test_a_deeper_start_that_ends_worse_is_published_as_the_student_that_was_cut(
    cache: Cache,
) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, learning_rate=0.1, progressive=Progressive(until=0.3))
    retention = Retention(CORPUS, settings, selection=30)
    candidate, cut = half(teacher, cache), half(teacher, cache)
    found = retention.measure(candidate)
    assert found.details["best_step"] == 0
    assert found.value == retention.judge(cut.student.module, cut).value
    assert same(state(candidate), state(cut))


def test_every_rung_tells_what_it_is_worth_and_what_would_be_published(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    retention = Retention(CORPUS, replace(SHORT, learning_rate=0.3), selection=30)
    found = [*retention.rungs(half(teacher, cache))]
    best = [max(one.measurement.value for one in found[: at + 1]) for at in range(len(found))]
    assert [rung.published.value for rung in found] == best
    assert [rung.published.details["steps"] for rung in found] == [0, 1, 3, 9]


class Weights(nn.Module):
    """A module of one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))


class Toy:
    """A student as far as `Best` knows it."""

    def __init__(self) -> None:
        self.module = Weights()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_the_weights_of_the_first_of_the_best_rungs_come_back(values: list[float]) -> None:
    student: Any = Toy()
    best = Best()
    for step, value in enumerate(values):
        with torch.no_grad():
            student.module.weight.fill_(step)
        best.see(step, Measurement(value), student, is_last=step == len(values) - 1)
        best.hold()
    best.restore()
    assert student.module.weight.tolist() == [values.index(max(values))] * 3
    assert best.rung is not None
    assert best.rung.step == values.index(max(values))


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Candidate]:
    """The same candidate, as another process makes it; its training is stored at every halt."""
    monkeypatch.setattr(checkpoint, "WORTH_SECONDS", 0.0)
    teacher = CASES["bert-sentences"].teacher()
    place = tmp_path / "trial.safetensors"
    return lambda: replace(half(teacher, Cache(tmp_path / "cache")), checkpoint=place)


@pytest.mark.parametrize("best_at", [0, 1, 3])
@pytest.mark.parametrize("until", [1, 3])
def test_the_best_rung_survives_a_kill(
    again: Callable[[], Candidate],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    best_at: int,
    until: int,
) -> None:
    measured = Retention._measured

    def scripted(self: Retention, candidate: Candidate, losses: list[float]) -> Measurement:
        found = measured(self, candidate, losses)
        return replace(found, value=1.0 if len(losses) == best_at else 0.5)

    monkeypatch.setattr(Retention, "_measured", scripted)
    retention = Retention(CORPUS, replace(SHORT, learning_rate=3e-3), selection=30)

    def climbed(candidate: Candidate, until: int) -> list[Rung]:
        found = []
        for rung in retention.rungs(candidate):
            found.append(rung)
            if rung.step == until:
                break
        return found

    climbed(again(), until)
    resumed = again()
    found = climbed(resumed, 9)
    (tmp_path / "trial.safetensors").unlink()
    whole = again()
    assert found == climbed(whole, 9)
    assert found[-1].published.details["best_step"] == best_at
    assert same(state(resumed), state(whole))


KINDS = ["bert-sentences", "bert-masked", "bert-texts", "bert-tokens", "llama-causal-tied"]


@pytest.mark.parametrize("name", KINDS)
def test_the_teacher_is_at_no_distance_and_gets_the_least_rate(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    given = material(teacher)
    training = training_of(teacher, given, SHORT)
    own = itself(teacher, cache).student
    assert training.distance(own) == pytest.approx(0.0, abs=1e-5)
    assert training.distance(training.student) > 0.0
    least = SHORT.rate(0.0, distillation_task(teacher))
    assert least == LEAST_RATE * SHORT.learning_rate


LESSONS: list[DistillationTask] = [SentenceTask(), LanguageTask(), ClassTask(), PairTask()]


@given(st.floats(0, 2), st.floats(0, 2), st.sampled_from(LESSONS))
def test_the_farther_a_student_starts_the_higher_its_rate(
    near: float, far: float, task: DistillationTask
) -> None:
    near, far = sorted((near, far))
    low, high = SHORT.rate(near, task), SHORT.rate(far, task)
    assert 0 < low <= high <= SHORT.learning_rate
    assert high == SHORT.learning_rate or far < task.far


def test_a_student_that_starts_closer_is_trained_at_a_lower_rate(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    retention = Retention(CORPUS, replace(SHORT, full_rate_at=1.0), selection=30)
    own = teacher.architecture
    rates = []
    for architecture in (own.scaled(intermediate=0.75), own.scaled(layers=0.5)):
        found = retention.measure(Candidate(teacher, architecture, cache))
        rates.append(float(found.details["learning_rate"]))
    assert rates[0] < rates[1] < SHORT.learning_rate


def test_every_student_gets_the_whole_rate_where_that_is_asked_for(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    retention = Retention(CORPUS, replace(SHORT, full_rate_at=0.0), selection=30)
    near = Candidate(teacher, teacher.architecture.scaled(intermediate=0.75), cache)
    assert retention.measure(near).details["learning_rate"] == SHORT.learning_rate


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_distance_that_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(BadInput, match=r"full_rate_at=.*: expected a share from 0"):
        Distillation(full_rate_at=share)


def test_rates_are_the_same_after_a_kill(again: Callable[[], Candidate], tmp_path: Path) -> None:
    retention = Retention(CORPUS, replace(SHORT, full_rate_at=1.0), selection=30)
    whole = retention.measure(again())
    (tmp_path / "trial.safetensors").unlink()
    rungs = retention.rungs(again())
    assert [next(rungs).step, next(rungs).step] == [0, 1]
    del rungs
    assert retention.measure(again()) == whole
