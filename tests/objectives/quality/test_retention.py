"""Retention is judged on texts that no student has seen, against answers asked for once."""

from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from protege.objectives import Distillation, Objective, Retention, Stage, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.task_data import TaskData
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.teacher_outputs import judge
from protege.objectives.objective import JudgedOnUnseen, scores_rungs
from protege.search.front.confirming import confirmed
from protege.spaces import BadInput, Cache, Task, Teacher, Unsupported
from tests.objectives.candidates import candidate, completed, distilled, half, itself, retained
from tests.objectives.distillation.taught import module_of
from tests.tiny import CASES, ZOO, texts
from tests.zoo import head, marked

CORPUS = Texts.of(texts(120))
SHORT = Distillation(CORPUS, 4, 8, selection=30, max_tokens=16)

# a few tokens alone make no block of packed text
KINDS = marked((name for name in CASES if name != "bert"), by=head)


class Calls:
    """Counts how often the teacher is asked, on the model itself."""

    def __init__(self, teacher: Teacher) -> None:
        self.count = 0
        teacher.model.base_model.register_forward_hook(self._called)

    def _called(self, *_: object) -> None:
        self.count += 1


def test_retention_is_an_objective() -> None:
    objective: Objective = Retention(limit=0.9)
    assert (objective.name, objective.direction, objective.limit) == ("retention", "maximize", 0.9)
    assert objective.stage is Stage.STUDENT
    assert scores_rungs(objective)
    assert isinstance(objective, JudgedOnUnseen)


def test_a_label_that_is_no_word_is_refused() -> None:
    with pytest.raises(BadInput, match="label='my set': expected letters, digits and underscores"):
        Retention(label="my set")


def test_the_teacher_retains_everything_without_training(teacher: Teacher, cache: Cache) -> None:
    run = completed(itself(teacher, cache, SHORT))
    assert run.published.measurements["retention"].value == pytest.approx(1.0, abs=1e-6)
    assert run.losses == []
    assert run.record is None


def test_a_student_is_taught_and_judged(teacher: Teacher, cache: Cache) -> None:
    given = half(teacher, cache, SHORT)
    run = completed(given)
    assert -1 <= run.published.measurements["retention"].value < float("inf")
    assert run.record is not None
    assert run.record.losses == tuple(run.losses)
    assert run.record.steps == len(run.losses) == SHORT.steps
    assert {"weight reconstruction", "distil", "evaluate", "caching teacher outputs"} <= set(
        given.stopwatch.seconds
    )


