"""Padding does not change the outputs of a text, and texts up to the maximum length fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import processors
from torch.testing import assert_close

from protege.objectives import Example, Workload
from protege.objectives.distillation.inputs.sequences import Sequences, tokens_in
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.latency.local.calls import call_of
from protege.objectives.latency.models import built
from protege.spaces import BadInput, Teacher
from protege.spaces.checkpoints.padding import configured_pad, positions_in
from protege.spaces.models.blueprint import Blueprint
from tests.tiny import ZOO, batch, save, texts, tokenizer

OTHER, BEYOND = 50, 96
KINDS: dict[str, tuple[int | None, str | None]] = {
    "in the configuration alone": (OTHER, None),
    "another in the configuration": (OTHER, "[PAD]"),
    "in the tokenizer alone": (None, "[PAD]"),
    "negative in the configuration": (-1, "[PAD]"),
    "beyond the embedding in both": (BEYOND, "<pad>"),
    "beyond the embedding in the tokenizer": (None, "<pad>"),
    "nowhere": (None, None),
}
DECODERS = [
    *("llama-texts", "gpt2-text-classification", "opt-text-classification"),
    *("gpt_neox-text-classification", "mixtral-text-classification"),
]


def padded(name: str, kind: str) -> Teacher:
    """A teacher whose configuration and tokenizer have the padding tokens of that kind."""
    own, token = KINDS[kind]
    teacher = ZOO[name].teacher()
    teacher.model.config.pad_token_id = own
    words: Any = tokenizer(teacher.family.model_types[0])
    words.pad_token = None
    if token is not None:
        words.add_special_tokens({"pad_token": token})
    return replace(teacher, processor=words)


def asked(teacher: Teacher) -> Sequences:
    given = [Example(text) for text in texts(12)]
    return tokens_in(distillation_task(teacher).inputs(teacher, given, 16))


def check_batches(teacher: Teacher) -> None:
    """Check that texts in one batch are answered as each alone."""
    inputs, task = asked(teacher), distillation_task(teacher)
    module = teacher.embedder() or teacher.model
    with torch.inference_mode():
        together = task.answer(module, inputs.batch(range(12)))
        alone = [task.answer(module, inputs.batch([number])) for number in range(12)]
    assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DECODERS)
def test_a_classifier_on_a_decoder_finds_the_end_of_each_text(name: str, kind: str) -> None:
    check_batches(padded(name, kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["bert-texts", "bert-sentences", "llama-tokens"])
def test_other_models_hide_their_padding_whatever_it_is(name: str, kind: str) -> None:
    teacher = padded(name, kind)
    assert asked(teacher).pad in range(BEYOND)
    check_batches(teacher)


@pytest.mark.parametrize("kind", ["in the configuration alone", "nowhere"])
@pytest.mark.parametrize("vocab", [1.0, 0.6])
def test_students_end_texts_where_their_teacher_does(
    kind: str, vocab: float, tmp_path: Path
) -> None:
    teacher = padded("llama-texts", kind)
    student = teacher.student(teacher.architecture.scaled(layers=0.5, vocab=vocab))
    assert configured_pad(student.model.config) is not None
    loaded = Teacher.load(student.save(tmp_path), task=teacher.task)
    check_batches(loaded)


def test_the_padding_of_a_saved_teacher_is_decided_when_it_is_loaded(tmp_path: Path) -> None:
    teacher = padded("gpt2-text-classification", "in the tokenizer alone")
    teacher.model.config.pad_token_id = None
    check_batches(Teacher.load(save(teacher, tmp_path)))


def test_a_classifier_whose_texts_may_end_with_any_token_is_refused() -> None:
    teacher = ZOO["llama-texts"].teacher()
    teacher.model.config.pad_token_id = None
    words: Any = tokenizer("llama")
    words.pad_token = None
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[("[SEP]", 3)]
    )
    with pytest.raises(BadInput, match=r"neither its config\.json nor its tokenizer has a padding"):
        replace(teacher, processor=words)


@pytest.mark.parametrize("name", DECODERS)
def test_a_batch_is_timed_without_any_padding(name: str) -> None:
    teacher = ZOO[name].teacher()
    teacher.model.config.pad_token_id = None
    model = built(Blueprint.of(type(teacher.model).__name__, teacher.config))
    with torch.inference_mode():
        assert call_of(model, Workload(3, 6))().wall_ms > 0


@pytest.mark.parametrize(
    "name", ["bert-texts", "bert-masked", "bert-sentences", "bert-tokens", "llama-causal-tied"]
)
def test_a_token_without_a_row_is_named(name: str) -> None:
    teacher = ZOO[name].teacher() if name in ZOO else ZOO["bert"].teacher()
    words: Any = tokenizer(teacher.family.model_types[0])
    words.add_tokens(["<new>"])
    given = [Example("w1 <new> w3"), Example("w2 w4 w5 w6 w7 w8")]
    with pytest.raises(BadInput, match="the token '<new>' with id 96, and its embedding has 96"):
        distillation_task(teacher).inputs(replace(teacher, processor=words), given, 4)


COUNTED = ["bert", "roberta-fill-mask", "xlm-roberta-fill-mask", "camembert-fill-mask"]
COUNTED += ["mpnet-fill-mask", "distilbert-fill-mask", "gpt2-text-generation"]


@pytest.mark.parametrize("name", COUNTED)
def test_a_model_reads_as_many_tokens_as_it_has_positions(name: str) -> None:
    teacher = ZOO[name].teacher()
    bound = positions_in(teacher.config.to_dict())
    assert bound is not None
    with torch.inference_mode():
        teacher.model(**batch(sequences=1, tokens=bound))
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)|must match"):
            teacher.model(**batch(sequences=1, tokens=bound + 1))
