"""Losses that look inside find no fault with the teacher itself, and teach smaller students."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.objectives import (
    AttentionRelations,
    Distillation,
    HiddenMSE,
    Texts,
    VectorCosine,
)
from protege.objectives.distillation.losses.hooked import AttachedLoss, HiddenLoss
from protege.objectives.distillation.losses.relations import relation_divergence
from protege.spaces import (
    BadInput,
    Cache,
    Mismatch,
    ProtegeError,
    Student,
    Task,
    Teacher,
    Unsupported,
)
from protege.spaces.models.attention import attention_of
from tests.objectives.candidates import candidate, completed
from tests.tiny import ZOO, inputs_of, texts
from tests.zoo import FLOWS, marked, teacher_of

Given = dict[str, Tensor]

every_loss = pytest.mark.parametrize(
    "loss", [HiddenMSE(), AttentionRelations()], ids=["mse", "qkv"]
)
READERS = [name for name in FLOWS if ZOO[name].task is Task.FEATURES and "whisper" not in name]
"""Of every family that reads texts one."""


def smaller(teacher: Teacher) -> Student:
    narrower = 1.0 if "hidden_size" in teacher.family.whole else 0.5
    shape = teacher.architecture.scaled(layers=0.5, hidden=narrower, multiple_of=4)
    return teacher.student(shape)


def mask_of(inputs: Given) -> Tensor:
    """The mask that a training loop hands over; of images one that fits nothing."""
    return inputs.get("attention_mask", torch.ones(1, 1))


def run(student: Student, teacher: Teacher, inputs: Given) -> None:
    with torch.inference_mode():
        teacher.model(**inputs)
    student.model(**inputs)


@contextmanager
def watching(loss: HiddenLoss, student: Student, teacher: Teacher) -> Iterator[AttachedLoss]:
    watch = loss.attach(student, teacher)
    try:
        yield watch
    finally:
        watch.close()


def lost(
    loss: HiddenLoss, student: Student, teacher: Teacher, inputs: Given | None = None
) -> float:
    """What one batch tells of the student."""
    inputs = inputs or inputs_of(teacher)
    with watching(loss, student, teacher) as watch:
        run(student, teacher, inputs)
        return float(watch.loss(mask_of(inputs)).detach())


@every_loss
@pytest.mark.parametrize("name", marked(FLOWS))
def test_a_student_of_full_size_lacks_nothing(name: str, loss: HiddenLoss) -> None:
    teacher = teacher_of(name)
    student = teacher.student(teacher.architecture)
    assert lost(loss, student, teacher) == pytest.approx(0, abs=1e-6)


@every_loss
@pytest.mark.parametrize("name", marked(FLOWS))
def test_only_a_smaller_student_is_taught(name: str, loss: HiddenLoss) -> None:
    teacher = teacher_of(name)
    student, inputs = smaller(teacher), inputs_of(teacher)
    with watching(loss, student, teacher) as watch:
        teacher.model(**inputs)  # with gradients, which must not be followed
        student.model(**inputs)
        found = watch.loss(mask_of(inputs))
        found.backward()
        assert all(one.grad is not None for one in watch.parameters())
    assert found.ndim == 0
    assert 1e-3 < float(found.detach()) < 1e3
    slopes = [one.grad for one in student.model.parameters() if one.grad is not None]
    assert all(bool(slope.isfinite().all()) for slope in slopes)
    assert any(bool(slope.any()) for slope in slopes)
    assert all(one.grad is None for one in teacher.model.parameters())


@every_loss
@pytest.mark.parametrize("name", marked(READERS))
def test_padding_tells_nothing(name: str, loss: HiddenLoss) -> None:
    teacher = teacher_of(name)
    student, short = smaller(teacher), inputs_of(teacher)
    long = {key: torch.nn.functional.pad(value, (0, 5)) for key, value in short.items()}
    first = lost(loss, student, teacher, short)
    assert lost(loss, student, teacher, long) == pytest.approx(first, rel=1e-4)


@every_loss
def test_a_mask_counts_which_tokens_are_real(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    with watching(loss, student, teacher) as watch:
        run(student, teacher, inputs)
        heeded = float(watch.loss(mask_of(inputs)).detach())
        run(student, teacher, inputs)
        everywhere = float(watch.loss(torch.ones_like(mask_of(inputs))).detach())
    assert heeded != pytest.approx(everywhere, rel=1e-3)


@every_loss
@pytest.mark.parametrize(
    "name", ["bert", "gpt2-text-generation", "t5-text2text-generation", "vit-image-classification"]
)
def test_nobody_listens_after_the_end(name: str, loss: HiddenLoss) -> None:
    teacher = teacher_of(name)
    student = smaller(teacher)
    watch = loss.attach(student, teacher)
    assert hooks(teacher) > 0
    assert hooks(student) > 0
    watch.close()
    assert hooks(teacher) == hooks(student) == 0


def hooks(model: Teacher | Student) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks)
        for module in model.model.modules()
    )


@every_loss
@pytest.mark.parametrize("name", ["bert", "llama-causal-grouped", "gpt_neox-feature-extraction"])
def test_a_few_steps_lower_the_loss_alone(name: str, loss: HiddenLoss) -> None:
    teacher = teacher_of(name)
    student, inputs, found = smaller(teacher), inputs_of(teacher), []
    with watching(loss, student, teacher) as watch:
        trained = [*student.model.parameters(), *watch.parameters()]
        optimizer = torch.optim.Adam(trained, lr=3e-3)
        for _ in range(10):
            run(student, teacher, inputs)
            error = watch.loss(mask_of(inputs))
            error.backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(float(error.detach()))
    assert found[-1] < 0.8 * found[0]


@every_loss
def test_terms_are_exact_where_matrices_are_not(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    with watching(loss, student, teacher) as watch, torch.autocast("cpu", torch.bfloat16):
        run(student, teacher, inputs)
        found = watch.loss(mask_of(inputs))
    assert found.dtype == torch.float32
    assert float(found.detach()) == pytest.approx(lost(loss, student, teacher), rel=0.05)


def test_hidden_error_is_relative_to_the_teacher() -> None:
    teacher = ZOO["bert"].teacher()  # one of its own: transformers hangs hooks of its own into it
    student, inputs = teacher.student(teacher.architecture.scaled(layers=0.5)), inputs_of(teacher)
    mine, theirs = states_after_layers(student, inputs), states_after_layers(teacher, inputs)
    origins = student.kept.layers("encoder")
    truth = [
        float((own - theirs[origin]).square().mean() / theirs[origin].square().mean())
        for own, origin in zip(mine, origins, strict=True)
    ]
    assert lost(HiddenMSE(), student, teacher) == pytest.approx(sum(truth) / 2, rel=1e-5)
    assert lost(HiddenMSE(layers=(-1,)), student, teacher) == pytest.approx(truth[-1], rel=1e-5)


def states_after_layers(model: Teacher | Student, inputs: Given) -> list[Tensor]:
    """Of real tokens, as transformers gives them out."""
    with torch.inference_mode():
        found = model.model(**inputs, output_hidden_states=True).hidden_states[1:]
    return [states[inputs["attention_mask"] == 1] for states in found]


def test_a_projection_begins_as_the_channels_that_are_kept() -> None:
    teacher = teacher_of("bert")
    student = smaller(teacher)
    with watching(HiddenMSE(), student, teacher) as watch:
        (weight,) = watch.parameters()
    states = torch.randn(5, teacher.architecture.hidden_size)
    kept = list(student.kept.hidden)
    put_back = states[:, kept] @ weight.detach().T
    assert torch.equal(put_back[:, kept], states[:, kept])
    assert float(put_back.detach().square().sum()) == pytest.approx(
        float(states[:, kept].square().sum()), rel=1e-5
    )


@given(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 99)
)
def test_relations_are_those_of_the_paper(
    heads: int, tokens: int, own: int, other: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mine = torch.randn(2, tokens, heads * own, generator=generator)
    theirs = torch.randn(2, tokens, heads * other, generator=generator)
    real = torch.rand(2, tokens, generator=generator) < 0.6
    real[:, 0] = True
    terms = []
    for row in range(2):
        places = real[row].nonzero().flatten().tolist()
        for head in range(heads):
            for at in places:
                p = relation(theirs[row], places, at, slice(head * other, (head + 1) * other))
                q = relation(mine[row], places, at, slice(head * own, (head + 1) * own))
                terms.append(float((p * (p / q).log()).sum()))
    found = relation_divergence(mine, theirs, heads, real)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-4, abs=1e-6)


def relation(vectors: Tensor, places: list[int], at: int, head: slice) -> Tensor:
    """How a token is related to each real one: equation 3 of the paper."""
    one = vectors[at, head]
    return torch.stack([one @ vectors[k, head] / len(one) ** 0.5 for k in places]).softmax(0)


def test_interleaved_projections_are_told_apart_as_their_model_does() -> None:
    teacher = teacher_of("gpt_neox-feature-extraction")
    sizes = teacher.architecture
    (stack,) = teacher.family.depths
    (projection,) = attention_of(teacher.layout, teacher.model, stack, 1).projections
    output = torch.randn(2, 3, 3 * sizes.hidden_size)
    shape = (2, 3, sizes.num_attention_heads, 3 * sizes.head_dim)
    expected = [one.flatten(2) for one in output.view(shape).chunk(3, dim=-1)]
    for found, wanted in zip(projection.split(output).values(), expected, strict=True):
        assert torch.equal(found, wanted)


def test_relations_are_of_the_layer_that_is_asked_for() -> None:
    teacher = teacher_of("bert")
    student = smaller(teacher)
    origin = student.kept.layers("encoder")[-1]
    default = lost(AttentionRelations(), student, teacher)
    found = [lost(AttentionRelations(teacher_layer=n), student, teacher) for n in range(4)]
    assert found[origin] == default
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (HiddenMSE(layers=(7,)), r"layer 7 of the student's .*of 2 layers: expected -2 to 1"),
        (AttentionRelations(layer=-3), r"layer -3 of the student's .*of 2 layers"),
        (AttentionRelations(teacher_layer=4), r"layer 4 of the teacher's .*of 4 layers"),
        (AttentionRelations(relation_heads=5), r"relation_heads=5: queries have 24 channels"),
    ],
)
def test_what_is_not_there_cannot_be_compared(loss: HiddenLoss, message: str) -> None:
    teacher = teacher_of("bert")
    student = smaller(teacher)
    with pytest.raises(BadInput, match=message):
        loss.attach(student, teacher)
    assert hooks(teacher) == hooks(student) == 0


def test_settings_without_sense_are_refused() -> None:
    with pytest.raises(BadInput, match=r"layers=\(\): expected at least one"):
        HiddenMSE(layers=())
    with pytest.raises(BadInput, match="relation_heads=0: expected at least one"):
        AttentionRelations(relation_heads=0)


@every_loss
def test_each_loss_wants_a_pass_of_both(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    with watching(loss, student, teacher) as watch:
        student.model(**inputs)
        with pytest.raises(ProtegeError, match="the teacher has not run since the last loss"):
            watch.loss(mask_of(inputs))
        run(student, teacher, inputs)
        watch.loss(mask_of(inputs))
        with pytest.raises(ProtegeError, match="the student has not run since the last loss"):
            watch.loss(mask_of(inputs))


@every_loss
def test_both_have_to_read_the_same(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert")
    student, inputs = smaller(teacher), inputs_of(teacher)
    with watching(loss, student, teacher) as watch:
        teacher.model(**inputs)
        student.model(**{name: value[:2] for name, value in inputs.items()})
        with pytest.raises(Mismatch, match=r"the student read \(2, 9\) .* the teacher \(3, 9\)"):
            watch.loss(mask_of(inputs))


@every_loss
def test_a_student_of_fewer_tokens_is_refused(loss: HiddenLoss) -> None:
    teacher = teacher_of("bert-masked")
    student = teacher.student(teacher.architecture.scaled(vocab=0.5))
    with pytest.raises(Unsupported, match="a student of fewer tokens than its teacher"):
        loss.attach(student, teacher)
    assert hooks(teacher) == 0


def test_a_trial_is_taught_by_all_three(cache: Cache) -> None:
    teacher = ZOO["bert-sentences"].teacher()
    terms = (VectorCosine(), HiddenMSE(weight=0.1), AttentionRelations(weight=0.1))
    given_ = Distillation(
        Texts.of(texts(120)), 12, 16, 30, learning_rate=3e-3, max_tokens=16, losses=terms
    )
    losses = completed(candidate(teacher, cache, given_, layers=0.5, hidden=0.5)).losses
    assert len(losses) == 12
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    assert hooks(teacher) == 0
