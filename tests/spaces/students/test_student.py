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
from protege.spaces.architecture.sizes import RATIOS
from protege.spaces.files.manifest import MANIFEST
from tests.tiny import CASES, ZOO, Case, answer, batch, inputs_of, save, texts

SENTENCES = {name: case for name, case in CASES.items() if case.task is Task.SENTENCES}
WRITERS = {
    name: case
    for name, case in ZOO.items()
    if case.task in {Task.GENERATION, Task.TEXT_TO_TEXT, Task.SPEECH}
}


def smaller(teacher: Teacher) -> Student:
    """A student that is smaller in every way that its family knows."""
    own = teacher.architecture
    knobs = [r for r, size in RATIOS.items() if size in teacher.family.knobs and getattr(own, size)]
    ratios: Any = dict.fromkeys(knobs, 0.5)
    architecture = own.scaled(**ratios, multiple_of=4, layer_policy=Ends())
    assert all(getattr(architecture, RATIOS[r]) < getattr(own, RATIOS[r]) for r in knobs)
    student = teacher.student(architecture)
    with torch.no_grad():  # as if trained: nothing that is saved can come from the teacher
        for parameter in student.module.parameters():
            parameter.mul_(1.25)
    return student


def test_what_is_loaded_again_is_what_was_saved(any_teacher: Teacher, tmp_path: Path) -> None:
    teacher, student = any_teacher, smaller(any_teacher)
    student.save(tmp_path)
    loaded = type(teacher.model).from_pretrained(tmp_path)
    mine, theirs = student.model.state_dict(), loaded.state_dict()
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert tied(student.model) == tied(loaded) == tied(teacher.model)


def test_a_saved_student_can_be_a_teacher(teacher: Teacher, tmp_path: Path) -> None:
    student = smaller(teacher)
    loaded = Teacher.load(student.save(tmp_path), task=teacher.task)
    assert type(loaded.model) is type(teacher.model)
    assert torch.equal(answer(loaded), answer(student))
    # a mixture that keeps no dense layer has no dense width any more
    assert loaded.architecture.sizes().items() <= student.architecture.sizes().items()
    # transformers makes a tokenizer of Qwen's own kind of whatever lies beside its models
    if student.architecture.vocab_size and type(loaded.tokenizer) is type(teacher.tokenizer):
        kept = student.kept.vocab or ()
        text = " ".join(teacher.tokenizer.convert_ids_to_tokens(list(kept[6:9])))
        mine, theirs = loaded.tokenizer(text)["input_ids"], teacher.tokenizer(text)["input_ids"]
        assert [kept[token] for token in mine] == theirs


def tied(model: PreTrainedModel) -> set[frozenset[str]]:
    """The groups of tensors that share their storage."""
    by_place: dict[int, set[str]] = {}
    for name, tensor in model.state_dict().items():
        by_place.setdefault(tensor.data_ptr(), set()).add(name)
    return {frozenset(names) for names in by_place.values() if len(names) > 1}


def test_untied_weights_stay_apart() -> None:
    inputs, outputs = embeddings(smaller(CASES["llama-causal-grouped"].teacher()).model)
    assert not torch.equal(inputs, outputs)


def embeddings(model: PreTrainedModel) -> list[Tensor]:
    ends: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [end.weight for end in ends]


@pytest.mark.parametrize("case", WRITERS.values(), ids=WRITERS)
def test_a_student_writes_the_same_with_its_cache_and_without(case: Case) -> None:
    student = smaller(case.teacher())
    given: Any = inputs_of(student)
    prompt = next(value for name, value in given.items() if name in PROMPTS)[:1]
    written = [
        student.model.generate(  # type: ignore[operator]
            prompt, max_new_tokens=8, min_new_tokens=8, do_sample=False, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    assert written[0].shape[1] >= 8
    assert torch.equal(*written)


PROMPTS = ("input_ids", "input_features")


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
    calibration = Calibration.of(teacher, [batch()], [Activation()], "none")
    architecture = teacher.architecture.scaled(
        hidden=0.7, width_policy=Activation(), healing="none"
    )
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
    assert manifest["kept"]["layers"] == {"decoder": [0, 3]}
    assert len(manifest["kept"]["hidden"]) == student.architecture.hidden_size
    assert len(manifest["kept"]["vocab"]) == student.architecture.vocab_size == 48
    layers = manifest["kept"]["stacks"]["decoder"]
    assert [(layer["layer"], len(layer["heads"])) for layer in layers] == [(0, 3), (3, 3)]


def test_a_student_of_a_student_declares_the_pooling_it_had(tmp_path: Path) -> None:
    teacher = CASES["bert-sentences"].teacher()
    first = save(teacher, tmp_path / "teacher")
    second = Teacher.load(first).student(teacher.architecture).save(tmp_path / "student")
    assert Teacher.load(second).pooling == Pooling("mean", normalize=True, max_tokens=32)
