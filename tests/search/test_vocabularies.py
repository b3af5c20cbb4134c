"""A study may try vocabularies too; what it exports reads text with a tokenizer of its own."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from protege.objectives import Distillation, Parameters, Retention, Stopwatch, Texts
from protege.search import Search, State
from protege.search.planning.calibrating import calibrated
from protege.search.planning.needs import Needs
from protege.spaces import Choice, SearchSpace, Teacher
from tests import pieces

BRIEF = Distillation(Texts.of(pieces.TEXTS), steps=2, batch_size=8, max_tokens=24, selection=30)


def study(folder: Path, teacher: Teacher, distillation: Distillation = BRIEF) -> Search:
    return Search(
        name="vocabularies",
        teacher=teacher,
        space=SearchSpace(layers=Choice(0.5, 1.0), vocab=Choice(0.55, 1.0)),
        objectives=[Parameters(), Retention()],
        distillation=distillation,
        folder=folder,
    )


@pytest.mark.parametrize("name", ["bert-sentences", "llama-causal-tied"])
def test_an_exported_student_is_worth_what_its_trial_was(folder: Path, name: str) -> None:
    teacher = pieces.teacher(name)
    search = study(folder, teacher)
    front = search.run(trials=4)
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    whole = len(teacher.tokenizer)
    trial = next(one for one in front.members if one.architecture["vocab_size"] < whole)
    exported = front.export(trial)
    tokenizer = AutoTokenizer.from_pretrained(exported)
    assert len(tokenizer) == trial.architecture["vocab_size"]
    text = next(text for text in pieces.TEXTS if text.isascii())
    ids = (one.tokenizer(text)["input_ids"] for one in (teacher, Teacher.load(exported)))
    read = [t.decode(i) for t, i in zip((teacher.tokenizer, tokenizer), ids, strict=True)]
    assert read[0] == read[1]
    figures = search.confirm(exported)
    assert figures["retention"] == trial.measurements["retention"].value


def test_tokens_are_counted_in_all_that_students_learn_from(folder: Path) -> None:
    teacher = pieces.teacher("bert-sentences")
    longer = Distillation(Texts.of(pieces.LINES), steps=120, batch_size=16)
    search = study(folder, teacher, longer)
    learnt = search.prepare().data.learnt
    needs = Needs.of(search.students, teacher.architecture)
    few = calibrated(teacher, learnt, needs, search.cache, Stopwatch(), tokens=4096)
    assert len(learnt.ids) > 4096
    counts = torch.bincount(learnt.ids, minlength=pieces.SIZES["wordpiece"])
    assert torch.equal(few.vocab, counts)
