"""Perplexity, ROUGE-L and word error rate, against torchmetrics, rouge-score and jiwer."""

from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from scipy.io import wavfile
from torchmetrics.text import Perplexity
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from protege.objectives import scores
from protege.spaces import BadInput, Student
from tests.objectives.scores.students import Row, listener, result, sentences, student_of

SEEDS = st.integers(0, 10**6)


def doubled(name: str) -> Student:
    """A student that computes in float64."""
    student = student_of(name).copy()
    student.model.double()
    return student


@pytest.mark.parametrize("name", ["llama-causal-tied", "gpt2-text-generation"])
@given(seed=SEEDS, count=st.integers(2, 20))
def test_perplexity_is_that_of_torchmetrics(name: str, seed: int, count: int) -> None:
    student, texts = doubled(name), sentences(seed, count, 30)
    read = [student.tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
    metric = Perplexity().set_dtype(torch.float64)
    for ids in read:
        if ids.shape[1] > 1:
            with torch.no_grad():
                metric.update(student.model(input_ids=ids).logits[:, :-1], ids[:, 1:])
    if any(ids.shape[1] > 1 for ids in read):
        score = scores.perplexity([{"text": one} for one in texts])
        assert score.direction == "minimize"
        assert result(score, student).value == pytest.approx(float(metric.compute()), rel=1e-9)


def test_perplexity_of_an_encoder_decoder_is_that_of_its_targets() -> None:
    student, metric = doubled("t5-text2text-generation"), Perplexity().set_dtype(torch.float64)
    rows = [{"text": a, "target": b} for a, b in zip(sentences(0, 9), sentences(1, 9), strict=True)]
    for row in rows:
        read = student.tokenizer(row["text"], return_tensors="pt")
        labels = student.tokenizer(row["target"], return_tensors="pt")["input_ids"]
        given = {name: read[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            metric.update(student.model(**given, labels=labels).logits, labels)
    found = result(scores.perplexity(rows, target="target"), student)
    assert found.value == pytest.approx(float(metric.compute()), rel=1e-9)
    assert found.spread > 0
    with pytest.raises(BadInput, match=r"^an encoder-decoder needs texts to write: give target="):
        scores.perplexity(rows).function(student)


def test_a_model_that_writes_nothing_has_no_perplexity() -> None:
    with pytest.raises(
        BadInput, match=r"^BertForMaskedLM: it has no perplexity; it writes no text$"
    ):
        scores.perplexity([{"text": "w1 w2"}]).function(student_of("bert-masked"))


@given(seed=SEEDS, count=st.integers(2, 8))
def test_rouge_is_that_of_rouge_score(seed: int, count: int) -> None:
    student = student_of("llama-causal-tied")
    rows = [
        {"source": one, "target": two}
        for one, two in zip(sentences(seed, count), sentences(seed + 1, count), strict=True)
    ]
    said = student.generate([row["source"] for row in rows], 6)
    scorer = RougeScorer(["rougeL"])
    values = [
        scorer.score(row["target"], text)["rougeL"].fmeasure
        for row, text in zip(rows, said, strict=True)
    ]
    found = result(scores.rouge_l(rows, max_new_tokens=6), student)
    assert found.value == pytest.approx(np.mean(values), abs=1e-9)
    assert found.examples == pytest.approx(values, abs=1e-6)


def recordings(seed: int, count: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    waves = generator.normal(size=(count, 16000)).astype(np.float32)
    return [
        {"audio": {"array": wave, "sampling_rate": 16000}, "text": text}
        for wave, text in zip(waves, sentences(seed, count), strict=True)
    ]


@given(seed=SEEDS, count=st.integers(2, 6))
def test_word_errors_are_counted_as_by_jiwer(seed: int, count: int) -> None:
    rows, student = recordings(seed, count), listener()
    said = student.generate([row["audio"] for row in rows], 6)
    true = [row["text"] for row in rows]
    found = result(scores.word_error_rate(rows, max_new_tokens=6, normalize=False), student)
    assert found.value == pytest.approx(jiwer.wer(true, said), abs=1e-9)
    plain = BasicTextNormalizer()
    clean, heard = ([plain(one).strip() for one in part] for part in (true, said))
    shouted: list[Any] = [row | {"text": f"{row['text'].upper()}!"} for row in rows]
    again = scores.word_error_rate(shouted, max_new_tokens=6)
    assert again.direction == "minimize"
    assert result(again, student).value == pytest.approx(jiwer.wer(clean, heard), abs=1e-9)


def test_recordings_may_be_wav_files(tmp_path: Path) -> None:
    rows, student = recordings(0, 3), listener()
    files = []
    for number, row in enumerate(rows):
        path = tmp_path / f"{number}.wav"
        wavfile.write(path, 16000, row["audio"]["array"])
        files.append(row | {"audio": str(path)})
    bytes_of = [row | {"audio": {"bytes": Path(row["audio"]).read_bytes()}} for row in files]
    expected = result(scores.word_error_rate(rows, max_new_tokens=6), student)
    for data in (files, bytes_of):
        assert result(scores.word_error_rate(data, max_new_tokens=6), student) == expected
    with pytest.raises(BadInput, match=r"^row 0, column 'audio': not a WAV file that can be read"):
        scores.word_error_rate([{"audio": {"bytes": b"RIFF"}, "text": "w1"}])
    with pytest.raises(BadInput, match=r"^row 0, column 'audio': of type int; expected a WAV file"):
        scores.word_error_rate([{"audio": 3, "text": "w1"}])
