"""Answers are spans of a context: what is asked, what is kept, and how spans are compared."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from protege.objectives import Distillation, Example, HardLabels, Texts
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.questions import (
    LONGEST,
    NEVER,
    Questions,
    QuestionTask,
    best_spans,
    overlap,
)
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.spaces import BadInput, Cache, Teacher, Unsupported
from tests import pieces
from tests.objectives.candidates import candidate, completed, itself, retained
from tests.objectives.distillation.tasks.kinds import KINDS, pairs
from tests.tiny import ZOO

TASK = QuestionTask()


def asked(teacher: Teacher, *examples: Example, max_tokens: int = 24) -> Questions:
    found = TASK.inputs(teacher, examples or list(pairs())[:20], max_tokens)
    assert isinstance(found, Questions)
    return found


def bert() -> Teacher:
    return KINDS["answers"].teacher()


def test_the_first_token_and_the_context_are_places() -> None:
    inputs = asked(bert(), Example(("w1 w2", "w3 w4 w5")))
    batch = inputs.batch([0])
    read = bert().tokenizer("w1 w2", "w3 w4 w5")
    assert batch.inputs["input_ids"].tolist() == [read["input_ids"]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]
    assert batch.scored.tolist() == [[True, False, False, False, True, True, True, False]]
    assert batch.rows.tolist() == [0, 1]
    assert inputs.places == 4
    with torch.inference_mode():
        answer = TASK.answer(bert().model, batch)
        own: Any = bert().model(**batch.inputs)
    both = torch.cat([own.start_logits, own.end_logits])
    torch.testing.assert_close(answer, both[:, [0, 4, 5, 6]])


def test_shorter_contexts_are_padded_with_places_that_are_never_chosen() -> None:
    inputs = asked(bert(), Example(("w1", "w3 w4 w5")), Example(("w1", "w3")))
    with torch.inference_mode():
        answer = TASK.answer(bert().model, inputs.batch([0, 1]))
    assert answer.shape == (4, 4)
    assert (answer[2:, 2:] == NEVER).all()
    assert (answer[:2] > NEVER).all()
    assert int(best_spans(answer)[1].max()) < 2
    assert inputs.first(1).places == 4
    assert torch.equal(inputs.first(1).checks, inputs.checks[:1])


@pytest.mark.parametrize(
    ("label", "places"),
    [
        ("w4 w5", [2, 3]),
        ("w3", [1, 1]),
        ("", [0, 0]),
        (None, [NO_LABEL, NO_LABEL]),
    ],
)
def test_a_label_is_the_text_of_the_answer(label: str | None, places: list[int]) -> None:
    assert asked(bert(), Example(("w1", "w3 w4 w5"), label)).labels.tolist() == places


def test_an_answer_that_is_cut_off_is_unknown() -> None:
    context = " ".join(f"w{number}" for number in range(30))
    inputs = asked(bert(), Example(("w90", context), "w29"), max_tokens=12)
    assert inputs.labels.tolist() == [NO_LABEL, NO_LABEL]
    assert int(inputs.lengths[0]) == 12


@pytest.mark.parametrize("label", ["w9", 1])
def test_an_answer_beside_the_context_is_refused(label: Any) -> None:
    with pytest.raises(BadInput, match=r"'w1 w3': the label .* is no part of the context"):
        asked(bert(), Example(("w1", "w3"), label))


@pytest.mark.parametrize(
    ("content", "told"), [("w1 w2", "no pair"), (("w1", "w2", "w3"), "3 texts")]
)
def test_what_is_no_pair_is_refused(content: Any, told: str) -> None:
    with pytest.raises(BadInput, match=f"{told}; this teacher for question-answering reads pairs"):
        asked(bert(), Example(content))


def test_a_tokenizer_that_cannot_tell_places_is_refused() -> None:
    slow = SimpleNamespace(tokenizer=type("Slow", (), {"is_fast": False})())
    with pytest.raises(Unsupported, match="spans for Slow: it cannot map tokens to texts"):
        asked(replace(bert(), processor=slow), Example(("w1", "w2")))


def test_the_best_span_is_the_largest_sum_that_is_a_span() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, LONGEST + 5, generator=generator)
    for question, found in enumerate(best_spans(logits).tolist()):
        start, end = logits[2 * question].tolist(), logits[2 * question + 1].tolist()
        sums = {(0, 0): start[0] + end[0]} | {
            (first, last): start[first] + end[last]
            for first in range(1, len(start))
            for last in range(first, min(first + LONGEST, len(start)))
        }
        assert tuple(found) == max(sums, key=lambda span: sums[span])


@pytest.mark.parametrize(
    ("found", "wanted", "f1"),
    [
        ((0, 0), (0, 0), 1),
        ((0, 0), (1, 3), 0),
        ((2, 3), (2, 3), 1),
        ((2, 5), (4, 5), 2 / 3),
        ((1, 2), (3, 4), 0),
    ],
)
def test_spans_agree_by_the_f1_of_their_tokens(found: Any, wanted: Any, f1: float) -> None:
    both = torch.tensor([found]), torch.tensor([wanted])
    assert overlap(*both).tolist() == pytest.approx([f1])
    assert overlap(*both[::-1]).tolist() == pytest.approx([f1])


def answered(teacher: Teacher) -> Texts:
    """Questions with the teacher's own answers, of every other one without its last token."""
    given = list(pairs())
    inputs = asked(teacher, *given)
    spans = best_spans(compute_outputs(teacher.model, TASK, inputs)["logits"]).tolist()
    labels = []
    for number, (first, last) in enumerate(spans):
        content = given[number].content
        assert isinstance(content, tuple)
        words = content[1].split()
        end = last - 1 if number % 2 and last > first else last
        labels.append(" ".join(words[first - 1 : end]) if first else "")
    return Texts.of([one.content for one in given], labels)  # type: ignore[misc]


