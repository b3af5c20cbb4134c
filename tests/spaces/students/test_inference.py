"""Students run as plain transformers and sentence-transformers run them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers import SentenceTransformer
from torch.testing import assert_close
from transformers import WhisperFeatureExtractor, WhisperProcessor

from protege.spaces import BadInput, Student, Task, Teacher, Unsupported
from tests.tiny import CASES, ZOO, save, texts

TEXTS = [*texts(9), " ".join(texts(40, longest=12)[20:])]
"""Texts of many lengths, the last longer than any of the models reads."""


def whole(name: str) -> Student:
    """The student at ratio 1.0."""
    teacher = ZOO[name].teacher()
    return teacher.student(teacher.architecture)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.task is Task.SENTENCES])
def test_vectors_are_those_of_sentence_transformers(name: str, tmp_path: Path) -> None:
    teacher = CASES[name].teacher()
    reference = SentenceTransformer(str(save(teacher, tmp_path)), device="cpu")
    student = teacher.student(teacher.architecture)
    expected = torch.from_numpy(reference.encode(TEXTS))
    for size in (1, 3, 32):
        assert_close(student.encode(TEXTS, size), expected, atol=1e-5, rtol=0)


def test_a_declared_prompt_comes_before_each_text(tmp_path: Path) -> None:
    plain = CASES["bert-sentences"].teacher()
    settings = {"prompts": {"query": "w7 w8 "}, "default_prompt_name": "query"}
    assert plain.pooling is not None
    teacher = replace(plain, pooling=replace(plain.pooling, settings=settings))
    reference = SentenceTransformer(str(save(teacher, tmp_path)), device="cpu")
    student = teacher.student(teacher.architecture)
    for prompt in (None, "", "w9 "):
        expected = torch.from_numpy(reference.encode(TEXTS[:5], prompt=prompt))
        assert_close(student.encode(TEXTS[:5], prompt=prompt), expected, atol=1e-5, rtol=0)


def plain(student: Student, *given: Any, **options: Any) -> Any:
    """What transformers alone says of one input."""
    limit = {"truncation": True, "max_length": 32}
    read = student.tokenizer(*given, return_tensors="pt", **limit, **options)
    with torch.no_grad():
        return student.model(**read)


@pytest.mark.parametrize("name", ["bert-texts", "llama-texts", "gpt2-text-classification"])
def test_classes_are_those_of_transformers(name: str) -> None:
    student = whole(name)
    expected = torch.cat([plain(student, one).logits for one in TEXTS])
    assert_close(student.predict(TEXTS, 4), expected, atol=1e-5, rtol=0)


def test_pairs_are_read_as_pairs() -> None:
    student = whole("bert-texts")
    pairs = [(one, two) for one, two in zip(TEXTS[:4], TEXTS[4:8], strict=True)]
    expected = torch.cat([plain(student, *one).logits for one in pairs])
    assert_close(student.predict(pairs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["bert-tokens", "llama-causal-grouped", "bert-questions"])
def test_tokens_have_one_row_each_and_padding_is_minus_infinity(name: str) -> None:
    student = whole(name)
    words = [one.split() for one in TEXTS[:5]]
    found = student.predict(words, 2)
    for row, one in zip(found, words, strict=True):
        output = plain(student, one, is_split_into_words=True)
        spans = "start_logits" in output
        ends = [output.start_logits, output.end_logits] if spans else []
        expected = torch.stack(ends, -1) if spans else output.logits
        count = expected.shape[1]
        assert_close(row[:count], expected[0], atol=1e-5, rtol=0)
        assert bool((row[count:] == -torch.inf).all())


def test_arguments_of_the_forward_are_read_as_they_are() -> None:
    student = whole("bert-texts")
    read = student.tokenizer(TEXTS[:4], truncation=True, max_length=32)
    assert torch.equal(student.predict(read), student.predict(TEXTS[:4]))
    padded = student.tokenizer(TEXTS[:4], padding=True, return_tensors="pt")
    assert_close(student.predict(padded), student.predict(TEXTS[:4]))


def test_images_are_read_by_the_image_processor() -> None:
    student = whole("vit-image-classification")
    shades = np.random.default_rng(0).integers(0, 255, (3, 12, 12, 3), dtype=np.uint8)
    images = [Image.fromarray(one) for one in shades]
    with torch.no_grad():
        expected = student.model(**student.processor(images=images, return_tensors="pt")).logits
    assert_close(student.predict(images, 2), expected, atol=1e-5, rtol=0)


def generated(student: Student, tokens: int, **read: Any) -> str:
    """What transformers alone generates of one input."""
    model: Any = student.model
    pad = student.tokenizer.pad_token_id
    ids = model.generate(**read, max_new_tokens=tokens, do_sample=False, pad_token_id=pad)
    start = 0 if model.config.is_encoder_decoder else read["input_ids"].shape[1]
    return str(student.tokenizer.decode(ids[0, start:], skip_special_tokens=True))


@pytest.mark.parametrize(
    "name", ["llama-causal-tied", "gpt2-text-generation", "t5-text2text-generation"]
)
def test_text_is_that_of_transformers(name: str) -> None:
    student, prompts = whole(name), TEXTS[:6]
    reads = [student.tokenizer(one, return_tensors="pt") for one in prompts]
    known = {"input_ids", "attention_mask"}
    expected = [
        generated(student, 6, **{n: v for n, v in read.items() if n in known}) for read in reads
    ]
    assert any(expected)
    assert student.generate(prompts, 6, batch_size=4) == expected


def test_a_long_prompt_is_read_from_its_end() -> None:
    student = whole("gpt2-text-generation")
    last = student.tokenizer(TEXTS[-1], return_tensors="pt")["input_ids"][:, -27:]
    expected = generated(student, 5, input_ids=last, attention_mask=torch.ones_like(last))
    assert student.generate(TEXTS[-1:], 5) == [expected]


def test_recordings_are_read_by_the_feature_extractor() -> None:
    student = whole("whisper-automatic-speech-recognition")
    sounds_of = WhisperFeatureExtractor(feature_size=6, chunk_length=1, hop_length=1000)
    student = replace(student, processor=WhisperProcessor(sounds_of, student.tokenizer))
    sounds = [np.random.default_rng(n).normal(size=16000).astype(np.float32) for n in range(3)]
    found = student.generate(sounds, 5)
    named = [{"array": one, "sampling_rate": 16000} for one in sounds]
    assert student.generate(named, 5, batch_size=1) == found
    read = student.processor.feature_extractor(sounds, sampling_rate=16000, return_tensors="pt")
    model: Any = student.model
    ids = model.generate(**read, max_new_tokens=5, do_sample=False)
    assert found == student.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_what_a_model_cannot_do_is_refused() -> None:
    student = whole("bert-texts")
    with pytest.raises(Unsupported, match=r"^BertForSequenceClassification: it makes no sentence"):
        student.encode(TEXTS)
    with pytest.raises(Unsupported, match=r"^BertForSequenceClassification: it generates no text$"):
        student.generate(TEXTS)
    with pytest.raises(BadInput, match=r"^no texts; expected one or more$"):
        student.predict([])
    with pytest.raises(Unsupported, match=r"^BertModel: it has no logits; use encode$"):
        whole("bert").predict(TEXTS)


def test_a_student_is_left_as_it_was() -> None:
    teacher: Teacher = CASES["bert-sentences"].teacher()
    student = teacher.student(teacher.architecture)
    student.module.train()
    vectors = student.encode(TEXTS[:3])
    assert student.model.training
    assert torch.is_grad_enabled()
    assert not vectors.is_inference()
    assert torch.equal(student.encode(TEXTS[:3]), vectors)  # without dropout
