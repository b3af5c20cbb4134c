"""What a student with fewer tokens is asked, taught and judged by is what its teacher said."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from protege.objectives import Candidate, Distillation, Retention, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import Targets, divergence
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.language import LanguageTask
from protege.objectives.distillation.tasks.task import TaskScore
from protege.objectives.distillation.teacher_outputs import compute_outputs, judge
from protege.objectives.quality.rungs import CandidateDistillation
from protege.search.front.confirming import confirmed
from protege.spaces import Cache, Teacher
from protege.spaces.files.manifest import kept_tokens
from tests import pieces
from tests.objectives.candidates import candidate, completed, distilled, itself, retained
from tests.objectives.distillation import taught
from tests.objectives.distillation.inputs.test_vocabulary_map import of
from tests.tiny import CASES, WORDS
from tests.zoo import head, marked

READ = Distillation(Texts.of(pieces.TEXTS), 4, 8, selection=30, max_tokens=24)
LESSONS = ["bert", "bert-sentences", "bert-texts", "bert-tokens", "bert-masked", "llama-sentences"]
LESSONS += ["llama-causal-tied", "llama-texts", "llama-tokens"]


class Table(nn.Module):
    """A language model whose logits depend on the token that it reads and on where it stands."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.logits = nn.Parameter(2 * torch.randn(16, size, size, generator=generator))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        places = torch.arange(input_ids.shape[1]).expand_as(attention_mask)
        return SimpleNamespace(logits=self.logits[places, input_ids])

    def logs(self, place: int, read: int) -> Tensor:
        return log_softmax(self.logits[place, read], -1).detach()


def asked(task: LanguageTask, sequences: Sequences, size: int) -> Targets:
    return compute_outputs(Table(size, seed=1), task, sequences)


def packed(*blocks: list[int]) -> Sequences:
    scored = [[True] * (len(block) - 1) + [False] for block in blocks]
    return Sequences.of(blocks, scored, [token for block in blocks for token in block[1:]], 0)


def test_a_token_costs_what_all_of_its_pieces_cost() -> None:
    task, student = LanguageTask(), Table(6)
    given_, vocabulary_map = packed([0, 1, 2], [1, 1]), of([1], [2, 3, 5], [4])
    sequences, targets = task.mapped(given_, asked(task, given_, 3), vocabulary_map)
    scores = judge(student, task, sequences, targets)
    # read as 1 2 3 5 4 and 2 3 5 2 3 5: the first token of a block is not asked for
    paths = [[(0, 1, 2), (1, 2, 3), (2, 3, 5)], [(3, 5, 4)], [(2, 5, 2), (3, 2, 3), (4, 3, 5)]]
    losses = [-sum(float(student.logs(at, read)[then]) for at, read, then in p) for p in paths]
    score = task.score(scores)
    expected = torch.tensor(losses).mean().exp()
    assert score.figures["perplexity"] == pytest.approx(float(expected), rel=1e-5)
    theirs = asked(task, given_, 3)["teacher_loss"].mean().exp()
    assert score.figures["teacher_perplexity"] == pytest.approx(float(theirs), rel=1e-5)
    assert score.value == pytest.approx(float(theirs / expected), rel=1e-5)


def test_each_piece_of_a_masked_token_is_a_mask() -> None:
    task, student = LanguageTask(masked=True), Table(8)
    # the mask is 1 to the teacher and 6 to the student; 2 and 3 are asked back
    given_ = Sequences.of([[0, 1, 4], [1, 0]], [[False, True, False], [True, False]], [2, 3], 0)
    vocabulary_map = of([7], [6], [2, 3], [5], [1, 4])
    sequences, targets = task.mapped(given_, asked(task, given_, 5), vocabulary_map)
    assert sequences.ids.tolist() == [7, 6, 6, 1, 4, 6, 7]
    assert sequences.lengths.tolist() == [5, 2]
    assert sequences.labels.tolist() == [2, 3, 5]
    found = task.score(judge(student, task, sequences, targets))
    losses = [-student.logs(1, 6)[2] - student.logs(2, 6)[3], -student.logs(0, 6)[5]]
    expected = torch.stack(losses).mean().exp()
    assert found.figures["perplexity"] == pytest.approx(float(expected), rel=1e-5)


