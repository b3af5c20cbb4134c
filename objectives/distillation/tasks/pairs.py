"""The distillation tasks of encoder-decoders, which write a text given another one or its sound."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from protege.objectives.data.example import Example
from protege.objectives.data.recording import Recording
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.pairs import Pairs
from protege.objectives.distillation.inputs.sequences import encoded, sequences, texts_of, tokens_in
from protege.objectives.distillation.inputs.speech import SpeechInputs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import TOP, Loss, Targets
from protege.objectives.distillation.tasks.language import LanguageTask, by_token
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import BadInput, Teacher, Unsupported


@dataclass(frozen=True)
class PairTask:
    """Next-token prediction on target texts, given the source text.

    The label of an example is its target text. The quality is the teacher's perplexity of the
    targets divided by the student's, with teacher forcing; nothing is generated.

    Attributes:
        temperature: Temperature of the teacher's distribution; see `LogitsKL`.
        top: Number of the teacher's most likely tokens to keep; see `LogitsKL`.
    """

    temperature: float = 1.0
    top: int | None = TOP

    @property
    def language(self) -> LanguageTask:
        """The next-token task that handles the decoder's outputs."""
        return LanguageTask(temperature=self.temperature, top=self.top)

    @property
    def name(self) -> str:
        return f"answer-{self.language.name}"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return self.language.losses

    @property
    def full_rate_distance(self) -> float:
        return self.language.full_rate_distance

    def size(self, example: Example, max_tokens: int) -> float:  # noqa: ARG002 - one pair, one sequence
        return 1.0

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        texts, answers = texts_of(examples, teacher), [written_text(one) for one in examples]
        given = encoded(teacher, texts, max_tokens)["input_ids"]
        # `text_target`: multilingual tokenizers encode targets in the target language
        limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
        target_ids: Any = teacher.tokenizer(text_target=answers, **limit)["input_ids"]
        read = sequences(teacher, given, None, [0] * len(given))
        written = [[_start(teacher, one), *one] for one in target_ids]
        scored = [[True] * len(one) + [False] for one in target_ids]
        labels = [token for one in target_ids for token in one]
        return Pairs.of(read, sequences(teacher, written, scored, labels))

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        pairs = _pairs_in(inputs)
        written, answers = self.language.mapped(pairs.written, targets, vocabulary_map)
        return Pairs.of(vocabulary_map.mapped(pairs.read), tokens_in(written)), answers

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        return self.language.answer(module, batch)

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return self.language.targets(answer, labels)

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        return self.language.scores(answer, targets, labels)

    def score(self, scores: Scores) -> TaskScore:
        return self.language.score(scores)


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


def written_text(example: Example) -> str:
    """Return the target text of an example.

    Raises:
        BadInput: The label is not a text.
    """
    if not isinstance(example.label, str):
        given = "no label" if example.label is None else f"the label {example.label!r:.40}"
        raise BadInput(
            f"{example.content!r:.40}: {given}; expected the target text that is to be generated"
        )
    return example.label


def _start(teacher: Teacher, answer: list[int]) -> int:
    """Return the decoder's start token for a target.

    Raises:
        Unsupported: The model does not define it.
    """
    shift: Any = getattr(teacher.model, "prepare_decoder_input_ids_from_labels", None)
    if shift is not None:
        return int(shift(labels=torch.tensor([answer]))[0, 0])
    # M2M100 shifts its labels itself
    start = getattr(teacher.config, "decoder_start_token_id", None)
    if start is None:
        raise Unsupported(
            f"{type(teacher.model).__name__}: the decoder's start token is unknown; expected a "
            "model with a decoder_start_token_id in its configuration, such as T5 or BART"
        )
    return int(start)


def _pairs_in(inputs: TaskInputs) -> Pairs:
    """Narrow the type to pairs.

    Raises:
        Unsupported: The inputs are not pairs.
    """
    if not isinstance(inputs, Pairs):
        raise Unsupported(f"{type(inputs).__name__}: expected pairs of a text and its answer")
    return inputs


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
