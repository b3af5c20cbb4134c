"""A turned stream says the same in other directions, and drops the ones that say least."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from protege.spaces import (
    BadInput,
    Calibration,
    Choice,
    Infeasible,
    SearchSpace,
    Student,
    Teacher,
    Wanda,
)
from protege.spaces.architecture.unit_policies import Rotation
from protege.spaces.residual.directions import Directions, normed
from protege.spaces.students.rotation import check_turns
from protege.spaces.students.selection import everything
from tests.spaces.healed import Flow, halved_along, off, plenty, tensors_of
from tests.tiny import ZOO, answer, inputs_of
from tests.zoo import flows, marked, teacher_of

TURNING = [
    name
    for name, case in ZOO.items()
    if (
        case.model_type
        in {
            *("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite", "phi3"),
            *("gpt2", "gpt_neox", "ministral", "ministral3", "seed_oss", "eurobert"),
        }
        # a layer of its head makes vectors of the stream's width
        and name != "eurobert-text-classification"
    )
    or (case.model_type in {"vit", "deit"} and case.task == "image-classification")
]
"""The cases whose stream is a sum that is only ever read normed."""

TIED = ("llama-causal-tied", "smollm3-text-generation", "gpt2-text-generation")
"""Those of them whose head shares the embedding's rows."""


@pytest.fixture(params=marked(flows(TURNING)), scope="session")
def turning(request: pytest.FixtureRequest) -> Flow:
    """A teacher of each flow that can be turned, and some tokens."""
    teacher = teacher_of(request.param)
    return Flow.of(teacher, plenty(teacher, rows=16))


def vectors(model: Teacher | Student) -> Tensor:
    """What it says: the vectors of texts where it makes such, else its answer."""
    embedder = model.embedder() if isinstance(model, Teacher) else model.embedder
    if embedder is None:
        return answer(model)
    with torch.inference_mode():
        found: Tensor = embedder(**inputs_of(model))
    return found


def halved(flow: Flow, **how: Any) -> Student:
    tied: bool = how.pop("tied", False)
    architecture = halved_along(flow.teacher, "hidden", "none", Rotation(tied=tied))
    assert architecture is not None
    return flow.student(replace(architecture, **how))


def test_at_its_own_width_a_turned_teacher_says_what_it_said(turning: Flow) -> None:
    """No direction is lost but the one that LayerNorms take the mean along."""
    teacher = turning.teacher
    kept = replace(everything(teacher.layout), turned=True)
    architecture = replace(teacher.architecture, width_policy=Rotation())
    student = teacher.student_of(architecture, kept, turning.calibration)
    found, truth = vectors(student), vectors(teacher)
    assert_close(found, truth, rtol=0, atol=1e-5 * float(truth.abs().max()))


