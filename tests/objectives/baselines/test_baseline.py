"""Models of another origin are measured by the objectives of students."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AlbertConfig, AlbertModel, PreTrainedTokenizerFast

from protege.objectives import (
    Candidate,
    Distillation,
    Memory,
    Parameters,
    Retention,
    StaticEmbedding,
    Texts,
)
from protege.objectives.baselines.baseline import Baseline, Given, names_of
from protege.objectives.candidate import Prepared
from protege.spaces import BadInput, Cache, Teacher
from tests.tiny import CASES, SPECIAL, VOCABULARY, WORDS, save, texts, tokenizer


def prepared(teacher: Teacher, cache: Cache, **changes: Any) -> Prepared:
    given: dict[str, Any] = {"data": Texts.of(texts(120)), "steps": 4, "selection": 24}
    return Prepared(teacher, cache, Distillation(**(given | {"max_tokens": 16} | changes)))


def baseline(given: Given, shared: Prepared) -> Baseline:
    return Baseline.load(given, "other", shared.teacher, shared.cache)


def retained(given: Given, shared: Prepared) -> float:
    found = baseline(given, shared)
    found.check(shared.data)
    return Retention().measure(Candidate.of_baseline(shared, found)).value


def predicted(teacher: Teacher, given: list[str]) -> list[int]:
    read = teacher.tokenizer(given, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found: list[int] = teacher.model(**read).logits.argmax(-1).tolist()
    return found


@pytest.mark.parametrize("kind", ["bert-sentences", "bert-masked", "bert-texts", "llama-tokens"])
def test_the_teacher_itself_keeps_all_of_its_quality(
    kind: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = CASES[kind].teacher()
    assert retained(save(teacher, tmp_path), prepared(teacher, cache)) == pytest.approx(1)


def test_vectors_of_another_space_are_mapped_to_the_teachers(cache: Cache, tmp_path: Path) -> None:
    teacher = CASES["bert-sentences"].teacher()
    turned, _ = torch.linalg.qr(torch.randn(24, 24, generator=torch.Generator().manual_seed(0)))
    assert teacher.pooling is not None
    pooling = replace(teacher.pooling, projection=(turned, torch.zeros(24)))
    folder = save(replace(teacher, pooling=pooling), tmp_path)
    assert retained(folder, prepared(teacher, cache)) > 0.99


def test_own_sizes_and_own_projection_are_counted(cache: Cache, tmp_path: Path) -> None:
    teacher, other = (CASES[kind].teacher() for kind in ("bert-sentences", "bert-sentences-dense"))
    found = Candidate.of_baseline(
        shared := prepared(teacher, cache), baseline(save(other, tmp_path), shared)
    )
    weights = other.model.num_parameters() + 10 * 24 + 10
    assert Parameters().measure(found).value == pytest.approx(weights / 1e6)
    assert Memory().measure(found).value == pytest.approx(4 * weights / 1e6)
    assert not found.is_teacher


def test_classes_in_another_order_are_put_into_the_teachers(cache: Cache, tmp_path: Path) -> None:
    teacher = CASES["bert-texts"].teacher()
    labels = [f"LABEL_{number}" for number in predicted(teacher, texts(80))]
    labels[::5] = ["LABEL_1"] * 16  # of some the teacher is wrong
    data = Texts.of(texts(80), labels=labels)
    other = CASES["bert-texts"].teacher()
    model: Any = other.model
    with torch.no_grad():
        for tensor in (model.classifier.weight, model.classifier.bias):
            tensor.copy_(tensor[[2, 0, 1]].clone())
    model.config.id2label = {0: "LABEL_2", 1: "LABEL_0", 2: "label 1"}
    model.config.label2id = {"LABEL_2": 0, "LABEL_0": 1, "label 1": 2}
    shared = prepared(teacher, cache, data=data)
    own = Candidate(shared, teacher.architecture).built()
    found = Candidate.of_baseline(shared, baseline(save(other, tmp_path), shared))
    assert Retention().measure(found).details == Retention().measure(own).details


def test_other_classes_are_refused(cache: Cache, tmp_path: Path) -> None:
    teacher, other = (CASES["bert-texts"].teacher() for _ in range(2))
    other.model.config.id2label = {0: "good", 1: "bad", 2: "LABEL_2"}
    other.model.config.label2id = {"good": 0, "bad": 1, "LABEL_2": 2}
    with pytest.raises(
        BadInput, match=r"its classes are \{'good': 0.*, and the teacher's \{'LABEL"
    ):
        retained(save(other, tmp_path), prepared(teacher, cache))


def test_a_model_without_a_family_is_measured(cache: Cache, tmp_path: Path) -> None:
    config = AlbertConfig(
        vocab_size=VOCABULARY,
        embedding_size=8,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=40,
    )
    AlbertModel(config).save_pretrained(tmp_path)
    tokenizer("bert").save_pretrained(tmp_path)
    shared = prepared(CASES["bert-sentences"].teacher(), cache)
    found = Candidate.of_baseline(shared, baseline(tmp_path, shared))
    assert (found.architecture.num_hidden_layers, found.architecture.hidden_size) == (2, 12)
    assert 0 < Retention().measure(found).value < 1
    assert Parameters().measure(found).value == AlbertModel(config).num_parameters() / 1e6


def test_the_static_embedding_of_the_teacher_is_measured(cache: Cache) -> None:
    shared = prepared(CASES["bert-sentences"].teacher(), cache)
    found = Candidate.of_baseline(shared, baseline(StaticEmbedding(dim=8), shared))
    assert Parameters().measure(found).value == VOCABULARY * 8 / 1e6
    kept = Retention().measure(found)
    assert 0 < kept.value < 1
    assert len(kept.examples) == 24
    unseen = Retention().measure_unseen(found)
    assert unseen.examples != kept.examples


def test_other_tokens_are_refused_where_tokens_are_scored(cache: Cache, tmp_path: Path) -> None:
    teacher, other = (CASES["llama-causal-tied"].teacher() for _ in range(2))
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *reversed(WORDS)))}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[SEP]"}
    turned = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=32, **ends)
    folder = save(replace(other, processor=turned), tmp_path)
    with pytest.raises(BadInput, match="reads other tokens than the teacher, and a model for text"):
        retained(folder, prepared(teacher, cache))


def test_a_model_for_another_task_is_refused(cache: Cache, tmp_path: Path) -> None:
    shared = prepared(CASES["bert-sentences"].teacher(), cache)
    folder = save(CASES["bert-texts"].teacher(), tmp_path)
    with pytest.raises(BadInput, match="a model for text-classification, and the teacher is one"):
        baseline(folder, shared)


def test_a_folder_without_a_checkpoint_is_refused_by_name(cache: Cache, tmp_path: Path) -> None:
    shared = prepared(CASES["bert-sentences"].teacher(), cache)
    with pytest.raises(BadInput, match=f"baseline {tmp_path}: .*no teacher can be loaded"):
        baseline(tmp_path, shared)


def test_names_are_short_and_distinct() -> None:
    given: list[Given] = ["org/L3", Path("students/a"), StaticEmbedding(64), "other/a", "more/a/"]
    assert names_of(given) == ["L3", "a", "static-64", "a (2)", "a (3)"]
