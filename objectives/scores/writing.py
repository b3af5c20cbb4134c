"""Scores of models that write: perplexity, summaries and transcripts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.measurement import Measurement
from protege.objectives.quality.score import Indices, Score, of_statistic
from protege.objectives.scores.metric import Options, check_installed, cut_at, score
from protege.spaces import BadInput, Student

BATCH = 8
"""Texts at a time whose logits over the whole vocabulary are in memory."""


@dataclass(frozen=True)
class Perplexity:
    """Perplexity of a language model on texts, or on target texts given source texts.

    Attributes:
        table: Columns ``text`` and, for encoder-decoders, ``target``.
    """

    table: Table

    def __call__(self, student: Student) -> Measurement:
        found = np.array([*self._losses(student)])
        losses, counts = found.T

        def statistic(kept: Indices) -> float:
            return float(np.exp(losses[kept].sum() / counts[kept].sum()))

        return of_statistic(statistic, len(found), "minimize")

    def _losses(self, student: Student) -> Iterator[tuple[float, int]]:
        """Yield the summed loss in nats and the number of predicted tokens of each text."""
        reads = _teacher_forced if student.model.config.is_encoder_decoder else _causal
        if not student.model.can_generate():
            kind = type(student.model).__name__
            raise BadInput(f"{kind}: it has no perplexity; it writes no text")
        texts = [
            self.table.texts(role) for role in ("text", "target") if role in self.table.columns
        ]
        for begin in range(0, len(self.table), BATCH):
            columns, targets = reads(student, [one[begin : begin + BATCH] for one in texts])
            logits = student.predict(columns, BATCH)
            for row, ids in zip(logits, targets, strict=True):
                loss = cross_entropy(
                    row[: len(ids)], torch.tensor(ids, dtype=torch.long), reduction="sum"
                )
                yield float(loss), len(ids)


def _causal(student: Student, texts: list[list[str]]) -> tuple[dict[str, Any], list[list[int]]]:
    """Return the inputs of a decoder and the token after each of them."""
    read = student.tokenizer(texts[0], **cut_at(student))
    given = {name: read[name] for name in ("input_ids", "attention_mask")}
    return given, [ids[1:] for ids in read["input_ids"]]


def _teacher_forced(
    student: Student, texts: list[list[str]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """Return the inputs of encoder and decoder, and the token that the decoder is to predict."""
    if len(texts) < 2:
        raise BadInput("an encoder-decoder needs texts to write: give target=, their column")
    read = student.tokenizer(texts[0], **cut_at(student))
    targets = student.tokenizer(text_target=texts[1], **cut_at(student))["input_ids"]
    start = student.model.config.decoder_start_token_id
    written = [[start, *ids[:-1]] for ids in targets]
    given = {name: read[name] for name in ("input_ids", "attention_mask")}
    mask = [[1] * len(ids) for ids in written]
    return given | {"decoder_input_ids": written, "decoder_attention_mask": mask}, targets


def perplexity(
    data: Data, *, text: str = "text", target: str | None = None, **options: Unpack[Options]
) -> Score:
    """Return the perplexity of all tokens together; its standard error is by the jackknife.

    Args:
        data: Texts; a text longer than the student reads is truncated.
        text: Column of the texts.
        target: Column of the texts to write, for encoder-decoders.
        options: See `Options`.
    """

    def metric(given: Data) -> Perplexity:
        return Perplexity(Table.of(given, text=text, target=target))

    return score("perplexity", metric, data, "minimize", **options)


@dataclass(frozen=True)
class RougeL:
    """F1 of the longest common subsequence of generated and target texts.

    Attributes:
        table: Columns ``source`` and ``target``.
        max_new_tokens: Maximum tokens of a generated text.
    """

    table: Table
    max_new_tokens: int

    def __call__(self, student: Student) -> list[float]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"])
        said = student.generate(self.table.texts("source"), self.max_new_tokens)
        pairs = zip(self.table.texts("target"), said, strict=True)
        return [float(scorer.score(*pair)["rougeL"].fmeasure) for pair in pairs]


def rouge_l(
    data: Data,
    *,
    source: str = "source",
    target: str = "target",
    max_new_tokens: int = 64,
    **options: Unpack[Options],
) -> Score:
    """Return the mean ROUGE-L of greedily generated texts (rouge-score, without stemming).

    Args:
        data: Source texts with target texts.
        source: Column of what the model reads.
        target: Column of what it is to write.
        max_new_tokens: Maximum tokens of a generated text.
        options: See `Options`.
    """
    check_installed("rouge_score", "rouge-score")

    def metric(given: Data) -> RougeL:
        return RougeL(Table.of(given, source=source, target=target), max_new_tokens)

    return score("rouge_l", metric, data, **options)


@dataclass(frozen=True)
class WordErrorRate:
    """Word error rate of greedily generated transcripts.

    Attributes:
        table: Columns ``audio`` and ``text``.
        max_new_tokens: Maximum tokens of a transcript.
        normalize: Whether case and punctuation are ignored.
    """

    table: Table
    max_new_tokens: int
    normalize: bool = True

    def __call__(self, student: Student) -> Measurement:
        from jiwer import wer

        said = self._plain(student.generate(self.table.columns["audio"], self.max_new_tokens))
        true = self._plain(self.table.texts("text"))

        def statistic(kept: Indices) -> float:
            return float(wer([true[n] for n in kept], [said[n] for n in kept]))

        return of_statistic(statistic, len(true), "minimize")

    def _plain(self, texts: Sequence[str]) -> list[str]:
        from transformers.models.whisper.english_normalizer import BasicTextNormalizer

        plain = BasicTextNormalizer()
        return [plain(one).strip() if self.normalize else one for one in texts]


def word_error_rate(
    data: Data,
    *,
    audio: str = "audio",
    text: str = "text",
    max_new_tokens: int = 128,
    normalize: bool = True,
    **options: Unpack[Options],
) -> Score:
    """Return the word error rate of a speech recogniser (jiwer).

    Its standard error is by the jackknife.

    Args:
        data: Recordings with their transcripts.
        audio: Column of the recordings: WAV files, or mappings with ``array`` and
            ``sampling_rate``.
        text: Column of the transcripts.
        max_new_tokens: Maximum tokens of a transcript.
        normalize: Whether case and punctuation are ignored, as by Whisper's basic normalisation.
        options: See `Options`.
    """
    check_installed("jiwer")

    def metric(given: Data) -> WordErrorRate:
        return WordErrorRate(Table.of(given, audio=audio, text=text), max_new_tokens, normalize)

    return score("word_error_rate", metric, data, "minimize", **options)
