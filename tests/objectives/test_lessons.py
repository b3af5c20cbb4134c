"""What is kept of a teacher's answers, and what a student's are worth beside them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax, normalize

from protege.objectives.distillation.classes import NO_LABEL, ClassLesson
from protege.objectives.distillation.distillation import judge, remember
from protege.objectives.distillation.language import TOP, LanguageLesson, divergence
from protege.objectives.distillation.lesson import Targets
from protege.objectives.distillation.sentences import SentenceLesson, neighbours_kept
from protege.objectives.retention import lesson_of
from protege.spaces import BadInput, Teacher
from tests.tiny import CASES, SPECIAL, texts

LANGUAGE = LanguageLesson()
BYTES_A_ROW = 300


def logits(rows: int, width: int, scale: float, seed: int) -> Tensor:
    return scale * torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def kept(answer: Tensor) -> Targets:
    return LANGUAGE.targets(answer, torch.zeros(len(answer), dtype=torch.long))


SHAPES = {
    "width": st.sampled_from([8, TOP, TOP + 1, 200]),
    "scale": st.sampled_from([0.1, 1.0, 5.0]),
    "seed": st.integers(0, 50),
}


@given(**SHAPES)
def test_divergence_is_between_zero_and_that_over_all_tokens(
    width: int, scale: float, seed: int
) -> None:
    theirs, mine = logits(6, width, scale, seed), logits(6, width, scale, seed + 100)
    found = divergence(log_softmax(mine, -1), kept(theirs))
    pair = log_softmax(mine, -1), log_softmax(theirs, -1)
    full = kl_div(*pair, reduction="none", log_target=True).sum(-1)
    # log-probabilities are kept in half precision: eleven bits
    tolerance = 4e-3 * (1 + full)
    assert (found >= -tolerance).all()
    assert (found <= full + tolerance).all()


@given(**SHAPES)
def test_the_teacher_does_not_diverge_from_itself(width: int, scale: float, seed: int) -> None:
    answer = logits(6, width, scale, seed)
    assert divergence(log_softmax(answer, -1), kept(answer)).abs().max() < 4e-3


def test_mass_on_tokens_that_were_not_kept_counts() -> None:
    flat = torch.zeros(1, 4 * TOP)
    elsewhere = flat.clone()
    elsewhere[0, : TOP * 2] = 5.0
    targets = kept(elsewhere)
    assert divergence(log_softmax(flat, -1), targets) > 0.1
    # among the tokens beyond the kept ones, how the mass lies is not known and not asked
    rest = torch.ones(4 * TOP, dtype=torch.bool)
    rest[targets["token"][0].long()] = False
    moved = elsewhere.clone()
    moved[0, rest] = elsewhere[0, rest].flip(0)
    assert divergence(log_softmax(moved, -1), targets).abs() < 4e-3


@given(**SHAPES)
def test_the_loss_pulls_towards_the_teacher(width: int, scale: float, seed: int) -> None:
    targets = kept(logits(6, width, scale, seed))
    mine = logits(6, width, scale, seed + 100).requires_grad_()
    before = LANGUAGE.loss(mine, targets)
    before.backward()
    assert mine.grad is not None
    with torch.no_grad():
        after = LANGUAGE.loss(mine - 1e-2 * mine.grad / mine.grad.norm(), targets)
    assert after < before


def test_a_language_models_answers_are_kept_in_few_bytes() -> None:
    targets = kept(logits(10, 50_000, 3.0, 0))
    a_row = sum(tensor.element_size() * tensor[0].numel() for tensor in targets.values())
    assert a_row <= BYTES_A_ROW


@pytest.mark.parametrize("name", CASES)
def test_the_teacher_retains_all_of_itself(name: str) -> None:
    teacher = CASES[name].teacher()
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(30), [NO_LABEL] * 30, 16)
    module = teacher.embedder() or teacher.model
    targets = remember(module, lesson, sequences, 8)
    verdict = lesson.verdict(judge(module, lesson, sequences, targets, 8))
    assert verdict.value == pytest.approx(1.0, abs=1e-6)
    assert verdict.spread == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_another_model_is_not_the_teacher(name: str) -> None:
    teacher, other = CASES[name].teacher(seed=0), CASES[name].teacher(seed=1)
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(30), [NO_LABEL] * 30, 16)
    modules = [one.embedder() or one.model for one in (teacher, other)]
    targets = remember(modules[0], lesson, sequences, 8)
    verdict = lesson.verdict(judge(modules[1], lesson, sequences, targets, 8))
    assert verdict.value != pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_answers_are_kept_row_by_row_whatever_the_batch(name: str) -> None:
    teacher = CASES[name].teacher()
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(30), [NO_LABEL] * 30, 16)
    module = teacher.embedder() or teacher.model
    one, other = (remember(module, lesson, sequences, size) for size in (1, 7))
    for kind, tensor in one.items():
        if tensor.is_floating_point():
            assert len(tensor) == sequences.rows
            torch.testing.assert_close(tensor.float(), other[kind].float(), rtol=1e-2, atol=1e-2)


def sentence_scores(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    return {"student": student, "teacher": teacher}


def test_the_cosine_is_the_mean_over_texts() -> None:
    teacher = torch.eye(4)
    student = torch.stack([teacher[0] * 3, -teacher[1], teacher[3], teacher[2] + teacher[3]])
    verdict = SentenceLesson().verdict(sentence_scores(student, teacher))
    assert verdict.value == pytest.approx((1 - 1 + 0 + 0.5**0.5) / 4)


def test_neighbours_are_the_share_of_the_teachers_own() -> None:
    around = torch.linspace(0, 3, 30)
    teacher = torch.stack([around.cos(), around.sin()], dim=1)
    assert neighbours_kept(teacher * 7, teacher) == 1.0
    # the same circle in more dimensions, and rotated
    assert neighbours_kept(torch.nn.functional.pad(teacher.flip(1), (0, 3)), teacher) == 1.0
    scrambled = teacher[torch.randperm(30, generator=torch.Generator().manual_seed(0))]
    assert neighbours_kept(scrambled, teacher) < 0.6


def test_no_text_is_its_own_neighbour() -> None:
    vectors = normalize(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    # with eleven others and ten neighbours, all but the farthest are kept at worst
    assert neighbours_kept(-vectors, vectors) == 1.0
    assert neighbours_kept(torch.randn(12, 3), vectors) >= 0.9


@pytest.mark.parametrize(
    ("mine", "theirs", "labels", "value"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0], [0, 1, 1, 0], 1.0),
        ([0, 1, 0, 1], [0, 1, 1, 0], [0, 1, 1, 0], 0.5),
        ([0, 1, 0, 1], [0, 1, 1, 0], [NO_LABEL] * 4, 0.5),
        # right where the teacher is wrong: better than it
        ([0, 1, 1, 0], [0, 1, 1, 1], [0, 1, 1, 0], 4 / 3),
    ],
)
def test_classifiers_are_judged_by_accuracy_or_agreement(
    mine: list[int], theirs: list[int], labels: list[int], value: float
) -> None:
    lesson = ClassLesson()
    one_hot = torch.eye(2)
    targets = lesson.targets(one_hot[theirs], torch.tensor(labels))
    verdict = lesson.verdict(lesson.scores(one_hot[mine], targets, torch.tensor(labels)))
    assert verdict.value == pytest.approx(value)


def test_masked_tokens_are_asked_back() -> None:
    teacher = CASES["bert-masked"].teacher()
    given = texts(30)
    sequences = LanguageLesson(masked=True).sequences(teacher, given, [0] * 30, 16)
    ids = teacher.tokenizer(given)["input_ids"]
    flat = torch.tensor([token for one in ids for token in one])
    assert sequences.scored is not None
    assert torch.equal(flat[sequences.scored], sequences.labels)
    assert (sequences.ids[sequences.scored] == teacher.tokenizer.mask_token_id).all()
    assert torch.equal(flat[~sequences.scored], sequences.ids[~sequences.scored].long())
    assert (sequences.labels >= len(SPECIAL)).all()
    again = LanguageLesson(masked=True).sequences(teacher, given, [0] * 30, 16)
    assert again.fingerprint == sequences.fingerprint


def test_packed_text_asks_for_the_token_that_follows() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    sequences = LANGUAGE.sequences(teacher, texts(30), [0] * 30, 8)
    assert (sequences.lengths == 8).all()
    blocks = sequences.ids.reshape(-1, 8)
    assert torch.equal(sequences.labels, blocks[:, 1:].reshape(-1).long())
    stream = " ".join(f"{text} [SEP]" for text in texts(30)).split()
    read = teacher.tokenizer.convert_ids_to_tokens(sequences.ids.tolist())
    assert read == stream[: len(read)]


def test_too_little_text_to_fill_a_sequence_is_refused() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    with pytest.raises(BadInput, match="do not fill one sequence of 4096; give more text"):
        LANGUAGE.sequences(teacher, texts(3), [0] * 3, 4096)


def test_a_tokenizer_without_a_mask_cannot_be_asked_for_masked_tokens() -> None:
    llama = CASES["llama-causal-tied"].teacher()
    with pytest.raises(BadInput, match="tiny: its tokenizer has no mask token"):
        LanguageLesson(masked=True).sequences(llama, texts(3), [0] * 3, 8)


def test_texts_are_cut_to_the_longest_sequence_and_to_what_the_encoder_reads(
    teacher: Teacher,
) -> None:
    lesson = lesson_of(teacher)
    sequences = lesson.sequences(teacher, texts(30, longest=30), [NO_LABEL] * 30, 6)
    assert int(sequences.lengths.max()) == 6
