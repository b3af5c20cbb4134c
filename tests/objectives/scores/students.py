"""Tiny students and random data for the ready-made scores."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from transformers import WhisperFeatureExtractor, WhisperProcessor

from protege.objectives import Measurement, Score
from protege.spaces import Student
from tests.tiny import WORDS, ZOO

Row = dict[str, Any]


@cache
def student_of(name: str) -> Student:
    """The student at ratio 1.0 of a tiny teacher; tests leave it as it is."""
    teacher = ZOO[name].teacher()
    return teacher.student(teacher.architecture)


def listener() -> Student:
    """The student of a tiny speech recogniser, whose features are of the length that it reads."""
    teacher = ZOO["whisper-automatic-speech-recognition"].teacher()
    sounds = WhisperFeatureExtractor(feature_size=6, chunk_length=1, hop_length=1000)
    processor = WhisperProcessor(sounds, teacher.tokenizer)
    return replace(teacher.student(teacher.architecture), processor=processor)


def sentences(seed: int, count: int, longest: int = 8) -> list[str]:
    """Distinct texts of one to so many words."""
    generator = np.random.default_rng(seed)
    found: dict[str, None] = {}
    while len(found) < count:
        words = generator.choice(WORDS, generator.integers(1, longest + 1))
        found[" ".join(words)] = None
    return list(found)


def result(score: Score, student: Student) -> Measurement:
    """What the score's function says of a student, as a measurement."""
    found = score.function(student)
    if isinstance(found, Measurement):
        return found
    return Score("own", lambda _: found, score.direction)._read(found)
