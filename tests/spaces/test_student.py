"""A saved student is a plain checkpoint: whatever loads its teacher's kind loads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from torch.testing import assert_close
from transformers import PreTrainedModel

from protege.spaces import Activation, Calibration, Ends, Pooling, Student, Task, Teacher
from protege.spaces.student import MANIFEST
from tests.tiny import CASES, Case, answer, batch, save, texts

SENTENCES = {name: case for name, case in CASES.items() if case.task is Task.SENTENCES}
DECODERS = {name: case for name, case in CASES.items() if case.task is Task.GENERATION}


def smaller(teacher: Teacher) -> Student:
    """A student that is smaller in every way."""
    heads = 1.0 if teacher.family.heads_follow_hidden else 0.5
    architecture = teacher.architecture.scaled(
        layers=0.5, hidden=0.5, heads=heads, intermediate=0.5, multiple_of=4, layer_policy=Ends()
    )
    student = teacher.student(architecture)
    with torch.no_grad():  # as if trained: nothing that is saved can come from the teacher
        for parameter in student.module.parameters():
            parameter.mul_(1.25)
    return student


def test_what_is_loaded_again_is_what_was_saved(teacher: Teacher, tmp_path: Path) -> None:
    student = smaller(teacher)
    student.save(tmp_path)
    loaded = getattr(transformers, teacher.task.auto_class).from_pretrained(tmp_path)
    assert type(loaded) is type(teacher.model)
    mine, theirs = student.model.state_dict(), loaded.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_a_saved_student_can_be_a_teacher(teacher: Teacher, tmp_path: Path) -> None:
    student = smaller(teacher)
    loaded = Teacher.load(student.save(tmp_path), task=teacher.task)
    assert torch.equal(answer(loaded), answer(student))
    assert loaded.architecture.sizes() == student.architecture.sizes()
    assert loaded.tokenizer("w1 w2")["input_ids"] == teacher.tokenizer("w1 w2")["input_ids"]


@pytest.mark.parametrize("name", ["bert-masked", "llama-causal-tied"])
def test_tied_weights_share_their_storage(name: str, tmp_path: Path) -> None:
    teacher = CASES[name].teacher()
    student = smaller(teacher)
    auto_class = getattr(transformers, teacher.task.auto_class)
    for model in (student.model, auto_class.from_pretrained(student.save(tmp_path))):
        inputs, outputs = embeddings(model)
        assert inputs.data_ptr() == outputs.data_ptr()


def test_untied_weights_stay_apart() -> None:
    inputs, outputs = embeddings(smaller(CASES["llama-causal-grouped"].teacher()).model)
    assert not torch.equal(inputs, outputs)


def embeddings(model: PreTrainedModel) -> list[Tensor]:
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [end.weight for end in ends]


@pytest.mark.parametrize("case", DECODERS.values(), ids=DECODERS)
def test_a_decoder_writes_the_same_with_its_cache_and_without(case: Case) -> None:
    model: Any = smaller(case.teacher()).model
    prompt = batch(sequences=1)["input_ids"]
    written = [
        model.generate(prompt, max_new_tokens=8, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert written[0].shape[1] > prompt.shape[1]
    assert torch.equal(*written)


def test_a_decoder_keeps_how_its_teacher_ends_and_samples(tmp_path: Path) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    teacher.model.generation_config.update(eos_token_id=[3, 4], do_sample=True, temperature=0.7)
    student = smaller(teacher)
    auto_class = transformers.AutoModelForCausalLM
    loaded = auto_class.from_pretrained(student.save(tmp_path)).generation_config
    assert (loaded.eos_token_id, loaded.do_sample, loaded.temperature) == ([3, 4], True, 0.7)


@pytest.mark.parametrize("case", SENTENCES.values(), ids=SENTENCES)
@pytest.mark.parametrize("hidden", [1.0, 0.7])
def test_sentence_transformers_embeds_as_the_student_does(
    case: Case, hidden: float, tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    teacher = case.teacher()
    student = teacher.student(teacher.architecture.scaled(layers=0.5, hidden=hidden))
    encoder = SentenceTransformer(str(student.save(tmp_path)), device="cpu")
    sentences = texts(8)
    vectors = encoder.encode(sentences, convert_to_tensor=True, show_progress_bar=False)
    tokens = teacher.tokenizer(sentences, padding=True, return_tensors="pt")
    assert student.embedder is not None
    with torch.inference_mode():
        expected = student.embedder(tokens["input_ids"], tokens["attention_mask"])
    assert vectors.shape[1] == (case.dense or teacher.architecture.hidden_size)
    assert_close(vectors.cpu(), expected, rtol=1e-6, atol=1e-6)
    # the texts' own padding must have been at work
    assert tokens["attention_mask"].min() == 0


def test_a_narrower_sentence_vector_is_put_where_the_teacher_has_those_channels() -> None:
    teacher = CASES["bert-sentences"].teacher()
    calibration = Calibration.of(teacher, [batch()])
    architecture = teacher.architecture.scaled(hidden=0.7, width_policy=Activation())
    student = teacher.student(architecture, calibration)
    assert student.embedder is not None
    assert student.embedder.projection is not None
    with torch.inference_mode():
        pooled = torch.ones(1, architecture.hidden_size)
        vector = student.embedder.projection(pooled)[0]
    assert vector.nonzero().flatten().tolist() == list(student.kept.hidden)


def test_an_encoder_without_declared_pooling_stays_a_bare_transformer(tmp_path: Path) -> None:
    teacher = CASES["bert"].teacher()
    teacher.student(teacher.architecture.scaled(layers=0.5)).save(tmp_path)
    assert not (tmp_path / "modules.json").exists()


def test_a_narrower_encoder_keeps_its_way_back_to_the_teachers_vectors(tmp_path: Path) -> None:
    teacher = CASES["bert"].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.7))
    loaded = Teacher.load(student.save(tmp_path), task=Task.FEATURES)
    assert answer(loaded).shape == (3, teacher.architecture.hidden_size)
    assert torch.equal(answer(loaded), answer(student))


def test_the_manifest_names_every_unit_kept_and_what_it_is_told(tmp_path: Path) -> None:
    student = smaller(CASES["llama-causal-grouped"].teacher())
    student.save(tmp_path, trial=7)
    manifest = json.loads((tmp_path / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["trial"] == 7
    assert manifest["architecture"]["layer_policy"] == "ends"
    assert manifest["architecture"]["num_hidden_layers"] == 2
    assert manifest["kept"]["layers"] == [0, 3]
    assert len(manifest["kept"]["hidden"]) == student.architecture.hidden_size
    assert [len(heads) for heads in manifest["kept"]["heads"]] == [4, 4]


def test_a_student_of_a_student_declares_the_pooling_it_had(tmp_path: Path) -> None:
    teacher = CASES["bert-sentences"].teacher()
    first = save(teacher, tmp_path / "teacher")
    second = Teacher.load(first).student(teacher.architecture).save(tmp_path / "student")
    assert Teacher.load(second).pooling == Pooling("mean", normalize=True, max_tokens=32)
