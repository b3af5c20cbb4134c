"""What students inherit can be saved, or that is known before any student is trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizer

from protege.spaces import BadInput, Teacher
from protege.spaces.students.student import check_saves, savable
from tests.tiny import CASES, VOCABULARY, ZOO, batch, save

FEWER = VOCABULARY - 1

LOADED: dict[str, dict[str, Any]] = {
    "temperature, greedy": {"do_sample": False, "temperature": 0.7},
    "nucleus, unsaid": {"top_p": 0.9, "top_k": 5},
    "beam fields, one beam": {"num_beams": 1, "early_stopping": True, "length_penalty": 2.0},
    "sampling fields, beams": {"num_beams": 4, "num_return_sequences": 3, "typical_p": 0.3},
    "a beam field, sampling": {"do_sample": True, "temperature": 0.3, "length_penalty": 2.0},
    "a pad id of -1": {"pad_token_id": -1},
}
"""Generation configs that transformers loads with a warning."""


def loaded(folder: Path, kind: str, fields: dict[str, Any]) -> Teacher:
    """A teacher whose files say more of how it generates than its class does."""
    save(ZOO[kind].teacher(), folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return Teacher.load(folder)


@pytest.mark.parametrize("kind", LOADED)
def test_a_student_of_fewer_tokens_saves_how_its_teacher_generates(
    kind: str, tmp_path: Path
) -> None:
    teacher = loaded(tmp_path / "teacher", "llama-causal-grouped", LOADED[kind])
    check_saves(teacher, FEWER)
    own = replace(teacher.architecture, vocab_size=FEWER, healing="none")
    student = teacher.student(own)
    again = Teacher.load(student.save(tmp_path / "student")).model.generation_config
    told, kept = teacher.model.generation_config, {"do_sample", "num_beams", "num_return_sequences"}
    assert {name: getattr(again, name) for name in kept} == {
        name: getattr(told, name) for name in kept
    }
    if told.do_sample:
        assert again.temperature == told.temperature


@pytest.mark.parametrize(
    "kind", ["whisper-automatic-speech-recognition", "t5-text2text-generation"]
)
def test_so_does_one_that_reads_sound_or_writes_text_from_text(kind: str, tmp_path: Path) -> None:
    teacher = loaded(tmp_path / "teacher", kind, {"temperature": 0.3, "max_length": 7})
    own = replace(teacher.architecture, vocab_size=FEWER, healing="none")
    saved = teacher.student(own).save(tmp_path / "student")
    assert GenerationConfig.from_pretrained(saved).max_length == 7


def test_fields_of_generation_in_an_old_config_are_saved_with_the_student(tmp_path: Path) -> None:
    save(ZOO["bart-text2text-generation"].teacher(), tmp_path / "teacher")
    (tmp_path / "teacher" / "generation_config.json").unlink()
    file = tmp_path / "teacher" / "config.json"
    old = {"early_stopping": True, "length_penalty": 2.0, "no_repeat_ngram_size": 3}
    file.write_text(json.dumps(json.loads(file.read_text()) | old))
    teacher = Teacher.load(tmp_path / "teacher")
    own = replace(teacher.architecture, vocab_size=FEWER, healing="none")
    saved = teacher.student(own).save(tmp_path / "student")
    assert GenerationConfig.from_pretrained(saved).no_repeat_ngram_size == 3


def test_what_is_left_out_changes_no_text(tmp_path: Path) -> None:
    teacher = loaded(tmp_path / "teacher", "llama-causal-grouped", LOADED["temperature, greedy"])
    config = GenerationConfig(**{**teacher.model.generation_config.to_dict(), "max_new_tokens": 5})
    generate: Any = teacher.model.generate
    with torch.inference_mode():
        texts = [
            generate(**batch(), generation_config=one).tolist() for one in (config, savable(config))
        ]
    assert texts[0] == texts[1]


def test_a_config_that_can_be_saved_is_left_as_it_is() -> None:
    config = GenerationConfig(do_sample=True, temperature=0.5, top_p=0.9, eos_token_id=[3, 4])
    assert savable(config) is config


def test_a_config_changed_in_a_study_file_is_saved_too(tmp_path: Path) -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    teacher.model.generation_config.temperature = 0.4
    teacher.student(teacher.architecture).save(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 3


class Words(PreTrainedTokenizer):
    """A tokenizer in Python that copies its words from a file, which has gone."""

    @property
    def vocab_size(self) -> int:
        return VOCABULARY

    def get_vocab(self) -> dict[str, int]:
        return {f"w{number}": number for number in range(VOCABULARY)}

    def save_vocabulary(self, save_directory: str, _prefix: str | None = None) -> tuple[str]:
        return (str(shutil.copy("words-that-are-gone.txt", save_directory)),)


def with_tokenizer(teacher: Teacher) -> Teacher:
    made: Any = Words
    return replace(teacher, processor=made())


def with_config(teacher: Teacher) -> Teacher:
    teacher.model.config.made_with = {1, 2, 3}  # no JSON value
    return teacher


@pytest.mark.parametrize(
    ("changed", "names"), [(with_tokenizer, "Words"), (with_config, "configuration")]
)
def test_what_cannot_be_saved_is_told_in_one_line(changed: Any, names: str) -> None:
    teacher = changed(CASES["bert-texts"].teacher())
    message = rf"^the teacher's {names} cannot be saved, so no student could be: \w+: .*; fix it"
    with pytest.raises(BadInput, match=message) as error:
        check_saves(teacher, VOCABULARY)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [*CASES, "vit-image-classification", "gpt2-text-generation"])
def test_every_kind_of_teacher_passes(kind: str) -> None:
    teacher = ZOO[kind].teacher()
    check_saves(teacher, teacher.architecture.vocab_size)
