"""What a student is worth on its way, at every rung, and by how much that may be off."""

from dataclasses import replace
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from protege.objectives import (
    Candidate,
    Distillation,
    HiddenMSE,
    Progressive,
    Retention,
    Texts,
    VectorCosine,
)
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.spaces import Cache, ProtegeError, Teacher, Unsupported
from tests import pieces
from tests.objectives.candidates import half, itself
from tests.objectives.distillation.taught import module_of
from tests.tiny import CASES, texts

SHORT = Distillation(steps=4, batch_size=8, max_tokens=16)
CORPUS = Texts.of(texts(120))


# a few tokens alone make no block of packed text
KINDS = [name for name in CASES if name != "bert"]


@pytest.mark.parametrize("name", KINDS)
def test_rungs_come_in_order_and_the_last_is_what_is_measured(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    retention = Retention(CORPUS, replace(SHORT, steps=9), selection=30)
    found = list(retention.rungs(half(teacher, cache)))
    assert [rung.step for rung in found] == [0, 1, 3, 9]
    assert [rung.is_last for rung in found] == [False, False, False, True]
    assert [len(rung.measurement.samples) for rung in found] == [0, 1, 3, 9]
    assert found[-1].published == retention.measure(half(teacher, cache))
    cut = replace(retention, distillation=replace(SHORT, steps=0))
    assert found[0].measurement == cut.measure(half(teacher, cache))


def test_whoever_stops_asking_ends_the_training(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    candidate = half(teacher, cache)
    told: list[str] = []
    candidate.stopwatch.announce = told.append
    rungs = Retention(CORPUS, replace(SHORT, steps=9), selection=30).rungs(candidate)
    assert [next(rungs).step, next(rungs).step] == [0, 1]
    del rungs
    assert [word for word in told if word.startswith("distil ")] == ["distil 1/9"]


def test_the_teacher_is_worth_the_same_at_every_rung(cache: Cache) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    candidate = itself(teacher, cache)
    found = list(Retention(CORPUS, replace(SHORT, steps=9), selection=30).rungs(candidate))
    assert [(rung.step, rung.is_last) for rung in found] == [(0, 0), (1, 0), (3, 0), (9, 1)]
    assert len({rung.measurement.value for rung in found}) == 1
    assert found[0].measurement.value == pytest.approx(1.0, abs=1e-6)
    assert "distil" not in candidate.stopwatch.seconds


@pytest.mark.parametrize("name", KINDS)
def test_a_value_has_its_interval_and_what_each_example_is_worth(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    retention = Retention(CORPUS, SHORT, selection=30)
    candidate = half(teacher, cache)
    found = retention.measure(candidate)
    low, high = float(found.details["low"]), float(found.details["high"])
    assert low <= found.value <= high
    selection = retention.parts(teacher).selection
    assert len(found.examples) == len(selection)
    score = retention.judge(candidate.student.module, candidate)
    if len(selection.row_starts.diff().unique()) == 1:
        assert score.of_mean(mean(found.examples)) == pytest.approx(found.value, rel=1e-4)
    # two standard errors each way, about; rows of one sequence are no independent draws, so that
    # the interval, which draws whole sequences, may be wider than the error over rows
    wider = 1.0 if len(selection) == selection.rows else 2.0
    assert 2.5 * found.spread - 1e-9 <= high - low <= wider * 5.5 * found.spread + 1e-9


def test_students_are_compared_example_by_example(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    retention = Retention(CORPUS, SHORT, selection=30)
    worth = []
    for candidate in (half(teacher, cache), itself(teacher, cache)):
        module = candidate.student.module
        worth.append(retention.measure(candidate).examples)
        inputs = retention.parts(teacher).selection
        alone = cosine_similarity(vectors(module, inputs), vectors(teacher, inputs))
        assert list(worth[-1]) == pytest.approx(alone.tolist(), abs=1e-5)
    assert worth[0] != worth[1]


def test_a_figure_that_is_no_number_says_what_to_change(cache: Cache) -> None:
    lost = half(CASES["bert-sentences"].teacher(), cache)
    with torch.no_grad():
        next(lost.student.model.parameters()).fill_(torch.nan)
    retention = Retention(CORPUS, replace(SHORT, steps=0), selection=20)
    with pytest.raises(ProtegeError, match=r"after step 0 is nan, .*; lower learning_rate="):
        retention.measure(lost)


def vectors(model: Any, inputs: TaskInputs) -> Tensor:
    """Of each sequence, asked alone."""
    module = module_of(model) if isinstance(model, Teacher) else model
    with torch.inference_mode():
        return torch.cat([module(**inputs.batch([n]).inputs) for n in range(len(inputs))])


def test_a_teacher_may_answer_anew_at_every_step(cache: Cache) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    exact = replace(SHORT, precision="float32")
    kept = Retention(CORPUS, exact, selection=20).measure(half(teacher, cache))
    on_disk = size(cache)
    anew = Retention(CORPUS, replace(exact, answers="online"), selection=20)
    other = Cache(cache.folder / "other")
    found = anew.measure(half(teacher, other))
    assert found.value == pytest.approx(kept.value, rel=1e-2)
    assert found.samples == pytest.approx(kept.samples, rel=1e-2)
    # what is judged on is kept all the same
    assert 0 < size(other) < on_disk


def size(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*.bin"))


def test_a_student_of_fewer_tokens_is_not_taught_anew_at_every_step(cache: Cache) -> None:
    teacher = pieces.teacher("bert-sentences")
    fewer = Candidate(teacher, teacher.architecture.scaled(vocab=0.6), cache)
    anew = Retention(Texts.of(pieces.TEXTS), replace(SHORT, answers="online"))
    with pytest.raises(Unsupported, match=r"a teacher that answers online, .*cached"):
        anew.measure(fewer)


def test_losses_that_look_inside_need_no_cache(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, losses=(VectorCosine(), HiddenMSE(0.1)))
    found = Retention(CORPUS, settings, selection=20).measure(half(teacher, cache))
    assert len(found.samples) == SHORT.steps


def test_a_student_may_start_deeper(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, steps=9, progressive=Progressive(until=0.3))
    candidate = half(teacher, cache)
    found = list(Retention(CORPUS, settings, selection=20).rungs(candidate))
    assert [rung.step for rung in found] == [3, 9]
    assert candidate.student.architecture == candidate.architecture
    assert candidate.student.model.config.num_hidden_layers == 2
    plain = Retention(CORPUS, replace(settings, progressive=None), selection=20)
    assert plain.measure(half(teacher, cache)).samples != found[-1].measurement.samples


# agreement of a classifier this small is 1 before it has learnt anything
PROGRESSIVE = ["bert-sentences", "bert-masked", "llama-causal-tied"]


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_a_deeper_start_ends_in_a_student_of_its_own_depth_that_is_judged(
    name: str, cache: Cache
) -> None:
    teacher = CASES[name].teacher()
    settings = replace(SHORT, steps=9, precision="float32", progressive=Progressive(until=0.5))
    retention = Retention(CORPUS, settings, selection=20)
    candidate = half(teacher, cache)
    found = retention.measure(candidate)
    student, plain = candidate.student, teacher.student(candidate.architecture)
    assert student.manifest() == plain.manifest()
    assert student.model.config.num_hidden_layers == 2 < teacher.config.num_hidden_layers
    assert len(found.samples) == 9
    assert found.value == retention.judge(student.module, candidate).value
    assert found.value != retention.judge(plain.module, candidate).value


def test_a_deeper_start_of_fewer_tokens_ends_in_the_student_of_that_size(cache: Cache) -> None:
    teacher = pieces.teacher("bert-sentences")
    settings = replace(SHORT, steps=6, learning_rate=3e-3, progressive=Progressive(until=0.5))
    fewer = Candidate(teacher, teacher.architecture.scaled(vocab=0.6, layers=0.5), cache)
    training = Retention(Texts.of(pieces.TEXTS), settings).training(fewer)
    assert training.shrinking is not None
    assert training.student is fewer.student is training.shrinking.student
    again = Candidate(teacher, fewer.architecture, cache)
    found = Retention(Texts.of(pieces.TEXTS), settings).measure(again)
    assert again.student.kept.vocab == teacher.student(again.architecture).kept.vocab
    assert again.student.model.config.num_hidden_layers == again.architecture.num_hidden_layers
    assert len(found.samples) == 6