def test_with_labels_the_quality_is_relative_to_the_teachers(cache: Cache) -> None:
    settings = Distillation(answered(bert()), 2, 8, selection=15, max_tokens=24)
    found = retained(itself(bert(), cache, settings))
    assert found.value == pytest.approx(1)
    assert 0.5 < float(found.details["teacher_f1"]) <= 1
    assert found.details["same_spans"] == 1


def test_hard_labels_are_places() -> None:
    inputs = asked(bert(), Example(("w1", "w3 w4"), "w4"), Example(("w2", "w3 w4")))
    answer = torch.zeros(4, 3)
    found = HardLabels().of(answer, {}, inputs.labels)
    assert float(found) == pytest.approx(torch.tensor(3.0).log())


def test_of_a_cut_vocabulary_the_places_stay() -> None:
    name = "bert-questions"
    fields = {"vocab_size": pieces.SIZES["wordpiece"], "max_position_embeddings": 200}
    teacher = replace(
        replace(ZOO[name], fields=fields).teacher(), processor=pieces.tokenizer("wordpiece")
    )
    given = [
        Example((one, other)) for one, other in zip(pieces.TEXTS, pieces.TEXTS[1:], strict=False)
    ]
    inputs = asked(teacher, *given[:20])
    targets = compute_outputs(teacher.model, TASK, inputs)
    kept = tuple(range(teacher.architecture.vocab_size))
    whole = VocabularyMap.of(teacher, teacher.model, teacher.tokenizer, kept)
    same, answers = TASK.mapped(inputs, targets, whole)
    assert same.fingerprint == inputs.fingerprint
    assert TASK.score(judge(teacher.model, TASK, same, answers)).value == 1


def test_a_student_with_fewer_tokens_learns(cache: Cache) -> None:
    fields = {"vocab_size": pieces.SIZES["wordpiece"], "max_position_embeddings": 200}
    teacher = replace(
        replace(ZOO["bert-questions"], fields=fields).teacher(),
        processor=pieces.tokenizer("wordpiece"),
    )
    data = Texts.of(zip(pieces.TEXTS, pieces.TEXTS[1:], strict=False))
    settings = Distillation(data, 4, 8, selection=15, max_tokens=24)
    run = completed(candidate(teacher, cache, settings, layers=0.5, vocab=0.6))
    found = run.published.measurements["retention"]
    assert 0 <= found.value <= 1
    assert float(found.details["pieces_per_token"]) > 1.02


def test_segments_are_only_for_models_that_have_two() -> None:
    for kind, has in (("answers", True), ("answers without segments", False)):
        batch = asked(KINDS[kind].teacher()).batch([0])
        assert ("token_type_ids" in batch.inputs) is has
