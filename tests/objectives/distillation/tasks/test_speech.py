"""Models of speech are asked for each token of what is said, as they were trained to."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from protege.objectives import Distillation, Example, LogitsKL, Speech
from protege.objectives.data import Recording
from protege.objectives.distillation.inputs.speech import SpeechInputs
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.pairs import SpeechTask
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.spaces import BadInput, Teacher
from protege.spaces.models.batches import IMAGE
from tests.objectives.distillation.tasks.kinds import sounds, speech
from tests.tiny import ZOO, texts

TASK = SpeechTask()


def whisper() -> Teacher:
    return ZOO["whisper-automatic-speech-recognition"].teacher()


def asked(teacher: Teacher, *examples: Example) -> SpeechInputs:
    found = TASK.inputs(teacher, examples or list(speech())[:12], 16)
    assert isinstance(found, SpeechInputs)
    return found


def test_the_loss_of_what_is_said_is_the_models_own() -> None:
    teacher = whisper()
    inputs = asked(teacher)
    for batch in inputs.in_order(5):
        labels = torch.full(batch.scored.shape, NO_LABEL)
        labels[batch.scored] = inputs.labels[batch.rows]
        with torch.inference_mode():
            own = teacher.model(**batch.inputs, labels=labels).loss
            mine = TASK.answer(teacher.model, batch)
        torch.testing.assert_close(cross_entropy(mine, inputs.labels[batch.rows]), own)


def test_the_decoder_reads_the_start_and_what_was_said_before() -> None:
    teacher = whisper()
    inputs = asked(teacher, Example(Recording.of(sounds(1)[0]), "w1 w2"))
    batch, ids = inputs.batch([0]), teacher.tokenizer.convert_ids_to_tokens
    assert ids(batch.inputs["decoder_input_ids"][0].tolist()) == ["[CLS]", "w1", "w2"]
    assert ids(inputs.labels.tolist()) == ["w1", "w2", "[SEP]"]
    features = teacher.processor.feature_extractor(
        sounds(1), sampling_rate=16000, return_tensors="pt"
    )
    assert torch.equal(batch.inputs["input_features"], features["input_features"])
    assert inputs.lengths.tolist() == [IMAGE]


def test_tokens_that_select_language_and_mode_are_given() -> None:
    teacher = whisper()
    teacher.tokenizer.add_special_tokens({"extra_special_tokens": ["w7", "w8"]})
    inputs = asked(teacher, Example(Recording.of(sounds(1)[0]), "w7 w8 w1"))
    tokens = teacher.tokenizer.convert_ids_to_tokens(inputs.labels.tolist())
    assert tokens == ["w1", "[SEP]"]
    assert inputs.batch([0]).scored.tolist() == [[False, False, True, True]]


def test_features_that_do_not_fit_are_computed_batch_by_batch() -> None:
    held = asked(whisper())
    assert held.features is not None
    apart = replace(held, kept_bytes=held.features.nbytes - 1)
    assert apart.features is None
    assert apart.first(3).kept_bytes == apart.kept_bytes
    assert torch.equal(held.checks, apart.checks)
    assert held.first(3).fingerprint == asked(whisper(), *list(speech())[:3]).fingerprint


@pytest.mark.parametrize("part", ["sound", "text"])
def test_another_recording_or_text_is_another_question(part: str) -> None:
    first, other = sounds(2)
    plain = asked(whisper(), Example(Recording.of(first), "w1 w2"))
    changed = Example(Recording.of(other if part == "sound" else first), "w1 w2")
    changed = replace(changed, label="w1 w3 w4") if part == "text" else changed
    assert asked(whisper(), changed).fingerprint != plain.fingerprint
    assert asked(whisper(), changed).checks.tolist() != plain.checks.tolist()


def test_the_quality_is_the_share_of_equal_next_tokens() -> None:
    teacher = whisper()
    inputs = asked(teacher)
    targets = compute_outputs(teacher.model, TASK, inputs)
    assert TASK.score(judge(teacher.model, TASK, inputs, targets)).value == 1
    other = ZOO["whisper-automatic-speech-recognition"].teacher(seed=1).model
    score = TASK.score(judge(other, TASK, inputs, targets))
    batch = inputs.batch(range(len(inputs)))
    with torch.inference_mode():
        both = [TASK.answer(model, batch).argmax(-1) for model in (other, teacher.model)]
    assert score.value == pytest.approx(float((both[0] == both[1]).double().mean()))
    assert score.value == pytest.approx(score.figures["top1_agreement"])


def test_with_every_token_kept_a_student_is_asked_the_same() -> None:
    teacher = whisper()
    inputs = asked(teacher)
    targets = compute_outputs(teacher.model, TASK, inputs)
    kept = tuple(range(teacher.architecture.vocab_size))
    whole = VocabularyMap.of(teacher, teacher.model, teacher.tokenizer, kept)
    same, answers = TASK.mapped(inputs, targets, whole)
    assert same.fingerprint == inputs.fingerprint
    assert TASK.score(judge(teacher.model, TASK, same, answers)).value == 1


def test_the_temperature_asked_for_is_the_one_that_is_cached() -> None:
    soft = Distillation(speech(), losses=(LogitsKL(temperature=2.0),))
    assert soft.tuned(TASK) == SpeechTask(temperature=2.0)
    assert soft.tuned(TASK).name != TASK.name


def test_a_recording_that_is_too_long_is_refused() -> None:
    long = Example(Recording.of(np.zeros(20_000, np.float32)), "w1")
    with pytest.raises(BadInput, match=r"a recording of 1\.2 s: the teacher reads 1 s; cut longer"):
        asked(whisper(), long).batch([0])


def test_texts_and_recordings_without_one_are_refused() -> None:
    with pytest.raises(BadInput, match="'w1': no recording; a teacher of speech needs recordings"):
        asked(whisper(), Example("w1", "w2"))
    with pytest.raises(BadInput, match="no label; expected the target text"):
        asked(whisper(), Example(Recording.of(sounds(1)[0])))


def test_recordings_come_with_their_texts() -> None:
    with pytest.raises(BadInput, match="2 recordings with 1 labels; expected one each"):
        Speech.of(sounds(2), texts(1))