def test_saying_unknown_costs_the_choice_among_all_that_it_stands_for() -> None:
    task, student = LanguageTask(), Table(2)
    given_ = packed([0, 2, 0])
    vocabulary_map = of([0], [1], [1], untold=torch.tensor([0.0, 2.0, 2.0]).log().clamp(min=0))
    sequences, targets = task.mapped(given_, asked(task, given_, 3), vocabulary_map)
    found = task.score(judge(student, task, sequences, targets))
    loss = -student.logs(0, 0)[1] + torch.tensor(2.0).log() - student.logs(1, 1)[0]
    assert found.figures["perplexity"] == pytest.approx(float((loss / 2).exp()), rel=1e-5)


MERGED = {"tokens": st.sampled_from([8, 60, 200]), "seed": st.integers(0, 30)}


def respelt_targets(theirs: Tensor, first: list[int]) -> Targets:
    """A teacher's answers to one row each, for a student with those first pieces."""
    task = LanguageTask()
    given_ = packed(*[[0, 0]] * len(theirs))
    targets = task.targets(theirs, given_.labels)
    return task.mapped(given_, targets, of(*[[piece] for piece in first]))[1]


@given(pieces_=st.sampled_from([2, 7, 40]), **MERGED)
def test_tokens_with_one_first_piece_are_one_outcome(pieces_: int, tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theirs = 3 * torch.randn(5, tokens, generator=generator)
    mine = log_softmax(3 * torch.randn(5, pieces_, generator=generator), -1)
    first = torch.randint(pieces_, (tokens,), generator=generator)
    found = divergence(mine, respelt_targets(theirs, first.tolist()))
    named = LanguageTask().targets(theirs, torch.zeros(5, dtype=torch.long))
    p = named["log_probability"].double().exp()
    merged = torch.zeros(5, pieces_).double().scatter_add(1, first[named["token"].long()], p)
    seen = merged > 0
    left = [(1 - part).clamp(min=1e-6) for part in (p.sum(1), (mine.exp() * seen).sum(1))]
    direct = torch.where(seen, merged * (merged.clamp(min=1e-300).log() - mine), 0.0).sum(1)
    direct = direct + left[0] * (left[0] / left[1]).log()
    torch.testing.assert_close(found.double(), direct, atol=1e-4, rtol=1e-4)
    assert (found > -4e-3 * (1 + found.abs())).all()  # half precision, as without any merging


@given(**MERGED)
def test_where_nothing_merges_the_divergence_is_the_plain_one(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    theirs = 3 * torch.randn(5, tokens, generator=generator)
    mine = log_softmax(3 * torch.randn(5, tokens, generator=generator), -1)
    first = torch.randperm(tokens, generator=generator)
    found = divergence(mine[:, first.argsort()], respelt_targets(theirs, first.tolist()))
    plain = LanguageTask().targets(theirs, torch.zeros(5, dtype=torch.long))
    torch.testing.assert_close(found, divergence(mine, plain), atol=1e-5, rtol=1e-5)


def test_the_likeliest_outcome_is_the_one_of_most_tokens() -> None:
    # token 0 is the teacher's likeliest, but 1 and 2 begin alike and are likelier together
    theirs = torch.tensor([[0.4, 0.35, 0.25]]).log()
    targets = respelt_targets(theirs, [0, 1, 1])
    assert targets["token"][0].tolist() == [1, 1, 0]
    assert targets["log_part"][0].exp().tolist() == pytest.approx([0.35 / 0.6, 0.25 / 0.6, 1], 1e-3)


@pytest.mark.parametrize("name", ["bert-masked", "llama-causal-tied"])
def test_with_every_token_kept_a_language_model_is_asked_the_same(name: str) -> None:
    teacher = pieces.teacher(name)
    task, kept = distillation_task(teacher), tuple(range(teacher.architecture.vocab_size))
    given_ = taught.asked(teacher, [t for t in pieces.TEXTS if t.isascii()], 24)
    targets = compute_outputs(teacher.model, task, given_)
    vocabulary_map = VocabularyMap.of(teacher, teacher.model, teacher.tokenizer, kept)
    sequences, changed = task.mapped(given_, targets, vocabulary_map)
    assert sequences.fingerprint == given_.fingerprint
    assert not changed["log_part"].any()
    assert changed["row"].tolist() == list(range(given_.rows))
    verdicts = [
        told_of(teacher, inputs, told) for inputs, told in ((given_, targets), (sequences, changed))
    ]
    assert (verdicts[0].value, verdicts[0].spread) == (verdicts[1].value, verdicts[1].spread)
    assert verdicts[0].figures == verdicts[1].figures
    assert torch.equal(verdicts[0].rows, verdicts[1].rows)


def told_of(teacher: Teacher, inputs: TaskInputs, targets: Targets) -> TaskScore:
    task = distillation_task(teacher)
    return task.score(judge(teacher.model, task, inputs, targets))


def known_words(count: int = 60) -> Texts:
    """Texts of the first words alone, which a student with half of the vocabulary has."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(30, (count, 8), generator=generator).tolist()
    return Texts.of(" ".join(WORDS[number] for number in row) for row in numbers)


@pytest.mark.parametrize(
    "name", marked((n for n in CASES if "masked" not in n and "causal" not in n), by=head)
)
@pytest.mark.parametrize("steps", [0, 4])
def test_tokens_that_occur_nowhere_are_no_loss(name: str, steps: int, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    settings = replace(READ, data=known_words(), steps=steps, selection=20)
    found = [retained(cut(teacher, cache, settings, vocab=vocab)) for vocab in (1.0, 0.5)]
    assert found[1].details["pieces_per_token"] == 1
    # beyond the cut itself: norms of gradients are summed in another order
    assert found[1].value == pytest.approx(found[0].value, abs=1e-5 if steps else 0)


def cut(
    teacher: Teacher, cache: Cache, settings: Distillation = READ, *, vocab: float = 0.6
) -> Candidate:
    return candidate(teacher, cache, settings, layers=0.5, vocab=vocab)


@pytest.mark.parametrize("name", marked(LESSONS, by=head))
def test_a_student_with_fewer_tokens_is_taught_and_judged(name: str, cache: Cache) -> None:
    given_ = cut(pieces.teacher(name), cache)
    run = completed(given_)
    found = run.published.measurements["retention"]
    assert len(run.losses) == READ.steps
    assert torch.isfinite(torch.tensor([found.value, found.spread, *run.losses])).all()
    assert float(found.details["pieces_per_token"]) > 1.05
    assert given_.stopwatch.seconds["map vocabulary"] > 0


@pytest.mark.parametrize("name", marked(LESSONS, by=head))
def test_a_loaded_student_is_judged_as_it_was_when_built(
    name: str, cache: Cache, tmp_path: Path
) -> None:
    teacher = pieces.teacher(name)
    best = distilled(cut(teacher, cache))
    folder = best.candidate.student.save(tmp_path / "student")
    kept = kept_tokens(folder)
    assert kept == best.candidate.student.kept.vocab
    assert kept is not None
    again = confirmed([Retention()], itself(teacher, cache, READ), folder)
    assert again["retention"] == best.measurements["retention"].value


@pytest.mark.parametrize("name", ["bert-masked", "llama-causal-tied"])
def test_training_helps_a_language_model_in_its_own_pieces(name: str, cache: Cache) -> None:
    teacher = pieces.teacher(name)
    longer = replace(READ, steps=40, learning_rate=3e-3)
    first, *_, last = CandidateDistillation(cut(teacher, cache, longer), [Retention()]).rungs()
    cut_, trained = (one.measurements["retention"].details for one in (first, last))
    assert float(trained["kl"]) < float(cut_["kl"]) - 0.05


def test_the_teacher_is_asked_once_for_students_of_every_vocabulary(cache: Cache) -> None:
    teacher = pieces.teacher("llama-causal-tied")
    calls: list[object] = []
    retained(cut(teacher, cache, vocab=1.0))
    teacher.model.base_model.register_forward_hook(lambda *_: calls.append(_))
    for vocab in (0.9, 0.5):
        retained(cut(teacher, cache, vocab=vocab))
    assert not calls


def test_a_student_without_a_manifest_has_all_tokens_as_far_as_is_known(tmp_path: Path) -> None:
    assert kept_tokens(tmp_path) is None
    CASES["bert"].teacher().student(CASES["bert"].teacher().architecture).save(tmp_path)
    assert kept_tokens(tmp_path) is None
