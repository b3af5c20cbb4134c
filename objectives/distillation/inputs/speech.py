"""Recordings and their texts as inputs of a speech recogniser."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from protege.objectives.data.example import Example
from protege.objectives.data.recording import RATE, Recording
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.pairs import decoder_batch
from protege.objectives.distillation.inputs.pictures import KEPT_BYTES, kept
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.spaces import BadInput
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
