"""The distillation task of speech recognition, on recordings and their texts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.data.recording import RATE, Recording
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.pictures import KEPT_BYTES, kept
from protege.objectives.distillation.inputs.sequences import Sequences, sequences, tokens_in
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import Targets
from protege.objectives.distillation.tasks.language import by_token
from protege.objectives.distillation.tasks.pairs import PairTask, decoder_batch, written_text
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import BadInput, Teacher, Unsupported
from protege.spaces.files.hashing import digest
from protege.spaces.models.batches import IMAGE


@dataclass(frozen=True, eq=False)
class SpeechInputs(TaskInputs):
    """Recordings and the texts that are said.

    Attributes:
        recordings: The recordings.
        extractor: The teacher's feature extractor.
        written: Decoder ids: the start tokens, then the text and the end token.
        ids: The same ids, concatenated.
        lengths: Cost of each recording in tokens, ``(recordings,)``.
        labels: The token of each row, ``(rows,)``.
        kept_bytes: Maximum bytes of features in memory; beyond it every batch computes its own.
    """

    recordings: tuple[Recording, ...]
    extractor: Any
    written: Sequences
    ids: Tensor
    lengths: Tensor
    labels: Tensor
    kept_bytes: int = KEPT_BYTES

    @classmethod
    def of(
        cls, recordings: tuple[Recording, ...], extractor: Any, written: Sequences
    ) -> "SpeechInputs":
        """Return recordings with what the decoder reads and writes."""
        lengths = (written.lengths - 1).clamp(min=IMAGE)
        return cls(recordings, extractor, written, written.ids, lengths, written.labels)

    @cached_property
    def fingerprint(self) -> str:
        identities = [Example(recording).identity for recording in self.recordings]
        made = json.dumps(self.extractor.to_dict(), sort_keys=True, default=str).encode()
        return digest(*identities, made, self.written.fingerprint.encode())

    @property
    def row_starts(self) -> Tensor:
        return self.written.row_starts

    @cached_property
    def features(self) -> Tensor | None:
        """Spectrograms, ``(recordings, bins, frames)``; None if above `kept_bytes`."""
        return kept(len(self), self.kept_bytes, self._computed)

    def first(self, count: int) -> "SpeechInputs":
        if count >= len(self):
            return self
        few = self.of(self.recordings[:count], self.extractor, self.written.first(count))
        return replace(few, kept_bytes=self.kept_bytes)

    def batch(self, numbers: Sequence[int]) -> Batch:
        features = self.features
        found = self._computed(numbers) if features is None else features[list(numbers)]
        written = decoder_batch(self.written, numbers)
        return replace(written, inputs={"input_features": found, **written.inputs})

    def _computed(self, numbers: Sequence[int]) -> Tensor:
        """Compute spectrograms of the teacher's fixed length.

        Raises:
            BadInput: A recording is longer.
        """
        samples = [self.recordings[number].samples() for number in numbers]
        longest = max(map(len, samples))
        if longest > self.extractor.n_samples:
            raise BadInput(
                f"a recording of {longest / RATE:.1f} s: the teacher reads "
                f"{self.extractor.n_samples / RATE:g} s; cut longer ones, with their texts"
            )
        found: Tensor = self.extractor(samples, sampling_rate=RATE, return_tensors="pt")[
            "input_features"
        ]
        return found


@dataclass(frozen=True)
class SpeechTask(PairTask):
    """Speech recognition with teacher forcing: the next token of the text that is said.

    The quality is the share of tokens for which the student's first choice is the teacher's, given
    the recording and the tokens before; nothing is generated. The tokens that select language and
    mode are given.
    """

    @property
    def name(self) -> str:
        return f"speech-{self.language.name}"

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        recordings = tuple(_recording_in(example) for example in examples)
        texts = [written_text(example) for example in examples]
        limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
        ids: Any = teacher.tokenizer(texts, **limit)["input_ids"]
        start = teacher.config.decoder_start_token_id
        special = set(teacher.tokenizer.all_special_ids)
        written = [one if one[:1] == [start] else [start, *one] for one in ids]
        scored, labels = [], list[int]()
        for one in written:
            said = (at for at, token in enumerate(one[:-1]) if token not in special)
            begin = max(1, next(said, len(one) - 1))
            scored.append([at + 1 >= begin for at in range(len(one) - 1)] + [False])
            labels += one[begin:]
        extractor = teacher.processor.feature_extractor
        return SpeechInputs.of(recordings, extractor, sequences(teacher, written, scored, labels))

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        if not isinstance(inputs, SpeechInputs):
            raise Unsupported(f"{type(inputs).__name__}: expected recordings and their texts")
        written, answers = self.language.mapped(inputs.written, targets, vocabulary_map)
        own = SpeechInputs.of(inputs.recordings, inputs.extractor, tokens_in(written))
        return replace(own, kept_bytes=inputs.kept_bytes), answers

    def score(self, scores: Scores) -> TaskScore:
        same = (by_token(scores)["misses"] == 0).double()
        return TaskScore(
            value=float(same.mean()),
            spread=standard_error(same),
            figures=super().score(scores).figures,
            rows=same,
        )


def _recording_in(example: Example) -> Recording:
    """Return the recording of an example.

    Raises:
        BadInput: The example has none.
    """
    if not isinstance(example.content, Recording):
        raise BadInput(
            f"{example.text!r:.40}: no recording; a teacher of speech needs recordings and their "
            "texts; give Speech"
        )
    return example.content
