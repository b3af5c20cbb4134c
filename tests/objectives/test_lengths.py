"""No text is longer than what the teacher reads, and students keep that limit."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protege.objectives import (
    Distillation,
    Example,
    Latency,
    LocalCPU,
    Texts,
    Workload,
)
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.latency.models import check_fits
from protege.search import Search
from protege.spaces import BadInput, Cache, Choice, First, SearchSpace, Task, Teacher
from protege.spaces.models.blueprint import Blueprint
from tests.objectives.candidates import itself
from tests.tiny import WORDS, ZOO, save, texts

LONG = [" ".join(WORDS[(at + step) % 91] for step in range(60)) for at in range(8)]


def unlimited(name: str) -> Teacher:
    """A teacher whose tokenizer knows no limit."""
    teacher = ZOO[name].teacher()
    teacher.tokenizer.model_max_length = 10**30
    return replace(teacher, pooling=teacher.pooling and replace(teacher.pooling, max_tokens=None))


def asked(teacher: Teacher, max_tokens: int) -> TaskInputs:
    """Long texts, in words or with an answer where the task wants that."""
    given = [Example(text) for text in LONG]
    if teacher.task is Task.TOKENS:
        given = [Example(tuple(text.split())) for text in LONG]
    if teacher.task is Task.TEXT_TO_TEXT:
        given = [Example(text, text) for text in LONG]
    return distillation_task(teacher).inputs(teacher, given, max_tokens)


NAMES = [
    *("bert-sentences", "bert-texts", "bert-tokens", "bert-masked", "roberta-fill-mask"),
    *("mpnet-feature-extraction", "distilbert-token-classification", "electra-fill-mask"),
    *("camembert-text-classification", "gpt2-text-generation", "gpt2-text-classification"),
    *("opt-text-generation", "bart-text2text-generation", "mbart-text2text-generation"),
    *("llama-causal-tied", "modernbert-fill-mask", "deberta-v2-text-classification"),
]


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_cut_to_the_positions(name: str) -> None:
    teacher = unlimited(name)
    bound = teacher.max_tokens
    assert bound is not None
    assert 36 <= bound <= 40
    inputs = asked(teacher, 512)
    side = 2 * bound if teacher.task is Task.TEXT_TO_TEXT else bound
    assert int(inputs.lengths.max()) == side
    with torch.inference_mode():
        found = distillation_task(teacher).answer(
            teacher.embedder() or teacher.model, inputs.batch(range(2))
        )
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("name", ["bert-texts", "llama-causal-tied", "t5-text2text-generation"])
def test_the_limit_of_a_tokenizer_counts_too(name: str) -> None:
    assert ZOO[name].teacher().max_tokens == 32
    assert unlimited("t5-text2text-generation").max_tokens is None
    assert int(asked(ZOO["bert-texts"].teacher(), 512).lengths.max()) == 32
    assert int(asked(ZOO["bert-texts"].teacher(), 9).lengths.max()) == 9


def test_packed_text_is_counted_by_what_is_read(cache: Cache) -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    given = Distillation(Texts.of(texts(200)), steps=2, batch_size=4, max_tokens=512)
    learnt = itself(teacher, cache, given).prepared.data.learnt
    assert set(learnt.lengths.tolist()) == {32}
    assert len(learnt) == 8


@pytest.mark.parametrize(("name", "most"), [("bert-texts", 64), ("llama-causal-tied", 33)])
def test_a_limit_is_told(
    name: str, most: int, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = ZOO[name].teacher()
    for max_tokens in (most, 32):
        given = Distillation(Texts.of(texts(200)), 1, 4, selection=20, max_tokens=max_tokens)
        with caplog.at_level(logging.WARNING, "protege"):
            itself(teacher, cache, given).prepared.data.check()
    told = [record.getMessage() for record in caplog.records if record.name == "protege"]
    assert told == [f"max_tokens={most}: the teacher reads 32 tokens at most; texts are cut there"]


def theirs(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def limited(folder: Path, how: str) -> Path:
    """A sentence encoder whose texts sentence-transformers cuts at twelve tokens, told this way."""
    teacher = ZOO["bert-sentences"].teacher()
    first = save(replace(teacher, pooling=replace(_pooling(teacher), max_tokens=32)), folder / "a")
    model = theirs(first)
    if how in {"tokenizer", "old name"}:
        model.max_seq_length = 12
    model.save(str(folder / "b"))
    settings = folder / "b" / "sentence_bert_config.json"
    fields = json.loads(settings.read_text(encoding="utf-8"))
    fields |= {
        "processing": {"processing_kwargs": {"text": {"max_length": 12}}},
        "loading": {"processor_kwargs": {"model_max_length": 12}},
        "before 6": {"max_seq_length": 12, "tokenizer_args": {}},
    }.get(how, {})
    settings.write_text(json.dumps(fields), encoding="utf-8")
    if how == "old name":
        fields = {"max_seq_length": 12, "do_lower_case": False}
        settings.unlink()
        settings = settings.with_name("sentence_roberta_config.json")
        settings.write_text(json.dumps(fields), encoding="utf-8")
    return folder / "b"


def _pooling(teacher: Teacher) -> Any:
    return teacher.pooling


@pytest.mark.parametrize("how", ["tokenizer", "processing", "loading", "before 6", "old name"])
def test_a_student_of_the_same_size_makes_the_same_vectors(how: str, tmp_path: Path) -> None:
    folder = limited(tmp_path, how)
    teacher = Teacher.load(folder)
    assert teacher.pooling is not None
    assert teacher.pooling.max_tokens == teacher.max_tokens == 12
    student = teacher.student(teacher.architecture)
    exported = theirs(student.save(tmp_path / "out"))
    vectors = theirs(folder).encode(LONG)
    assert np.abs(exported.encode(LONG) - vectors).max() < 1e-6
    with torch.inference_mode():
        inputs = asked(teacher, 512)
        ours = distillation_task(teacher).answer(student.module, inputs.batch(range(8)))
    assert np.abs(ours.numpy() - vectors).max() < 1e-5


def test_without_any_limit_the_positions_are_one(tmp_path: Path) -> None:
    loaded = Teacher.load(save(unlimited("bert-sentences"), tmp_path / "teacher"))
    assert loaded.max_tokens == 40


def fits(name: str, prompt: int, new: int = 0) -> bool:
    model = ZOO[name].teacher().model
    try:
        check_fits(Blueprint.of(type(model).__name__, model.config), Workload(1, prompt, new))
    except BadInput as error:
        assert "has positions for" in str(error)  # noqa: PT017 - of several inputs, some fit
        return False
    return True


@pytest.mark.parametrize(
    ("name", "most", "more"),
    [
        ("gpt2-text-generation", (30, 10), (30, 11)),
        ("roberta-fill-mask", (39, 0), (40, 0)),
        ("mpnet-fill-mask", (38, 0), (39, 0)),
        ("opt-text-generation", (39, 1), (39, 2)),
        ("bart-text2text-generation", (40, 39), (40, 40)),
        ("bart-text2text-generation", (40, 9), (41, 9)),
        ("whisper-automatic-speech-recognition", (500, 39), (8, 40)),
        ("t5-text2text-generation", (4000, 4000), None),
    ],
)
def test_a_workload_fits_the_positions_of_each_side(
    name: str, most: tuple[int, int], more: tuple[int, int] | None
) -> None:
    assert fits(name, *most)
    assert more is None or not fits(name, *more)


@pytest.mark.parametrize("name", ["bert", "gpt2-text-generation"])
def test_a_workload_that_is_too_long_is_refused_when_it_is_declared(name: str) -> None:
    with pytest.raises(BadInput, match="has positions for 40 tokens: 1 x 64 tokens takes 64"):
        Search(
            name="long",
            teacher=ZOO[name].teacher(),
            space=SearchSpace(layers=Choice(0.5, 1.0), width_policy=First()),
            objectives=[Latency(LocalCPU(), Workload(1, 64))],
        )