def test_fewer_tokens_than_channels_are_enough_to_turn_by() -> None:
    """Of directions that nothing is seen of, the mean's is still the one that is left out."""
    for name in ("gpt2-text-classification", "llama-texts"):
        teacher = ZOO[name].teacher()
        flow = Flow.of(teacher, plenty(teacher, rows=1, tokens=6))
        kept = replace(everything(teacher.layout), turned=True)
        architecture = replace(teacher.architecture, width_policy=Rotation())
        student = teacher.student_of(architecture, kept, flow.calibration)
        assert_close(answer(student), answer(teacher), rtol=0, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_turned_student_is_of_the_sizes_that_are_counted(turning: Flow, *, tied: bool) -> None:
    """Tensor by tensor; a head that shared the embedding's rows is counted where it has its own."""
    student = halved(turning, tied=tied)
    skeleton = turning.teacher.blueprint(student.architecture).skeleton()
    assert student.model.num_parameters() == skeleton.num_parameters()
    blueprint, own = skeleton.state_dict(), student.model.state_dict()
    assert {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in blueprint.items()}
    assert all(bool(t.isfinite().all()) for t in tensors_of(student).values())
    assert student.kept.manifest()["hidden"] == "rotated"
    again = halved(turning, tied=tied)
    assert all(torch.equal(t, again.model.state_dict()[n]) for n, t in own.items())


@pytest.mark.parametrize("name", TIED)
def test_a_shared_head_has_its_own_rows_unless_it_is_to_stay_shared(name: str) -> None:
    """The configuration says so, for whoever loads the student next."""
    teacher = ZOO[name].teacher()
    flow = Flow.of(teacher, plenty(teacher, rows=8))
    for tied in (False, True):
        model: Any = halved(flow, tied=tied).model
        head, rows = model.get_output_embeddings().weight, model.get_input_embeddings().weight
        assert model.config.tie_word_embeddings is tied
        assert (head.data_ptr() == rows.data_ptr()) is tied
    assert teacher.config.tie_word_embeddings


@pytest.mark.parametrize("name", TIED)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("healing", ["none", "one-shot", "sequential"])
def test_a_turned_student_is_saved_read_again_and_writes_the_same(
    name: str, healing: str, tmp_path: Path, *, tied: bool
) -> None:
    """Its own head is in the file, and is not tied over when it is read."""
    teacher = ZOO[name].teacher()
    flow = Flow.of(teacher, plenty(teacher, rows=8))
    student = halved(flow, tied=tied, healing=healing)
    loaded: Any = type(student.model).from_pretrained(student.save(tmp_path)).eval()
    given = inputs_of(student)
    model: Any = student.model
    with torch.inference_mode():
        assert torch.equal(loaded(**given).logits, model(**given).logits)
        prompt = {
            "input_ids": given["input_ids"][:1],
            "attention_mask": given["attention_mask"][:1],
        }
        how = {"max_new_tokens": 5, "do_sample": False}
        assert torch.equal(loaded.generate(**prompt, **how), model.generate(**prompt, **how))


def test_healing_a_turned_student_brings_its_last_state_closer(turning: Flow) -> None:
    """As it does one that keeps channels."""
    assert off(turning, halved(turning, healing="sequential")) < 0.99 * off(
        turning, halved(turning)
    )


def test_a_turned_student_can_be_cut_along_all_else_and_trained(turning: Flow) -> None:
    """Heads, neurons, layers and tokens at once."""
    teacher = turning.teacher
    architecture = halved_along(teacher, "all", "sequential", Rotation())
    assert architecture is not None
    if architecture.vocab_size:
        architecture = replace(architecture, vocab_size=64)
    student = turning.student(architecture)
    assert student.architecture == architecture
    assert (
        student.model.num_parameters()
        == teacher.blueprint(architecture).skeleton().num_parameters()
    )
    student.model(**inputs_of(student))[0].square().sum().backward()
    assert all(p.requires_grad and not p.is_inference() for p in student.model.parameters())


def test_a_turned_encoder_gives_vectors_of_its_teacher_s_space() -> None:
    """Gains of the last norm are in the layer that leads back to them."""
    teacher = ZOO["llama-sentences"].teacher()
    flow = Flow.of(teacher, plenty(teacher))
    narrow = halved_along(teacher, "hidden", "none", Rotation())
    assert narrow is not None
    wider = replace(narrow, hidden_size=18)
    truth = vectors(teacher)
    near = torch.nn.functional.cosine_similarity(vectors(flow.student(wider)), truth).mean()
    far = torch.nn.functional.cosine_similarity(vectors(flow.student(narrow)), truth).mean()
    assert float(near) > max(0.7, float(far))


@pytest.mark.parametrize("name", marked(list(ZOO)))
def test_what_cannot_be_turned_says_why(name: str) -> None:
    """And no search proposes it."""
    teacher = teacher_of(name)
    architecture = halved_along(teacher, "hidden", "none", Rotation())
    if architecture is None:
        assert "hidden_size" in teacher.family.whole
    else:
        assert teacher.can_be(architecture) == (name in TURNING)
    says = r"stream cannot be rotated \(.*\); use a width policy"
    with nullcontext() if name in TURNING else pytest.raises(Infeasible, match=says):
        check_turns(teacher)


def test_a_space_leaves_out_what_cannot_be_turned() -> None:
    """Only the policy that keeps channels is left where the stream is narrower."""
    bert, llama = ZOO["bert"].teacher(), ZOO["llama"].teacher()
    space = SearchSpace(
        hidden=Choice(0.5, 1.0),
        intermediate=Choice(0.5, 1.0),
        width_policy=Choice(Wanda(), Rotation()),
        multiple_of=4,
    )
    for teacher, turns in ((bert, False), (llama, True)):
        narrower = [
            member
            for member in space.of(teacher)
            if member.hidden_size < teacher.architecture.hidden_size
        ]
        assert any(isinstance(member.width_policy, Rotation) for member in narrower) is turns
        assert any(isinstance(member.width_policy, Wanda) for member in narrower)


def test_a_rotation_without_streams_says_what_is_missing() -> None:
    """Directions are of data."""
    teacher = ZOO["llama"].teacher()
    architecture = halved_along(teacher, "hidden", "none", Rotation())
    assert architecture is not None
    bare = Calibration.measured(teacher, [inputs_of(teacher)])
    with pytest.raises(BadInput, match=r"a rotation needs data .* it needs streams"):
        teacher.student(architecture, bare)
    with pytest.raises(BadInput, match="width policy 'rotation' needs a calibration"):
        teacher.student(architecture)


@pytest.mark.parametrize("centred", [False, True])
def test_directions_are_orthonormal_and_keep_most_of_what_is_normed(*, centred: bool) -> None:
    """No other directions, as many, have more of the energy; a mean's direction has none."""
    states = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 13)
    found = Directions.of({"norm": states}, centred=centred)
    columns = found.vectors
    assert_close(columns.T @ columns, torch.eye(columns.shape[1]), rtol=0, atol=1e-5)
    assert columns.shape == (12, 11 if centred else 12)
    seen = normed(states, centred=centred)
    assert_close(found.energies["norm"], (seen @ columns).square().mean(0), rtol=1e-4, atol=1e-4)
    assert_close(found.energies["norm"], found.energies["norm"].sort(descending=True).values)
    basis = found.basis(6).matrix
    if centred:
        assert_close(columns.sum(0), torch.zeros(11), rtol=0, atol=1e-5)
        assert_close(basis.sum(1), torch.zeros(12), rtol=0, atol=1e-5)
    kept = float((seen @ basis).square().sum(1).mean())
    assert kept == pytest.approx(
        float(found.energies["norm"][: 5 if centred else 6].sum()), rel=1e-4
    )
    assert found.gain("norm", 6) == pytest.approx((kept / 6) ** 0.5, rel=1e-4)
