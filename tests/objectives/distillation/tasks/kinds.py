"""Tiny teachers of every kind of head, each with data that fits it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from protege.objectives import Distillation, Examples, Images, Speech, Texts
from protege.spaces import Teacher
from tests.tiny import ZOO, texts

REGRESSION = {"problem_type": "regression"}
SEVERAL = {"problem_type": "multi_label_classification"}


@dataclass(frozen=True)
class Kind:
    """A teacher and data.

    Attributes:
        name: The teacher's name in the zoo.
        data: Makes the data.
        fields: Configuration fields of the teacher beside its own.
    """

    name: str
    data: Callable[[], Examples]
    fields: dict[str, Any]

    def teacher(self) -> Teacher:
        case = ZOO[self.name]
        teacher = replace(case, fields={**case.fields, **self.fields}).teacher()
        return told_apart(teacher) if case.model_type in {"bert", "electra"} else teacher

    def distillation(self, steps: int = 4, **changes: Any) -> Distillation:
        given: dict[str, Any] = {"batch_size": 8, "selection": 15, "max_tokens": 24}
        return Distillation(self.data(), steps, **(given | changes))


def told_apart(teacher: Teacher) -> Teacher:
    """The teacher with a tokenizer that tells the segments of a pair apart, as BERT's own does."""
    teacher.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return teacher


def drawn(count: int = 60) -> list[np.ndarray[Any, Any]]:
    """Images of noise in colour, none of the processor's size, no two alike."""
    generator = np.random.default_rng(0)
    sizes = [(10 + number % 5, 20 - number % 7, 3) for number in range(count)]
    return [generator.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def plain() -> Texts:
    return Texts.of(texts(60))


def pictures() -> Images:
    return Images.of(drawn())


def pairs() -> Texts:
    """Pairs of a short text and a longer one."""
    given = texts(60)
    return Texts.of((one, f"{other} {one}") for one, other in zip(given, given[::-1], strict=True))


def sounds(count: int = 60) -> list[np.ndarray[Any, Any]]:
    """Recordings of noise of a second at most, no two alike."""
    generator = np.random.default_rng(0)
    return [
        generator.normal(0, 0.1, 8000 + 100 * number).astype(np.float32) for number in range(count)
    ]


def speech() -> Speech:
    return Speech.of(sounds(), texts(60))


KINDS: dict[str, Kind] = {
    "score of a text": Kind("bert-texts", plain, {"num_labels": 1}),
    "score of a text by a decoder": Kind("llama-texts", plain, {"num_labels": 1}),
    "three scores of a text": Kind("roberta-text-classification", plain, REGRESSION),
    "score of an image": Kind("vit-image-classification", pictures, {"num_labels": 1}),
    "score of a pair": Kind("electra-text-classification", pairs, {"num_labels": 1}),
    "labels of a text": Kind("bert-texts", plain, SEVERAL),
    "labels of a text by a decoder": Kind("gpt2-text-classification", plain, SEVERAL),
    "labels of an image": Kind("deit-images", pictures, SEVERAL),
    "class of a pair": Kind("roberta-text-classification", pairs, {}),
    "answers": Kind("bert-questions", pairs, {}),
    "answers without segments": Kind("distilbert-question-answering", pairs, {}),
    "answers of a decoder": Kind("qwen2-question-answering", pairs, {}),
    "answers of a pair of stacks": Kind("bart-question-answering", pairs, {}),
    **{
        f"image by {name}": Kind(f"{name}-image-feature-extraction", pictures, {})
        for name in ("vit", "deit", "dinov2", "siglip_vision_model")
    },
    "speech": Kind("whisper-automatic-speech-recognition", speech, {}),
}
"""A teacher of each kind of head beside plain classes and language."""