def test_a_student_is_worth_the_same_each_time(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    first, again = (completed(half(teacher, cache, SHORT)) for _ in range(2))
    assert first.published.measurements == again.published.measurements
    assert first.record == again.record


def data_of(teacher: Teacher, cache: Cache, settings: Distillation) -> TaskData:
    return itself(teacher, cache, settings).prepared.data


def parts(teacher: Teacher, cache: Cache, settings: Distillation) -> list[TaskInputs]:
    data = data_of(teacher, cache, settings)
    return [data.learnt, data.selected, data.unseen]


def words(teacher: Teacher, inputs: TaskInputs) -> set[str]:
    ids = inputs.ids.split(inputs.lengths.tolist())
    return set(teacher.tokenizer.batch_decode(ids, skip_special_tokens=True))


@pytest.mark.parametrize("name", ["bert-sentences", "bert-texts", "bert-tokens"])
def test_no_text_is_in_two_parts(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    found = parts(teacher, cache, replace(SHORT, selection=28, held_out=25))
    assert [len(one) for one in found] == [SHORT.sequences_seen, 28, 25]
    learnt, selected, unseen = (words(teacher, one) for one in found)
    assert learnt.isdisjoint(selected)
    assert learnt.isdisjoint(unseen)
    assert selected.isdisjoint(unseen)
    assert learnt | selected | unseen <= set(CORPUS.texts)


def test_packed_text_is_split_before_it_is_packed(cache: Cache) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    # every text has words of its own, so that a text in two parts would show
    own = Texts.of(f"w{2 * number} w{2 * number + 1}" for number in range(45))
    found = parts(teacher, cache, replace(SHORT, data=own, selection=512, max_tokens=4))
    special = set(teacher.tokenizer.all_special_ids)
    ids = [set(one.ids.tolist()) - special for one in found]
    assert not ids[0] & (ids[1] | ids[2])
    assert not ids[1] & ids[2]
    assert min(map(len, found)) > 5


def test_what_is_judged_on_depends_on_no_length_of_training_and_no_order(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    some = replace(SHORT, selection=28, held_out=28)
    judged = {
        tuple(one.fingerprint for one in parts(teacher, cache, settings)[1:])
        for corpus in (CORPUS, Texts.of(reversed(CORPUS.texts)), Texts.of(CORPUS.texts * 2))
        for settings in (replace(some, data=corpus, steps=steps) for steps in (0, 1, 4, 400))
    }
    assert len(judged) == 1


@pytest.mark.parametrize("count", [30, 60, 512])
def test_at_most_a_quarter_of_the_texts_is_judged_on(count: int, cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    long = replace(SHORT, steps=100, selection=count, held_out=count)
    assert [len(one) for one in parts(teacher, cache, long)] == [60, 30, 30]


def test_of_what_was_never_seen_the_answers_are_asked_apart(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    given = half(teacher, cache, replace(SHORT, held_out=20)).built()
    seen, unseen = Retention().measure(given), Retention().measure_unseen(given)
    assert (len(seen.examples), len(unseen.examples)) == (30, 20)
    assert seen.value != unseen.value
    data = given.prepared.data
    for found, inputs in ((seen, data.selected), (unseen, data.unseen)):
        alone = alike(given.student.module, teacher, inputs)
        assert list(found.examples) == pytest.approx(alone, abs=1e-5)
        assert found.value == pytest.approx(mean(alone), abs=1e-5)
    assert words(teacher, data.unseen).isdisjoint(words(teacher, data.selected))


def alike(module: nn.Module, teacher: Teacher, inputs: TaskInputs) -> list[float]:
    """The cosine of a student's vector to the teacher's, of each sequence when asked alone."""
    mine, theirs = vectors(module, inputs), vectors(module_of(teacher), inputs)
    found: list[float] = cosine_similarity(mine, theirs).tolist()
    return found


def vectors(module: nn.Module, inputs: TaskInputs) -> Tensor:
    with torch.inference_mode():
        return torch.cat([module(**inputs.batch([n]).inputs) for n in range(len(inputs))])


def test_of_three_texts_none_is_left_to_hold_out(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    few = data_of(teacher, cache, replace(SHORT, data=Texts.of(["w1", "w2", "w3"])))
    assert few.unseen.fingerprint == few.selected.fingerprint
    assert len(few.learnt) == 2


def test_other_data_is_scored_as_if_it_were_the_distillations_own(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    other = Texts.of(text for text in texts(300) if text not in CORPUS.texts)
    built = half(teacher, cache, SHORT).built()
    elsewhere = half(teacher, cache, replace(SHORT, data=other)).built()
    objective = Retention(data=other, label="other")
    assert objective.name == "retention_other"
    assert objective.measure(built) == Retention().measure(elsewhere)
    assert objective.measure_unseen(built) == Retention().measure_unseen(elsewhere)
    assert objective.measure(built).value != Retention().measure(built).value
    # students learn of the distillation's data all the same
    known = words(teacher, built.prepared.data.learnt)
    assert known <= set(CORPUS.texts)
    judged_on = words(teacher, built.prepared.data_of(other).selected)
    assert judged_on <= set(other.texts)


def test_the_labels_of_other_data_are_checked_too(cache: Cache) -> None:
    teacher = CASES["bert-texts"].teacher()
    labelled = Texts.of(["a", "b", "c"], ["spam", "spam", "spam"])
    built = half(teacher, cache, SHORT).built()
    with pytest.raises(BadInput, match=r"label 'spam': the teacher's classes are .*LABEL_2"):
        Retention(data=labelled, label="labelled").measure(built)


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-grouped", "bert-tokens"])
def test_the_teacher_is_asked_once_in_a_studys_life(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    calls = Calls(teacher)
    retained(half(teacher, cache, SHORT))
    asked = calls.count
    assert asked > 0
    retained(half(teacher, cache, SHORT))
    assert calls.count == asked
    # nor does another process ask, which has the files alone
    retained(half(teacher, Cache(cache.folder), SHORT))
    assert calls.count == asked
    retained(half(teacher, cache, replace(SHORT, selection=9)))
    assert calls.count > asked


def test_another_teacher_or_pooling_is_asked_again(cache: Cache) -> None:
    given = CASES["bert-sentences"]
    assert given.pooling is not None
    unlike = replace(given, pooling=replace(given.pooling, mode="cls"))
    for teacher in (given.teacher(), given.teacher(seed=1), unlike.teacher()):
        calls = Calls(teacher)
        found = retained(itself(teacher, cache, SHORT))
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
        retained(itself(teacher, cache, replace(SHORT, data=labelled, selection=60)))
        for labelled in (by_number, by_name)
    ]
    assert found[0] == found[1]
    assert found[0].value == 1.0
    # two of three labels were left as the teacher has them
    assert found[0].details["teacher_accuracy"] == pytest.approx(2 / 3, abs=0.15)


def test_a_label_that_the_teacher_does_not_have_is_refused(cache: Cache) -> None:
    teacher = CASES["bert-texts"].teacher()
    labelled = Texts.of(["a", "b", "c"], ["LABEL_0", "spam", "LABEL_1"])
    with pytest.raises(BadInput, match=r"label 'spam': the teacher's classes are .*LABEL_2"):
        retained(half(teacher, cache, replace(SHORT, data=labelled)))


def test_two_texts_are_enough_to_judge_by(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    found = retained(half(teacher, cache, replace(SHORT, data=Texts.of(["w1 w2", "w3"]))))
    assert found.value <= 1
    assert found.spread == 0  # of a single text nothing is known of the spread


@pytest.mark.parametrize("name", KINDS)
def test_a_value_has_its_interval_and_what_each_example_is_worth(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    best = distilled(half(teacher, cache, SHORT))
    found, data = best.measurements["retention"], best.candidate.prepared.data
    low, high = float(found.details["low"]), float(found.details["high"])
    assert low <= found.value <= high
    selected = data.selected
    assert len(found.examples) == len(selected)
    if len(selected.row_starts.diff().unique()) == 1:
        of_mean = data.task.score(scores(best.candidate.student.module, data)).of_mean
        assert of_mean(mean(found.examples)) == pytest.approx(found.value, rel=1e-4)
    # two standard errors each way, about; rows of one sequence are no independent draws, so that
    # the interval, which draws whole sequences, may be wider than the error over rows
    wider = 1.0 if len(selected) == selected.rows else 2.0
    assert 2.5 * found.spread - 1e-9 <= high - low <= wider * 5.5 * found.spread + 1e-9


def scores(module: nn.Module, data: TaskData) -> dict[str, Tensor]:
    return judge(module, data.task, data.selected, data.outputs(data.selected))


def test_students_are_compared_example_by_example(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    worth = []
    for given in (half(teacher, cache, SHORT), itself(teacher, cache, SHORT)):
        best = distilled(given)
        worth.append(best.measurements["retention"].examples)
        alone = alike(best.candidate.student.module, teacher, given.prepared.data.selected)
        assert list(worth[-1]) == pytest.approx(alone, abs=1e-5)
    assert worth[0] != worth[1]


@pytest.mark.parametrize("name", ["bert", "bert-sentences", "llama-causal-grouped", "bert-tokens"])
def test_a_loaded_student_is_judged_as_it_was_when_built(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = CASES[name].teacher()
    best = distilled(candidate(teacher, cache, SHORT, hidden=0.5, layers=0.5))
    folder = best.candidate.student.save(tmp_path / name)
    again = confirmed([Retention()], itself(teacher, cache, SHORT), folder)
    assert again["retention"] == best.measurements["retention"].value
    assert again["unseen_retention"] == Retention().measure_unseen(best.candidate).value


def test_a_model_without_a_head_that_makes_no_vectors_is_refused() -> None:
    vectors = {Task.FEATURES, Task.SENTENCES, Task.IMAGE_FEATURES}
    for case in ZOO.values():
        if case.task not in vectors or case.pooling is not None:
            assert distillation_task(case.teacher()).name
        else:
            with pytest.raises(Unsupported, match=r"tiny: a .*Model makes no vectors of texts or"):
                distillation_task(case.teacher())
