"""What is kept of a teacher's answers, and what a student's are worth beside them."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from protege.objectives import Example
from protege.objectives.distillation.inputs.sequences import Sequences, tokens_in
from protege.objectives.distillation.losses.losses import NO_LABEL
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.classes import ClassTask
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.sentences import SentenceTask, neighbours_kept
from protege.objectives.distillation.tasks.task import DistillationTask, TaskScore
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.spaces import BadInput, Teacher
from tests.objectives.distillation.taught import asked, module_of
from tests.tiny import CASES, SPECIAL, texts

LANGUAGE = LanguageTask()


def judged(teacher: Teacher, other: Teacher) -> TaskScore:
    """What a model retains of a teacher on thirty texts."""
    task, inputs = distillation_task(teacher), asked(teacher, texts(30))
    targets = compute_outputs(module_of(teacher), task, inputs)
    return task.score(judge(module_of(other), task, inputs, targets))


@pytest.mark.parametrize("name", CASES)
def test_what_each_row_is_worth_makes_up_the_value(name: str) -> None:
    teacher, other = CASES[name].teacher(seed=0), CASES[name].teacher(seed=1)
    score = judged(teacher, other)
    assert len(score.rows) == asked(teacher, texts(30)).rows
    mean = float(score.rows.double().mean())
    assert score.of_mean(mean) == pytest.approx(score.value, rel=1e-6)
    # more is better
    assert score.of_mean(mean + 0.1) > score.value > score.of_mean(mean - 0.1)


@pytest.mark.parametrize("name", CASES)
def test_the_teacher_retains_all_of_itself(name: str) -> None:
    teacher = CASES[name].teacher()
    score = judged(teacher, teacher)
    assert score.value == pytest.approx(1.0, abs=1e-6)
    assert score.spread == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_another_model_is_not_the_teacher(name: str) -> None:
    teacher, other = CASES[name].teacher(seed=0), CASES[name].teacher(seed=1)
    score = judged(teacher, other)
    assert score.value != pytest.approx(1.0, abs=1e-3)


def sentence_scores(student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    return {"student": student, "teacher": teacher}


def test_the_cosine_is_the_mean_over_texts() -> None:
    teacher = torch.eye(4)
    student = torch.stack([teacher[0] * 3, -teacher[1], teacher[3], teacher[2] + teacher[3]])
    score = SentenceTask().score(sentence_scores(student, teacher))
    assert score.value == pytest.approx((1 - 1 + 0 + 0.5**0.5) / 4)


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
    task = ClassTask()
    one_hot = torch.eye(2)
    targets = task.targets(one_hot[theirs], torch.tensor(labels))
    score = task.score(task.scores(one_hot[mine], targets, torch.tensor(labels)))
    assert score.value == pytest.approx(value)


def store(task: DistillationTask, teacher: Teacher, given: list[str], max_tokens: int) -> Sequences:
    """The texts as the sequences that a task asks."""
    return tokens_in(task.inputs(teacher, [Example(text) for text in given], max_tokens))


def test_masked_tokens_are_asked_back() -> None:
    teacher = CASES["bert-masked"].teacher()
    given = texts(30)
    sequences = store(LanguageTask(masked=True), teacher, given, 16)
    ids = teacher.tokenizer(given)["input_ids"]
    flat = torch.tensor([token for one in ids for token in one])
    assert sequences.scored is not None
    assert torch.equal(flat[sequences.scored], sequences.labels)
    assert (sequences.ids[sequences.scored] == teacher.tokenizer.mask_token_id).all()
    assert torch.equal(flat[~sequences.scored], sequences.ids[~sequences.scored].long())
    assert (sequences.labels >= len(SPECIAL)).all()
    again = store(LanguageTask(masked=True), teacher, given, 16)
    assert again.fingerprint == sequences.fingerprint


def test_packed_text_asks_for_the_token_that_follows() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    sequences = store(LANGUAGE, teacher, texts(30), 8)
    assert (sequences.lengths == 8).all()
    blocks = sequences.ids.reshape(-1, 8)
    assert torch.equal(sequences.labels, blocks[:, 1:].reshape(-1).long())
    stream = " ".join(f"{text} [SEP]" for text in texts(30)).split()
    read = teacher.tokenizer.convert_ids_to_tokens(sequences.ids.tolist())
    assert read == stream[: len(read)]


def test_too_little_text_to_fill_a_sequence_is_refused() -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    with pytest.raises(BadInput, match="do not fill one sequence of 32; give more text"):
        store(LANGUAGE, teacher, texts(3), 4096)


def test_a_tokenizer_without_a_mask_cannot_be_asked_for_masked_tokens() -> None:
    llama = CASES["llama-causal-tied"].teacher()
    with pytest.raises(BadInput, match="tiny: its tokenizer has no mask token"):
        store(LanguageTask(masked=True), llama, texts(3), 8)


def test_texts_are_cut_to_the_longest_sequence_and_to_what_the_encoder_reads(
    teacher: Teacher,
) -> None:
    sequences = asked(teacher, texts(30, longest=30), 6)
    assert int(sequences.lengths.max()) == 6
