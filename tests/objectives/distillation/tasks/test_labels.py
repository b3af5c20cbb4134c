"""Labels are those of the teacher, by name or by number, and the teacher knows them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from protege.objectives import Distillation, Example, Examples, Images, Parameters, Retention, Texts
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.labels import Classes, check_known, renamed
from protege.search import Search
from protege.spaces import BadInput, Cache, Choice, SearchSpace, Teacher
from tests.objectives.candidates import itself, retained
from tests.tiny import ZOO, texts


def scoring(examples: Examples, selection: int = 60) -> Distillation:
    """A step of distillation on these examples."""
    return Distillation(examples, 1, 8, selection, max_tokens=16)


NAMES = {0: "NEGATIVE", 1: "NEUTRAL", 2: "POSITIVE"}


def teacher_of(name: str, names: dict[int, str] | None = None) -> Teacher:
    """A teacher with classes of these names, each of which it answers now and then."""
    teacher = ZOO[name].teacher()
    teacher.model.config.id2label = dict(names or NAMES)
    teacher.model.config.label2id = {name: at for at, name in (names or NAMES).items()}
    if name == "bert-texts":  # as it is drawn it says the same of every text
        inputs = teacher.tokenizer(texts(400), padding=True, return_tensors="pt")
        with torch.no_grad():
            teacher.model.classifier.bias -= teacher.model(**inputs).logits.mean(0)  # type: ignore[union-attr]
    return teacher


def said(teacher: Teacher, examples: Sequence[Example]) -> list[Any]:
    """The teacher's own classes, of each text or of each word."""
    task = distillation_task(teacher)
    inputs = task.inputs(teacher, examples, 16)
    with torch.inference_mode():
        answer = task.answer(teacher.model, inputs.batch(range(len(inputs)))).argmax(-1)
    per = inputs.row_starts.diff().tolist()
    found = [part.tolist() for part in answer.split(per)]
    return [tuple(one) for one in found] if len(answer) > len(found) else [n for (n,) in found]


def spread(teacher: Teacher, examples: list[Example]) -> tuple[list[Example], list[Any]]:
    """As many examples of each class that the teacher answers, with its answers."""
    answers = said(teacher, examples)
    if isinstance(answers[0], tuple):
        return examples, answers
    by_class: dict[int, list[int]] = {}
    for at, number in enumerate(answers):
        by_class.setdefault(number, []).append(at)
    assert len(by_class) > 1
    least = min(map(len, by_class.values()))
    chosen = sorted(at for places in by_class.values() for at in places[:least])
    return [examples[at] for at in chosen], [answers[at] for at in chosen]


def drawn(count: int) -> list[np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return [
        np.clip(
            generator.integers(0, 256, (12, 12, 3)) * (at % 5) / 4 + 20 * (at % 7), 0, 255
        ).astype(np.uint8)
        for at in range(count)
    ]


def data(teacher: Teacher, name: str, names: Sequence[Any]) -> Examples:
    """Examples with the teacher's answers for labels, each answer by this name or number."""
    if "image" in name:
        held = list(Images.of(drawn(160)))
    elif "tokens" in name:
        held = list(Texts.of([text.split() for text in texts(160)]))
    else:
        held = list(Texts.of(texts(400)))
    chosen, answers = spread(teacher, held)
    labels = [
        tuple(names[one] for one in answer) if isinstance(answer, tuple) else names[answer]
        for answer in answers
    ]
    kind = Images if "image" in name else Texts
    pairs = zip(chosen, labels, strict=True)
    labelled = [replace(example, label=label) for example, label in pairs]
    return kind(lambda: iter(labelled))


KINDS = ["bert-texts", "llama-texts", "bert-tokens", "vit-image-classification"]


@pytest.mark.parametrize("name", KINDS)
def test_numbers_in_another_order_are_refused_with_both_lists(name: str, cache: Cache) -> None:
    teacher = teacher_of(name)
    moved = itself(teacher, cache, scoring(data(teacher, name, [1, 2, 0])))
    message = (
        r"labels: the teacher is right for \d+% of \d+, no better than chance \(\d+%\); the "
        r"data's classes are \{.*'0': 0.*\}, the teacher's are \{'NEGATIVE': 0, 'NEUTRAL': 1, "
    )
    with pytest.raises(BadInput, match=message):
        moved.prepared.data.check()
    with pytest.raises(BadInput, match=message):
        retained(moved)
    right = itself(teacher, cache, scoring(data(teacher, name, [0, 1, 2])))
    right.prepared.data.check()
    assert retained(right).details["teacher_accuracy"] == 1.0


def test_a_study_of_such_labels_ends_before_it_begins(tmp_path: Path) -> None:
    teacher = teacher_of("bert-texts")
    search = Search(
        name="labels",
        teacher=teacher,
        space=SearchSpace(layers=Choice(0.5, 1.0)),
        objectives=[Parameters(), Retention()],
        distillation=scoring(data(teacher, "bert-texts", [2, 0, 1])),
        storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}",
    )
    with pytest.raises(BadInput, match="labels: the teacher is right for"):
        search.run(trials=2)
    assert not (tmp_path / "run" / "study.db").exists()


