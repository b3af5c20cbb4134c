"""Models that write an answer are asked for each token of the true one, as they were trained to."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers.models.m2m_100.modeling_m2m_100 import shift_tokens_right

from protege.objectives import Distillation, Example, LogitsKL, Retention, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.pairs import Pairs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.pairs import PairTask
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.search.front.confirming import confirmed
from protege.spaces import BadInput, Cache, Task, Teacher
from protege.spaces.files.manifest import kept_tokens
from tests import pieces
from tests.objectives.candidates import candidate, completed, distilled, half, itself, retained
from tests.tiny import ZOO, texts
from tests.zoo import marked

NAMES = [name for name, case in ZOO.items() if case.task is Task.TEXT_TO_TEXT]
LESSON = PairTask()


def answered(count: int = 80) -> Texts:
    """Texts whose answer is the text that comes as many places before the last."""
    given = texts(count)
    return Texts.of(given, given[::-1])


SHORT = Distillation(answered(), 4, 8, selection=20, max_tokens=16)


def examples(count: int = 24) -> list[Example]:
    return list(answered(count))


def asked(teacher: Teacher, max_tokens: int = 16) -> Pairs:
    found = LESSON.inputs(teacher, examples(), max_tokens)
    assert isinstance(found, Pairs)
    return found


def in_pieces(name: str) -> Teacher:
    """The tiny teacher of that name, with a tokenizer of pieces of words."""
    case = ZOO[name]
    fields = {**case.fields, "vocab_size": pieces.SIZES["wordpiece"]}
    changed = replace(case, fields={**fields, "max_position_embeddings": 96})
    return replace(changed.teacher(), processor=pieces.tokenizer("wordpiece"))


READ = replace(SHORT, data=Texts.of(pieces.TEXTS, pieces.TEXTS[::-1]), max_tokens=24, selection=30)


@pytest.mark.parametrize("name", marked(NAMES))
def test_the_loss_of_an_answer_is_the_models_own(name: str) -> None:
    teacher = ZOO[name].teacher()
    inputs = asked(teacher)
    for batch in inputs.in_order(7):
        labels = torch.full(batch.scored.shape, NO_LABEL)
        labels[batch.scored] = inputs.labels[batch.rows]
        given = {n: t for n, t in batch.inputs.items() if not n.startswith("decoder")}
        with torch.inference_mode():
            own = teacher.model(**given, labels=labels).loss
            mine = LESSON.answer(teacher.model, batch)
        torch.testing.assert_close(cross_entropy(mine, inputs.labels[batch.rows]), own)


@pytest.mark.parametrize("name", marked(NAMES))
def test_what_the_decoder_reads_is_what_the_model_makes_of_the_answer(name: str) -> None:
    teacher = ZOO[name].teacher()
    inputs = asked(teacher)
    batch = inputs.batch(range(len(inputs)))
    ids = teacher.tokenizer(text_target=texts(24)[::-1], padding=True, return_tensors="pt")
    model: Any = teacher.model
    shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
    if shift is None:  # what M2M100 does to its labels
        shift = partial(shift_tokens_right, pad_token_id=1, decoder_start_token_id=2)
        own = shift(ids["input_ids"])
        assert model.config.decoder_start_token_id == 2
    else:
        own = shift(labels=ids["input_ids"])
    real = ids["attention_mask"] == 1
    assert torch.equal(batch.scored, real)
    assert torch.equal(batch.inputs["decoder_attention_mask"], ids["attention_mask"])
    assert torch.equal(batch.inputs["decoder_input_ids"][real], own[real])
    assert (batch.inputs["decoder_input_ids"][~real] == teacher.tokenizer.pad_token_id).all()
    read = teacher.tokenizer(texts(24), padding=True, return_tensors="pt")
    assert torch.equal(batch.inputs["input_ids"], read["input_ids"])
    assert torch.equal(batch.mask, read["attention_mask"])


def test_a_pair_is_as_long_as_both_sides_and_cut_on_both() -> None:
    inputs = asked(ZOO["t5-text2text-generation"].teacher(), max_tokens=6)
    for batch in inputs.in_order(5):
        sides = batch.mask.sum(1), batch.inputs["decoder_attention_mask"].sum(1)
        assert torch.equal(inputs.lengths[batch.numbers], torch.stack(sides).sum(0))
        assert max(int(side.max()) for side in sides) <= 6
        assert len(batch.rows) == int(sides[1].sum())


def test_all_tokens_that_are_read_are_counted() -> None:
    teacher = ZOO["bart-text2text-generation"].teacher()
    inputs = asked(teacher)
    given = teacher.tokenizer([*texts(24), *texts(24)])["input_ids"]
    counts = torch.tensor([token for one in given for token in one]).bincount(minlength=96)
    start = teacher.config.decoder_start_token_id
    counts[start] += len(inputs)
    assert torch.equal(inputs.ids.long().bincount(minlength=96), counts)


def test_the_first_pairs_are_a_store_of_their_own() -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    first = asked(teacher).first(9)
    alone = LESSON.inputs(teacher, examples()[:9], 16)
    assert first.fingerprint == alone.fingerprint
    assert torch.equal(first.labels, alone.labels)
    assert first.rows == alone.rows == len(alone.labels)
    assert torch.equal(first.checks, asked(teacher).checks[:9])


def changed(side: str) -> TaskInputs:
    """Two pairs, of which a side of the second is another one."""
    pair = {"read": "w3 w4", "written": "w5 w6"}
    pair |= {side: "w7 w8"} if side else {}
    given = [Example("w1", "w2"), Example(pair["read"], pair["written"])]
    return LESSON.inputs(ZOO["t5-text2text-generation"].teacher(), given, 16)


@pytest.mark.parametrize("side", ["read", "written"])
def test_another_text_or_answer_is_another_question(side: str) -> None:
    plain, other = changed(""), changed(side)
    assert plain.fingerprint != other.fingerprint
    assert (plain.checks == other.checks).tolist() == [True, False]


@pytest.mark.parametrize("name", marked(NAMES))
def test_the_teacher_retains_all_of_itself(name: str, cache: Cache) -> None:
    teacher = ZOO[name].teacher()
    found = retained(itself(teacher, cache, SHORT))
    assert found.value == pytest.approx(1.0, abs=1e-6)
    assert found.spread == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", marked(NAMES))
def test_a_student_learns(name: str, cache: Cache) -> None:
    settings = replace(SHORT, steps=40, learning_rate=3e-3)
    losses = completed(half(ZOO[name].teacher(), cache, settings)).losses
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("name", marked(NAMES))
def test_a_loaded_student_is_judged_as_it_was_when_built(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = ZOO[name].teacher()
    best = distilled(half(teacher, cache, SHORT))
    folder = best.candidate.student.save(tmp_path / "student")
    again = confirmed([Retention()], itself(teacher, cache, SHORT), folder)
    assert again["retention"] == best.measurements["retention"].value


def test_the_temperature_asked_for_is_the_one_that_is_cached(cache: Cache) -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    soft = replace(SHORT, losses=(LogitsKL(temperature=2.0),))
    assert soft.tuned(distillation_task(teacher)) == PairTask(temperature=2.0)
    assert soft.tuned(LESSON).name != LESSON.name
    assert len(completed(half(teacher, cache, soft)).losses) == SHORT.steps


@pytest.mark.parametrize("name", ["t5-text2text-generation", "mbart-text2text-generation"])
def test_with_every_token_kept_a_student_is_asked_the_same(name: str) -> None:
    teacher = in_pieces(name)
    ascii_ = [text for text in pieces.TEXTS if text.isascii()][:40]
    given = [Example(*both) for both in zip(ascii_, ascii_[::-1], strict=True)]
    inputs = LESSON.inputs(teacher, given, 24)
    targets = compute_outputs(teacher.model, LESSON, inputs)
    kept = tuple(range(teacher.architecture.vocab_size))
    vocabulary_map = VocabularyMap.of(teacher, teacher.model, teacher.tokenizer, kept)
    spelt, answers = LESSON.mapped(inputs, targets, vocabulary_map)
    assert spelt.fingerprint == inputs.fingerprint
    found, again = (
        LESSON.score(judge(teacher.model, LESSON, *both))
        for both in ((inputs, targets), (spelt, answers))
    )
    assert (found.value, found.figures) == (again.value, again.figures)


@pytest.mark.parametrize("name", marked(NAMES))
def test_a_student_with_fewer_tokens_is_taught_judged_and_loaded(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = in_pieces(name)
    run = completed(candidate(teacher, cache, READ, layers=0.5, vocab=0.6))
    best, measured = run.published.candidate, run.published.measurements["retention"]
    assert torch.isfinite(torch.tensor([measured.value, *run.losses])).all()
    assert float(measured.details["pieces_per_token"]) > 1.05
    folder = best.student.save(tmp_path / "student")
    assert kept_tokens(folder) is not None
    again = confirmed([Retention()], itself(teacher, cache, READ), folder)
    assert again["retention"] == measured.value


@pytest.mark.parametrize(("label", "told"), [(None, "no label"), (1, "the label 1")])
def test_a_text_without_an_answer_is_refused(label: int | None, told: str) -> None:
    teacher = ZOO["t5-text2text-generation"].teacher()
    with pytest.raises(BadInput, match=f"'w1 w2': {told}; expected the target text"):
        LESSON.inputs(teacher, [Example("w1 w2", label)], 16)
