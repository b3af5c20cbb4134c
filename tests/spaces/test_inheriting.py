"""A student can take its weights from a finished one that has all that it keeps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import (
    Activation,
    Architecture,
    BadInput,
    Calibration,
    Ends,
    Greedy,
    Kept,
    LayerMap,
    Rotation,
    SearchSpace,
    Student,
    Teacher,
)
from protege.spaces.architecture.architecture import RATIOS
from protege.spaces.inheriting import inherited, nearest
from tests.spaces.healed import plenty
from tests.tiny import ZOO, answer

KINDS = [
    "bert-sentences",
    "bert-sentences-dense",
    "bert",
    "bert-masked",
    "bert-texts",
    "llama-causal-tied",
    "llama-causal-grouped",
    "gpt2-text-generation",
    "gemma2-text-generation",
    "qwen3_moe-text-generation",
    "deberta-v2-fill-mask",
    "t5-text2text-generation",
    "whisper-automatic-speech-recognition",
    "siglip_vision_model-image-feature-extraction",
    "vit-image-classification",
]


@pytest.fixture(params=KINDS, scope="module")
def teacher(request: pytest.FixtureRequest) -> Teacher:
    """Of every kind one; tests leave it as it is."""
    return ZOO[request.param].teacher()


def ratios(teacher: Teacher, by: float) -> dict[str, Any]:
    """That ratio of everything the teacher can have less of, but for groups of heads.

    Of fewer groups each may keep more heads, and then two students are not nested.
    """
    own = teacher.architecture
    knobs = [r for r, size in RATIOS.items() if size in teacher.family.knobs and getattr(own, size)]
    return dict.fromkeys((knob for knob in knobs if knob != "kv_heads"), by)


def sized(teacher: Teacher, by: float, **more: Any) -> Architecture:
    return teacher.architecture.scaled(**ratios(teacher, by), multiple_of=4, **more)


def trained(student: Student, folder: Path) -> Path:
    """The student as if trained, saved: nothing in it can come from the teacher."""
    with torch.no_grad():
        for parameter in student.module.parameters():
            parameter.mul_(1.25)
    return student.save(folder)


def weights(student: Student) -> dict[str, Tensor]:
    return student.module.state_dict()


def test_one_saved_as_it_was_cut_passes_on_what_the_teacher_would(
    teacher: Teacher, tmp_path: Path
) -> None:
    folder = teacher.student(sized(teacher, 0.75)).save(tmp_path)
    wanted = sized(teacher, 0.5)
    plain = teacher.student(wanted)
    student = inherited(teacher, folder, wanted, plain.kept)
    assert student is not None
    assert student.manifest() == plain.manifest()
    assert student.model.config.to_dict() == plain.model.config.to_dict()
    if any(slot.factor for slot in teacher.layout.slots):  # scaled once for each width
        assert_close(weights(student), weights(plain), rtol=1e-6, atol=1e-6)
        return
    mine, theirs = weights(student), weights(plain)
    assert list(mine) == list(theirs)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert torch.equal(answer(student), answer(plain))


def test_what_is_passed_on_is_what_was_learnt(teacher: Teacher, tmp_path: Path) -> None:
    architecture = sized(teacher, 0.75)
    finished = teacher.student(architecture)
    folder = trained(finished, tmp_path)
    student = inherited(teacher, folder, architecture, finished.kept)
    assert student is not None
    assert torch.equal(answer(student), answer(finished))
    mine, theirs = weights(student), weights(finished)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_ties_stay_and_the_teacher_is_left_alone(tmp_path: Path) -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    before = {name: tensor.clone() for name, tensor in teacher.model.state_dict().items()}
    folder = trained(teacher.student(sized(teacher, 0.75)), tmp_path)
    wanted = sized(teacher, 0.5)
    student = inherited(teacher, folder, wanted, teacher.student(wanted).kept)
    assert student is not None
    ends: list[Any] = [student.model.get_input_embeddings(), student.model.get_output_embeddings()]
    assert ends[0].weight is ends[1].weight
    assert all(parameter.requires_grad for parameter in student.model.parameters())
    after = teacher.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_text_is_read_as_the_plain_student_reads_it(tmp_path: Path) -> None:
    teacher = ZOO["bert-masked"].teacher()
    folder = teacher.student(teacher.architecture.scaled(vocab=0.75)).save(tmp_path)
    wanted = teacher.architecture.scaled(vocab=0.5, layers=0.5)
    plain = teacher.student(wanted)
    student = inherited(teacher, folder, wanted, plain.kept)
    assert student is not None
    text = "w0 w7 w20 w90 w3"
    assert student.tokenizer(text)["input_ids"] == plain.tokenizer(text)["input_ids"]


def test_units_chosen_by_data_are_found_again(tmp_path: Path) -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    batch = plenty(teacher)
    known = Calibration.of(teacher, [batch], layers=["greedy"])
    policies: dict[str, Any] = {"layer_policy": Greedy(), "width_policy": Activation()}
    larger = teacher.architecture.scaled(layers=0.75, intermediate=0.75, **policies)
    wanted = teacher.architecture.scaled(layers=0.5, intermediate=0.5, heads=0.7, **policies)
    folder = teacher.student(larger, known).save(tmp_path)
    plain = teacher.student(wanted, known)
    student = inherited(teacher, folder, plain.architecture, plain.kept)
    assert student is not None
    assert student.manifest() == plain.manifest()
    assert plain.kept.layers("decoder") != Ends().layers(4, 2)
    assert torch.equal(answer(student), answer(plain))


def test_healing_is_told_of_and_not_done_again(tmp_path: Path) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    folder = trained(teacher.student(sized(teacher, 0.75)), tmp_path)
    wanted = sized(teacher, 0.5, healing="sequential")
    plain = teacher.student(replace(wanted, healing="none"))
    student = inherited(teacher, folder, wanted, plain.kept)
    unhealed = inherited(teacher, folder, plain.architecture, plain.kept)
    assert student is not None
    assert unhealed is not None
    assert student.manifest()["architecture"]["healing"] == "sequential"
    assert torch.equal(answer(student), answer(unhealed))


LACKING: dict[str, Callable[[Kept], Kept]] = {
    "channel": lambda kept: replace(kept, hidden=(*kept.hidden[:-1], 23)),
    "token": lambda kept: replace(kept, vocab=None),
    "turned": lambda kept: replace(kept, turned=True),
}


@pytest.mark.parametrize("change", LACKING.values(), ids=LACKING)
def test_one_that_lacks_something_passes_nothing_on(
    change: Callable[[Kept], Kept], tmp_path: Path
) -> None:
    teacher = ZOO["bert-masked"].teacher()
    folder = teacher.student(sized(teacher, 0.75)).save(tmp_path)
    wanted = sized(teacher, 0.5)
    kept = change(teacher.student(wanted).kept)
    assert inherited(teacher, folder, wanted, kept) is None


@pytest.mark.parametrize("axis", ["layers", "heads", "kv_heads", "intermediate"])
def test_one_that_is_smaller_in_one_axis_passes_nothing_on(axis: str, tmp_path: Path) -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    smaller: dict[str, Any] = {axis: 0.5}
    folder = teacher.student(teacher.architecture.scaled(**smaller)).save(tmp_path)
    whole = teacher.student(teacher.architecture)
    assert inherited(teacher, folder, whole.architecture, whole.kept) is None


def test_groups_that_keep_more_heads_than_the_finished_ones_pass_nothing_on(
    tmp_path: Path,
) -> None:
    teacher = ZOO["llama-causal-grouped"].teacher()
    folder = teacher.student(teacher.architecture.scaled(heads=0.7)).save(tmp_path)
    fewer = teacher.architecture.scaled(heads=0.5, kv_heads=0.5)
    kept = teacher.student(fewer).kept
    assert [len(layer.units["heads"]) for layer in kept.stacks["decoder"]] == [3, 3, 3, 3]
    assert inherited(teacher, folder, fewer, kept) is None
    thinner = teacher.architecture.scaled(heads=0.3, kv_heads=0.5)
    assert inherited(teacher, folder, thinner, teacher.student(thinner).kept) is not None


def test_other_experts_or_neurons_of_theirs_pass_nothing_on(tmp_path: Path) -> None:
    teacher = ZOO["mixtral-text-generation"].teacher()
    own = teacher.architecture
    narrow = teacher.student(own.scaled(moe_intermediate=0.5)).save(tmp_path / "narrow")
    few = teacher.student(own.scaled(experts=0.6)).save(tmp_path / "few")
    whole = teacher.student(own)
    assert inherited(teacher, narrow, own, whole.kept) is None
    assert inherited(teacher, few, own, whole.kept) is None
    both = own.scaled(experts=0.6, moe_intermediate=0.5)
    assert inherited(teacher, few, both, teacher.student(both).kept) is not None


def test_layers_that_are_not_nested_pass_nothing_on(tmp_path: Path) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    own = teacher.architecture
    policy = LayerMap([0, 1, 3], [0, 2])
    folder = teacher.student(own.scaled(layers=0.75, layer_policy=policy)).save(tmp_path)
    wanted = own.scaled(layers=0.5, layer_policy=policy)
    assert inherited(teacher, folder, wanted, teacher.student(wanted).kept) is None


def test_a_turned_student_passes_nothing_on(tmp_path: Path) -> None:
    teacher = ZOO["llama-causal-tied"].teacher()
    batch = plenty(teacher)
    known = Calibration.of(teacher, [batch], grams=True).with_streams(teacher, batch)
    turned = teacher.architecture.scaled(hidden=0.7, multiple_of=6, width_policy=Rotation())
    folder = teacher.student(turned, known).save(tmp_path)
    wanted = teacher.architecture.scaled(hidden=0.5, multiple_of=6)
    assert wanted.hidden_size < turned.hidden_size < teacher.architecture.hidden_size
    assert inherited(teacher, folder, wanted, teacher.student(wanted).kept) is None


def test_drawn_weights_are_not_passed_on(tmp_path: Path) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    folder = teacher.fresh(teacher.architecture.scaled(layers=0.75)).save(tmp_path)
    wanted = teacher.architecture.scaled(layers=0.5)
    assert inherited(teacher, folder, wanted, teacher.student(wanted).kept) is None


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    kept = teacher.student(teacher.architecture).kept
    with pytest.raises(BadInput, match=r"no protege\.json in it; expected the folder of a saved"):
        inherited(teacher, tmp_path, teacher.architecture, kept)


def test_the_nearest_comes_first_and_smaller_ones_not_at_all() -> None:
    teacher = ZOO["bert-sentences"].teacher()
    space = SearchSpace(layers=(0.25, 1.0), intermediate=(0.2, 1.0)).of(teacher)
    finished = {
        name: teacher.architecture.scaled(layers=layers, intermediate=intermediate)
        for name, layers, intermediate in [
            ("teacher", 1.0, 1.0),
            ("far", 1.0, 0.8),
            ("near", 0.75, 0.6),
            ("shallow", 0.25, 1.0),
            ("narrow", 1.0, 0.2),
            ("same", 0.5, 0.6),
        ]
    }
    wanted = finished.pop("same")
    assert nearest(space, wanted, finished) == ["near", "far", "teacher"]
    assert nearest(space, wanted, {"same": wanted, **finished})[0] == "same"
    assert nearest(space, teacher.architecture, {"near": finished["near"]}) == []
