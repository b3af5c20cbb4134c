"""Retention is judged on texts that no student has seen, against answers asked for once."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protege.objectives import (
    Candidate,
    Cost,
    Distillation,
    Objective,
    Retention,
    Texts,
    Trained,
)
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.retention import distillation_task
from protege.spaces import BadInput, Cache, Task, Teacher, Unsupported
from tests.objectives.candidates import half, itself
from tests.tiny import CASES, ZOO, texts

SHORT = Distillation(steps=4, batch_size=8, max_tokens=16)
CORPUS = Texts.of(texts(120))


class Calls:
    """Counts how often the teacher is asked, on the model itself."""

    def __init__(self, teacher: Teacher) -> None:
        self.count = 0
        teacher.model.base_model.register_forward_hook(self._called)

    def _called(self, *_: object) -> None:
        self.count += 1


def test_retention_is_an_objective() -> None:
    objective: Objective = Retention(CORPUS, limit=0.9)
    assert (objective.name, objective.direction, objective.limit) == ("retention", "maximize", 0.9)
    assert objective.cost is Cost.MINUTES
    assert isinstance(objective, Trained)


def test_the_teacher_retains_everything_without_training(teacher: Teacher, cache: Cache) -> None:
    found = Retention(CORPUS, SHORT, selection=30).measure(itself(teacher, cache))
    assert found.value == pytest.approx(1.0, abs=1e-6)
    assert found.details["steps"] == 0


def test_a_student_is_taught_and_judged(teacher: Teacher, cache: Cache) -> None:
    candidate = half(teacher, cache)
    found = Retention(CORPUS, SHORT, selection=30).measure(candidate)
    assert -1 <= found.value < float("inf")
    assert len(found.samples) == found.details["steps"] == SHORT.steps
    assert found.details["first_loss"] == found.samples[0]
    assert {"build", "distil", "evaluate", "teacher answers"} <= set(candidate.stopwatch.seconds)


def test_a_student_is_worth_the_same_each_time(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    first, again = (Retention(CORPUS, SHORT).measure(half(teacher, cache)) for _ in range(2))
    assert first == again


# of random text a random student may know more than its random teacher: there the divergence tells
@pytest.mark.parametrize(
    ("name", "figure", "better"),
    [("bert-sentences-dense", "cosine", 1), ("llama-causal-grouped", "kl", -1)],
)
def test_training_helps(name: str, figure: str, better: int, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    retention = Retention(CORPUS, replace(SHORT, steps=40, learning_rate=3e-3))
    first, *_, last = retention.rungs(half(teacher, cache))
    cut, trained = first.measurement, last.measurement
    assert cut.details["steps"] == 0
    assert cut.samples == ()
    assert better * (float(trained.details[figure]) - float(cut.details[figure])) > 0.05


PARTS = ("learnt", "selection", "held_out")


def parts(teacher: Teacher, retention: Retention) -> list[TaskInputs]:
    return [getattr(retention.parts(teacher), part) for part in PARTS]


def words(teacher: Teacher, inputs: TaskInputs) -> set[str]:
    ids = inputs.ids.split(inputs.lengths.tolist())
    return set(teacher.tokenizer.batch_decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("name", ["bert-sentences", "bert-texts", "bert-tokens"])
def test_no_text_is_in_two_parts(name: str) -> None:
    teacher = CASES[name].teacher()
    found = parts(teacher, Retention(CORPUS, SHORT, selection=28, held_out=25))
    assert [len(one) for one in found] == [SHORT.sequences_seen, 28, 25]
    learnt, selection, held_out = (words(teacher, one) for one in found)
    assert learnt.isdisjoint(selection)
    assert learnt.isdisjoint(held_out)
    assert selection.isdisjoint(held_out)
    assert learnt | selection | held_out <= set(CORPUS.texts)


def test_packed_text_is_split_before_it_is_packed() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    # every text has words of its own, so that a text in two parts would show
    own = Texts.of(f"w{2 * number} w{2 * number + 1}" for number in range(45))
    found = parts(teacher, Retention(own, replace(SHORT, max_tokens=4)))
    special = set(teacher.tokenizer.all_special_ids)
    ids = [set(one.ids.tolist()) - special for one in found]
    assert not ids[0] & (ids[1] | ids[2])
    assert not ids[1] & ids[2]
    assert min(map(len, found)) > 5


def test_what_is_judged_on_depends_on_no_length_of_training_and_no_order() -> None:
    teacher = CASES["bert-sentences"].teacher()
    judged = {
        tuple(one.fingerprint for one in parts(teacher, Retention(corpus, settings, 28, 28))[1:])
        for corpus in (CORPUS, Texts.of(reversed(CORPUS.texts)), Texts.of(CORPUS.texts * 2))
        for settings in (replace(SHORT, steps=steps) for steps in (0, 1, 4, 400))
    }
    assert len(judged) == 1


@pytest.mark.parametrize("count", [30, 60, 512])
def test_at_most_a_quarter_of_the_texts_is_judged_on(count: int) -> None:
    teacher = CASES["bert-sentences"].teacher()
    long = replace(SHORT, steps=100)
    found = parts(teacher, Retention(CORPUS, long, count, count))
    assert [len(one) for one in found] == [60, 30, 30]


def test_of_what_was_never_seen_the_answers_are_asked_apart(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    retention = Retention(CORPUS, SHORT, selection=30, held_out=20)
    candidate = half(teacher, cache)
    seen = retention.judge(candidate.student.module, candidate)
    unseen = retention.judge(candidate.student.module, candidate, held_out=True)
    assert (len(seen.rows), len(unseen.rows)) == (30, 20)
    assert seen.value != unseen.value
    mine = retention.parts(teacher)
    assert unseen.value == pytest.approx(float(unseen.rows.mean()))
    assert words(teacher, mine.held_out).isdisjoint(words(teacher, mine.selection))


def test_of_three_texts_none_is_left_to_hold_out() -> None:
    teacher = CASES["bert-sentences"].teacher()
    few = Retention(Texts.of(["w1", "w2", "w3"]), SHORT).parts(teacher)
    assert few.held_out.fingerprint == few.selection.fingerprint
    assert len(few.learnt) == 2


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped", "bert-tokens"])
def test_the_teacher_is_asked_once_in_a_studys_life(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    calls = Calls(teacher)
    Retention(CORPUS, SHORT, selection=30).measure(half(teacher, cache))
    asked = calls.count
    assert asked > 0
    Retention(CORPUS, SHORT, selection=30).measure(half(teacher, cache))
    assert calls.count == asked
    # nor does another process ask, which has the files alone
    Retention(CORPUS, SHORT, selection=30).measure(half(teacher, Cache(cache.folder)))
    assert calls.count == asked
    Retention(CORPUS, SHORT, selection=9).measure(half(teacher, cache))
    assert calls.count > asked


def test_another_teacher_or_pooling_is_asked_again(cache: Cache) -> None:
    given = CASES["bert-sentences"]
    assert given.pooling is not None
    unlike = replace(given, pooling=replace(given.pooling, mode="cls"))
    for teacher in (given.teacher(), given.teacher(seed=1), unlike.teacher()):
        calls = Calls(teacher)
        found = Retention(CORPUS, SHORT, selection=30).measure(itself(teacher, cache))
        assert calls.count > 0
        assert found.value == pytest.approx(1.0)


def test_labels_are_numbers_or_names_of_the_teachers_classes(cache: Cache) -> None:
    teacher = CASES["bert-texts"].teacher()
    batch = teacher.tokenizer(list(CORPUS.texts), padding=True, return_tensors="pt")
    with torch.inference_mode():
        classes = teacher.model(**batch).logits.argmax(-1).tolist()
    numbers = [number if place % 3 else (number + 1) % 3 for place, number in enumerate(classes)]
    by_number = Texts.of(CORPUS.texts, numbers)
    by_name = Texts.of(CORPUS.texts, [f"LABEL_{number}" for number in numbers])
    found = [
        Retention(texts_, SHORT, selection=60).measure(itself(teacher, cache))
        for texts_ in (by_number, by_name)
    ]
    assert found[0] == found[1]
    assert found[0].value == 1.0
    # two of three labels were left as the teacher has them
    assert found[0].details["teacher_accuracy"] == pytest.approx(2 / 3, abs=0.15)


def test_a_label_that_the_teacher_does_not_have_is_refused(cache: Cache) -> None:
    teacher = CASES["bert-texts"].teacher()
    labelled = Texts.of(["a", "b", "c"], ["LABEL_0", "spam", "LABEL_1"])
    with pytest.raises(BadInput, match=r"label 'spam': the teacher's classes are .*LABEL_2"):
        Retention(labelled, SHORT).measure(half(teacher, cache))


def test_two_texts_are_enough_to_judge_by(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    found = Retention(Texts.of(["w1 w2", "w3"]), SHORT).measure(half(teacher, cache))
    assert found.value <= 1
    assert found.spread == 0  # of a single text nothing is known of the spread


def test_a_loaded_student_is_judged_as_it_was_when_built(cache: Cache, tmp_path: Path) -> None:
    for name in ("bert", "bert-sentences", "llama-causal-grouped", "bert-tokens"):
        teacher = CASES[name].teacher()
        architecture = teacher.architecture.scaled(hidden=0.5, layers=0.5)
        candidate = Candidate(teacher, architecture, cache)
        retention = Retention(CORPUS, SHORT, selection=30)
        measured = retention.measure(candidate)
        folder = candidate.student.save(tmp_path / name)
        loaded = Teacher.load(folder, task=teacher.task)
        again = retention.judge(loaded.embedder() or loaded.model, itself(teacher, cache))
        assert again.value == measured.value


def test_a_task_without_a_lesson_is_refused_with_those_that_have_one() -> None:
    without = {Task.QUESTIONS, Task.SPEECH, Task.IMAGE_FEATURES}
    for case in ZOO.values():
        if case.task not in without:
            assert distillation_task(case.teacher()).name
        else:
            with pytest.raises(Unsupported, match=f"model for {case.task} cannot be measured"):
                distillation_task(case.teacher())