@pytest.mark.parametrize("name", ["bert-texts", "bert-tokens"])
@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2)])
def test_names_of_a_data_set_are_those_of_the_teacher(
    name: str, order: tuple[int, ...], cache: Cache
) -> None:
    teacher = teacher_of(name)
    numbers = [order.index(at) for at in range(3)]  # of the data set, by the teacher's
    held = list(data(teacher, name, numbers))
    classes = datasets.ClassLabel(names=[NAMES[at].title() for at in order])
    words, labels = datasets.Value("string"), classes
    if "tokens" in name:
        words, labels = datasets.List(words), datasets.List(labels)
    made = datasets.Dataset.from_dict(
        {"text": [one.content for one in held], "label": [one.label for one in held]},
        features=datasets.Features({"text": words, "label": labels}),
    )
    own = itself(teacher, cache, scoring(Texts.from_dataset(made)))
    own.prepared.data.check()
    assert retained(own).details["teacher_accuracy"] == 1.0


@settings(max_examples=25)
@given(order=st.permutations(range(3)), numbers=st.lists(st.integers(0, 2), min_size=1))
def test_numbers_are_renamed_whatever_the_order(order: list[int], numbers: list[int]) -> None:
    names = [NAMES[at].lower() for at in order]
    found = renamed([Example("w1", number) for number in numbers], names, TEACHER)
    assert [Classes(TEACHER).number(one.label) for one in found] == [order[n] for n in numbers]
    (words,) = renamed([Example(("w",) * len(numbers), tuple(numbers))], names, TEACHER)
    assert words.label == tuple(order[number] for number in numbers)


TEACHER = teacher_of("bert-texts")


def test_names_that_the_teacher_does_not_know_leave_numbers() -> None:
    given_ = [Example("w1", 2), Example("w2")]
    assert renamed(given_, ["bad", "so", "good"], TEACHER) == given_
    assert renamed(given_, (), TEACHER) == given_


def test_a_name_beside_the_teachers_is_refused_where_it_occurs() -> None:
    names = ["positive", "mixed", "negative"]
    first, second = renamed([Example("w1", 0), Example("w2", 1)], names, TEACHER)
    assert first.label == 2
    with pytest.raises(BadInput, match=r"label 'mixed': the teacher's classes are \{'NEGATIVE': 0"):
        Classes(TEACHER).number(second.label)


def test_folders_are_classes_in_whatever_case(tmp_path: Path, cache: Cache) -> None:
    pil = pytest.importorskip("PIL.Image")
    names = {0: "tabby cat", 1: "Egyptian_Mau", 2: "dog"}
    teacher = teacher_of("vit-image-classification", names)
    folders = ["Tabby_Cat", "egyptian mau", "DOG"]
    chosen, answers = spread(teacher, list(Images.of(drawn(160))))
    for at, (one, answer) in enumerate(zip(chosen, answers, strict=True)):
        path = tmp_path / folders[answer] / f"{at}.png"
        path.parent.mkdir(exist_ok=True)
        pil.fromarray(np.asarray(one.content.open())).save(path)  # type: ignore[union-attr]
    right = retained(itself(teacher, cache, scoring(Images.from_folder(tmp_path), 40)))
    assert right.details["teacher_accuracy"] == 1.0


