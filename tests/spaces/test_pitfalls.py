"""What other tools get wrong when they cut these families, one test for each."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from protege.spaces import (
    Activation,
    Calibration,
    Ends,
    Infeasible,
    LayerMap,
    Student,
    Teacher,
)
from tests.tiny import ZOO, answer, inputs_of

GEMMAS = ["gemma2-text-generation", "gemma3_text-text-generation"]


def part(model: Teacher | Student, name: str) -> Any:
    return model.model.get_submodule(name)


@pytest.mark.parametrize("name", GEMMAS)
def test_a_narrower_gemma_embeds_what_its_teacher_does_though_it_multiplies_by_less(
    name: str,
) -> None:
    teacher = ZOO[name].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5))
    ids, kept = inputs_of(teacher)["input_ids"], list(student.kept.hidden)
    mine = part(student, "model.embed_tokens")(ids)
    theirs = part(teacher, "model.embed_tokens")(ids)
    assert_close(mine, theirs[..., kept], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", GEMMAS)
def test_a_narrower_gemma_reads_its_tied_head_at_the_scale_it_was_trained_for(name: str) -> None:
    teacher = ZOO[name].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5))
    kept = list(student.kept.hidden)
    states = torch.randn(3, len(kept), generator=torch.Generator().manual_seed(0))
    whole = torch.zeros(3, teacher.architecture.hidden_size)
    whole[:, kept] = states
    gains = [1 + part(one, "model.norm").weight for one in (student, teacher)]
    mine = part(student, "lm_head")(gains[0] * states)
    assert_close(mine, part(teacher, "lm_head")(gains[1] * whole), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["t5-text2text-generation", "mbart-text2text-generation"])
def test_a_narrower_pair_reads_its_tied_head_at_the_scale_it_was_trained_for(name: str) -> None:
    teacher = ZOO[name].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5))
    kept = list(student.kept.hidden)
    norm = {"t5": "decoder.final_layer_norm", "mbart": "model.decoder.layer_norm"}
    place = norm[teacher.config.model_type]
    states = torch.randn(3, len(kept), generator=torch.Generator().manual_seed(0))
    whole = torch.zeros(3, teacher.architecture.hidden_size)
    whole[:, kept] = states
    logits = []
    for one, given in ((student, states), (teacher, whole)):
        scale = 1.0
        if teacher.config.model_type == "t5":  # it divides by the root of its width
            scale = one.model.config.d_model**-0.5
        logits.append(part(one, "lm_head")(part(one, place).weight * given) * scale)
    assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-5)


def test_an_untied_head_needs_no_correction() -> None:
    case = replace(
        ZOO["gemma2-text-generation"],
        fields={**ZOO["gemma2-text-generation"].fields, "tie_word_embeddings": False},
    )
    teacher = case.teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5))
    mine, theirs = part(student, "model.norm").weight, part(teacher, "model.norm").weight
    assert torch.equal(mine, theirs[list(student.kept.hidden)])


@pytest.mark.parametrize("name", ["t5-feature-extraction", "mt5-text2text-generation"])
def test_distances_outlive_the_block_that_holds_them(name: str) -> None:
    teacher = ZOO[name].teacher()
    architecture = teacher.architecture.scaled(
        layers=0.5, decoder_layers=2 / 3, layer_policy=LayerMap([1, 2])
    )
    student = teacher.student(architecture)
    for stack in ("encoder", "decoder"):
        place = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias"
        assert torch.equal(part(student, place).weight, part(teacher, place).weight)
        later = part(student, f"{stack}.block.1.layer.0.SelfAttention")
        assert not later.has_relative_attention_bias


@pytest.mark.parametrize(
    ("name", "listed", "kept", "expected"),
    [
        ("qwen2-text-generation", "layer_types", (1, 2), ["full_attention", "sliding_attention"]),
        ("gemma3_text-text-generation", "layer_types", (0, 2), ["sliding_attention"] * 2),
        ("modernbert-fill-mask", "layer_types", (0, 3), ["full_attention", "sliding_attention"]),
        ("smollm3-text-generation", "no_rope_layers", (1, 3), [0, 1]),
        ("qwen3_moe-text-generation", "mlp_only_layers", (1, 2), [1]),
        ("qwen3_moe-sparse-text-generation", "mlp_only_layers", (0, 1), [0]),
        ("qwen3_moe-sparse-text-generation", "mlp_only_layers", (1, 3), []),
        ("qwen2-text-generation", "max_window_layers", (1, 3), 1),
    ],
)
def test_what_the_configuration_says_of_each_layer_follows_the_layers(
    name: str, listed: str, kept: tuple[int, ...], expected: object
) -> None:
    teacher = ZOO[name].teacher()
    policy = LayerMap(kept)
    student = teacher.student(teacher.architecture.scaled(layers=0.5, layer_policy=policy))
    assert getattr(student.model.config, listed) == expected


@pytest.mark.parametrize(
    "name", ["llama-causal-grouped", "qwen3-text-generation", "opt-text-generation"]
)
def test_layers_are_numbered_anew_for_the_cache(name: str) -> None:
    teacher = ZOO[name].teacher()
    student = teacher.student(teacher.architecture.scaled(layers=0.5, layer_policy=Ends()))
    assert student.kept.layers("decoder") == (0, 3)
    attentions = [m for m in student.model.modules() if getattr(m, "layer_idx", None) is not None]
    assert {module.layer_idx for module in attentions} == {0, 1}


@pytest.mark.parametrize(
    "name", ["qwen2-text-generation", "phi3-text-generation", "vit-image-classification"]
)
def test_a_head_keeps_its_size_when_the_width_does_not(name: str) -> None:
    teacher = ZOO[name].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5))
    assert student.model.config.head_dim == teacher.architecture.head_dim == 4
    attention = next(m for m in student.model.modules() if hasattr(m, "head_dim"))
    assert attention.head_dim == 4


def test_key_value_heads_need_not_divide_the_teachers() -> None:
    teacher = ZOO["mistral-text-generation"].teacher()  # three groups of two
    architecture = teacher.architecture.scaled(kv_heads=2 / 3)
    assert (architecture.num_attention_heads, architecture.num_key_value_heads) == (4, 2)
    assert answer(teacher.student(architecture)).isfinite().all()


def test_a_single_layer_is_the_first_one() -> None:
    teacher = ZOO["whisper-automatic-speech-recognition"].teacher()
    ratios: Any = {"layers": 0.1, "decoder_layers": 0.1}
    student = teacher.student(teacher.architecture.scaled(**ratios, layer_policy=Ends()))
    assert student.kept.layers("encoder") == student.kept.layers("decoder") == (0,)


def test_an_embedding_narrower_than_the_layers_is_kept_whole() -> None:
    teacher = ZOO["electra-fill-mask"].teacher()
    student = teacher.student(teacher.architecture.scaled(hidden=0.5, multiple_of=4))
    assert student.model.config.embedding_size == 10
    assert part(student, "electra.embeddings_project").weight.shape == (12, 10)


def test_a_student_as_narrow_as_its_embedding_would_lose_the_projection_between_them() -> None:
    case = replace(ZOO["electra-fill-mask"], fields={"embedding_size": 12})
    teacher = case.teacher()
    with pytest.raises(Infeasible, match="leaves out the projection from embedding_size=12"):
        teacher.student(teacher.architecture.scaled(hidden=0.5, multiple_of=4))


def test_a_token_from_the_end_of_the_vocabulary_keeps_its_meaning_in_a_smaller_one() -> None:
    # GPT-2's and Whisper's special tokens come last
    ends = {"n_inner": None, "eos_token_id": 95, "bos_token_id": 93}
    teacher = replace(ZOO["gpt2-text-generation"], fields=ends).teacher()
    teacher.model.generation_config.update(eos_token_id=[95, 94], bos_token_id=93)
    flat = Calibration.flat(teacher.layout).importance
    calibration = Calibration({**flat, "vocab": torch.arange(96.0)})
    architecture = teacher.architecture.scaled(vocab=0.5, width_policy=Activation(), healing="none")
    student = teacher.student(architecture, calibration)
    kept: Any = student.kept.vocab
    config, writing = student.model.config, student.model.generation_config
    assert (kept[config.eos_token_id], kept[config.bos_token_id]) == (95, 93)
    assert [kept[token] for token in writing.eos_token_id] == [95, 94]
    # what is only counted or timed has ids that exist
    assert teacher.blueprint(architecture).configuration().eos_token_id == 47


def test_no_mixture_has_fewer_experts_than_a_token_is_sent_to() -> None:
    own = ZOO["mixtral-text-generation"].teacher().architecture
    assert own.scaled(experts=0.01).num_experts == own.num_experts_per_tok == 2


def test_axes_of_one_size_are_told_apart_by_name_and_never_by_size() -> None:
    # hidden, heads, feed-forward and vocabulary all have 24 rows
    fields = {"intermediate_size": 24, "vocab_size": 24, "pad_token_id": None}
    case = replace(ZOO["llama-causal-tied"], fields={**fields, "tie_word_embeddings": False})
    teacher = case.teacher()
    ratios: Any = {"intermediate": 2 / 3, "heads": 1 / 3, "hidden": 5 / 6}
    student = teacher.student(teacher.architecture.scaled(**ratios, multiple_of=2))
    weight = part(student, "model.layers.0.mlp.down_proj").weight
    assert weight.shape == (20, 16)
    assert part(student, "model.layers.0.self_attn.o_proj").weight.shape == (20, 8)
    assert isinstance(part(student, "lm_head"), nn.Linear)
    assert part(student, "lm_head").weight.shape == (24, 20)


def test_a_width_that_positions_are_computed_from_stays_whole() -> None:
    own = ZOO["m2m_100-text2text-generation"].teacher().architecture
    with pytest.raises(Infeasible, match="m2m_100 keeps all of hidden: its positions are sines"):
        own.scaled(hidden=0.5)
    assert own.scaled(layers=0.5, intermediate=0.5).hidden_size == own.hidden_size