@pytest.mark.parametrize(
    ("label", "number"),
    [("NEGATIVE", 0), ("positive", 2), (" Neutral ", 1), (2, 2), ("1", 1), (None, NO_LABEL)],
)
def test_a_label_is_a_name_or_a_number(label: Any, number: int) -> None:
    assert Classes(TEACHER).number(label) == number


@pytest.mark.parametrize("label", [3, -1, "7", "good", "-"])
def test_what_is_no_class_is_refused(label: Any) -> None:
    with pytest.raises(BadInput, match=rf"label {label!r}: the teacher's classes are"):
        Classes(TEACHER).number(label)


def test_the_names_that_a_model_answers_with_count() -> None:
    teacher = ZOO["bert-texts"].teacher()
    teacher.model.config.id2label = {0: "good", 1: "bad", 2: "so"}
    teacher.model.config.label2id = {"bad": 0, "good": 1, "fair": 2}
    classes = Classes(teacher)
    assert [classes.number(name) for name in ("good", "bad", "so", "fair")] == [0, 1, 2, 2]


def test_names_that_differ_in_case_alone_are_told_apart() -> None:
    teacher = ZOO["bert-texts"].teacher()
    teacher.model.config.id2label = {0: "b-per", 1: "B-PER", 2: "O"}
    classes = Classes(teacher)
    assert [classes.number(name) for name in ("b-per", "B-PER", "o")] == [0, 1, 2]
    with pytest.raises(BadInput, match="label 'B-Per'"):
        classes.number("B-Per")


@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=200))
def test_a_teacher_that_is_always_right_is_never_refused(labels: list[int]) -> None:
    found = torch.tensor(labels)
    check_known(found, found, (), TEACHER)


@settings(max_examples=50)
@given(labels=st.lists(st.integers(0, 2), min_size=1, max_size=200), constant=st.integers(0, 2))
def test_a_teacher_of_one_answer_is_to_be_right_more_than_once_in_three(
    labels: list[int], constant: int
) -> None:
    found = torch.tensor(labels)
    assume(labels.count(constant) <= len(labels) / 3)
    with pytest.raises(BadInput, match=r"no better than chance \(33%\)"):
        check_known(torch.full_like(found, constant), found, (), TEACHER)


def test_a_teacher_of_one_answer_may_be_a_good_one() -> None:
    labels = (torch.arange(300) % 10 == 0).long()
    check_known(torch.zeros_like(labels), labels, (), TEACHER)


@pytest.mark.parametrize("order", [one for one in permutations(range(3)) if one != (0, 1, 2)])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_classes_in_no_other_order_pass(order: tuple[int, ...], noise: float) -> None:
    generator = torch.Generator().manual_seed(0)
    said_ = torch.arange(300) % 3
    wrong = torch.rand(300, generator=generator) < noise
    labels = torch.where(wrong, (said_ + 1) % 3, said_)
    check_known(said_, labels, (), TEACHER)
    with pytest.raises(BadInput, match="give labels by the teacher's names or in its numbers"):
        check_known(said_, torch.tensor(order)[labels], ("c", "b", "a"), TEACHER)


def test_a_poor_teacher_is_still_one() -> None:
    """Right for 45 of 100 where chance is a third, as hard tasks have it."""
    labels = torch.arange(300) % 3
    others = (labels + 1 + torch.arange(300) // 3 % 2) % 3
    said_ = torch.where(torch.arange(300) % 20 < 9, labels, others)
    check_known(said_, labels, (), TEACHER)


def test_labels_of_one_class_alone_are_compared_with_guessing() -> None:
    labels = torch.full((60,), 1)
    check_known(torch.where(torch.arange(60) < 50, 1, 0), labels, (), TEACHER)
    with pytest.raises(BadInput, match=r"no better than chance \(33%\)"):
        check_known(torch.where(torch.arange(60) < 15, 1, 0), labels, (), TEACHER)
