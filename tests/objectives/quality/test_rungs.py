"""What a student is worth at every rung, and that no trial is published below its best one."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from protege.objectives import (
    Direction,
    Distillation,
    HiddenMSE,
    Progressive,
    Retention,
    Texts,
    VectorCosine,
)
from protege.objectives.distillation.teacher_outputs import ASKED
from protege.objectives.measurement import TrainingRecord
from protege.objectives.quality.checkpoint import Rung
from protege.objectives.quality.rungs import CandidateDistillation, training_of
from protege.spaces import Cache, ProtegeError, Unsupported
from tests import pieces
from tests.objectives.candidates import candidate, completed, distilled, half, itself, retained
from tests.objectives.quality.scripted import Scripted, state
from tests.tiny import CASES, texts
from tests.zoo import head, marked

CORPUS = Texts.of(texts(120))
SHORT = Distillation(CORPUS, 9, 8, selection=30, max_tokens=16, precision="float32")
"""Rungs after 0, 1, 3 and 9 steps."""

PIECES = Distillation(Texts.of(pieces.TEXTS), 4, 8, max_tokens=16)

# a few tokens alone make no block of packed text
KINDS = marked((name for name in CASES if name != "bert"), by=head)

# of language models this small some guess the text better than their random teacher does, and
# classifiers this small cannot be made worse
HARMED = [*(name for name in CASES if "sentences" in name), "llama-causal-tied"]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def values(rungs: list[Rung], name: str = "retention") -> list[float]:
    return [rung.measurements[name].value for rung in rungs]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """A cache for tests of many examples."""
    return Cache(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", KINDS)
def test_rungs_come_in_order_and_the_last_is_what_is_published(name: str, cache: Cache) -> None:
    teacher = CASES[name].teacher()
    run = CandidateDistillation(half(teacher, cache, SHORT), [Retention()])
    found, trained = [], []
    for rung in run.rungs():
        found.append(rung)
        trained.append(len(run.losses))
    assert [rung.step for rung in found] == trained == [0, 1, 3, 9]
    assert [rung.is_last for rung in found] == [False, False, False, True]
    assert found[-1].published == run.published.measurements
    assert found[-1].published == distilled(half(teacher, cache, SHORT)).measurements
    untrained = retained(half(teacher, cache, replace(SHORT, steps=0)))
    assert found[0].measurements == {"retention": untrained}


def test_whoever_stops_asking_ends_the_training(cache: Cache) -> None:
    given_ = half(CASES["bert-sentences"].teacher(), cache, SHORT)
    told: list[str] = []
    given_.stopwatch.announce = told.append
    rungs = CandidateDistillation(given_, [Retention()]).rungs()
    assert [next(rungs).step, next(rungs).step] == [0, 1]
    del rungs
    assert [word for word in told if word.startswith("distil ")] == ["distil 1/9"]


def test_the_teacher_is_worth_the_same_at_every_rung(cache: Cache) -> None:
    given_ = itself(CASES["llama-causal-tied"].teacher(), cache, SHORT)
    run = CandidateDistillation(given_, [Retention()])
    found = list(run.rungs())
    assert [(rung.step, rung.is_last) for rung in found] == [(0, 0), (1, 0), (3, 0), (9, 1)]
    assert len(set(values(found))) == 1
    assert values(found)[0] == pytest.approx(1.0, abs=1e-6)
    assert "distil" not in given_.stopwatch.seconds
    assert run.record is None


def test_before_the_first_rung_there_is_nothing_to_publish(cache: Cache) -> None:
    run = CandidateDistillation(
        half(CASES["bert-sentences"].teacher(), cache, SHORT), [Retention()]
    )
    with pytest.raises(ProtegeError, match="no rung was scored yet: there is no student"):
        _ = run.published


# of random text a random student may know more than its random teacher: there the divergence tells
@pytest.mark.parametrize(
    ("name", "figure", "better"),
    [("bert-sentences-dense", "cosine", 1), ("llama-causal-grouped", "kl", -1)],
)
def test_training_helps(name: str, figure: str, better: int, cache: Cache) -> None:
    longer = replace(SHORT, steps=40, learning_rate=3e-3, precision="auto")
    run = CandidateDistillation(half(CASES[name].teacher(), cache, longer), [Retention()])
    first, *_, last = run.rungs()
    cut, trained = (float(one.measurements["retention"].details[figure]) for one in (first, last))
    assert (first.step, last.step) == (0, 40)
    assert better * (trained - cut) > 0.05


@pytest.mark.usefixtures("harmful_training")
@pytest.mark.parametrize("name", HARMED)
def test_a_student_that_training_makes_worse_is_published_as_it_was_cut(
    name: str, cache: Cache
) -> None:
    given_ = half(CASES[name].teacher(), cache, replace(SHORT, learning_rate=3e-3))
    run, cut = completed(given_), given_.built()
    assert run.published.measurements == {"retention": Retention().measure(cut)}
    assert run.published.step == 0
    assert run.record is not None
    assert (run.record.best_step, run.record.steps, len(run.record.losses)) == (0, 9, 9)
    assert same(state(run.published.candidate), state(cut))


@pytest.mark.usefixtures("harmful_training")
@pytest.mark.parametrize("rungs", [(), (0.5,)])
def test_the_start_counts_where_no_rung_is_asked_for_at_it(
    cache: Cache, rungs: tuple[float, ...]
) -> None:
    settings = replace(SHORT, learning_rate=3e-3, rungs=rungs)
    given_ = half(CASES["bert-sentences"].teacher(), cache, settings)
    run, cut = CandidateDistillation(given_, [Retention()]), given_.built()
    found = list(run.rungs())
    assert [rung.step for rung in found] == settings.rung_steps
    assert found[-1].published == {"retention": Retention().measure(cut)}
    assert same(state(run.published.candidate), state(cut))


@pytest.mark.usefixtures("harmful_training")
def test_a_deeper_start_that_ends_worse_is_published_as_the_student_that_was_cut(
    cache: Cache,
) -> None:
    settings = replace(SHORT, learning_rate=0.1, progressive=Progressive(until=0.3))
    given_ = half(CASES["bert-sentences"].teacher(), cache, settings)
    best, cut = distilled(given_), given_.built()
    assert best.step == 0
    assert best.measurements == {"retention": Retention().measure(cut)}
    assert same(state(best.candidate), state(cut))


def test_every_rung_tells_what_it_is_worth_and_what_would_be_published(cache: Cache) -> None:
    wild = replace(SHORT, learning_rate=0.3)
    given_ = half(CASES["bert-sentences"].teacher(), cache, wild)
    found = list(CandidateDistillation(given_, [Retention()]).rungs())
    best = [max(values(found)[: at + 1]) for at in range(len(found))]
    assert [rung.published["retention"].value for rung in found] == best


@given(
    scores=st.lists(st.floats(-5, 5), min_size=1, max_size=6),
    direction=st.sampled_from(["maximize", "minimize"]),
)
def test_the_first_of_the_best_rungs_is_published(
    scores: list[float], direction: Direction, shared: Cache
) -> None:
    steps = len(scores) - 1
    settings = replace(SHORT, steps=steps, rungs=tuple(step / steps for step in range(steps)))
    judge = Scripted(scores, direction=direction)
    run = CandidateDistillation(half(CASES["bert-sentences"].teacher(), shared, settings), [judge])
    found = list(run.rungs())
    assert values(found, "scripted") == scores
    best = scores.index((max if direction == "maximize" else min)(scores))
    assert run.published.step == best
    assert run.published.measurements["scripted"].value == scores[best]
    # its weights are those of then, and not what training has made of them since
    assert same(state(run.published.candidate), judge.seen[best][1])
    assert all(not same(judge.seen[best][1], it[1]) for it in judge.seen[best + 1 :])


def test_the_given_student_stays_as_it_is(cache: Cache) -> None:
    given_ = half(CASES["bert-sentences"].teacher(), cache, SHORT)
    judge = Scripted([0.0, 1.0, 2.0, 3.0])
    best = distilled(given_, judge)
    assert given_.made is None
    # the candidates that were measured first and last still hold what they held then
    for at in (0, -1):
        measured, then = judge.seen[at]
        assert same(state(measured), then)
    assert not same(judge.seen[0][1], judge.seen[-1][1])
    assert best.candidate.student is judge.seen[-1][0].student


@pytest.mark.parametrize("progressive", [None, Progressive(until=0.5)])
def test_a_training_copies_the_student_that_it_trains(
    cache: Cache, progressive: Progressive | None
) -> None:
    settings = replace(SHORT, progressive=progressive)
    start = half(CASES["llama-causal-tied"].teacher(), cache, settings).built()
    before, training = state(start), training_of(start)
    assert training.student is not start.student
    assert list(training.run([9])) == [9]
    assert same(state(start), before)
    assert not same(state(start.trained(training.reached())), before)


def test_the_record_of_a_training_goes_as_far_as_it_went(cache: Cache) -> None:
    judge = Scripted([0.0, 1.0, 0.5, 0.7])
    run = CandidateDistillation(half(CASES["bert-sentences"].teacher(), cache, SHORT), [judge])
    records = []
    for _ in run.rungs():
        assert run.record is not None
        records.append(run.record)
    assert [(one.steps, one.best_step) for one in records] == [(0, 0), (1, 1), (3, 1), (9, 1)]
    assert [one.losses for one in records] == [tuple(run.losses[:n]) for n in (0, 1, 3, 9)]
    assert records[0] == TrainingRecord(0, 0)
    assert 0 < records[-1].learning_rate <= SHORT.learning_rate


def test_two_objectives_are_scored_at_rungs_and_the_first_selects(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    for first, step in ((Scripted([0, 9, 1, 2]), 1), (Scripted([0, 1, 2, 9]), 9)):
        run = CandidateDistillation(half(teacher, cache, SHORT), [first, Retention()])
        found = list(run.rungs())
        alone = list(CandidateDistillation(half(teacher, cache, SHORT), [Retention()]).rungs())
        # that another one selects changes no score
        assert values(found) == values(alone)
        assert values(found, "scripted") == list(first.values)
        assert run.published.step == step
        at = [rung.step for rung in found].index(step)
        assert run.published.measurements == found[at].measurements
        assert Retention().measure(run.published.candidate).value == values(found)[at]


def test_two_retentions_are_scored_at_rungs(cache: Cache) -> None:
    other = Retention(Texts.of(text for text in texts(300) if text not in CORPUS.texts), None, "b")
    given_ = half(CASES["bert-sentences"].teacher(), cache, SHORT)
    best = distilled(given_, Retention(), other)
    assert list(best.measurements) == ["retention", "retention_b"]
    for objective in (Retention(), other):
        assert best.measurements[objective.name] == objective.measure(best.candidate)


@pytest.mark.parametrize("at", [0, 1])
def test_a_figure_that_is_no_number_says_what_to_change(cache: Cache, at: int) -> None:
    judge = Scripted([*[0.0] * at, float("nan")])
    given_ = half(CASES["bert-sentences"].teacher(), cache, SHORT)
    with pytest.raises(ProtegeError, match=rf"after step {at} is nan, .*; lower learning_rate="):
        distilled(given_, judge)


def test_the_retention_of_a_student_that_is_lost_is_no_number(cache: Cache) -> None:
    lost = half(CASES["bert-sentences"].teacher(), cache, SHORT).built()
    with torch.no_grad():
        next(lost.student.model.parameters()).fill_(torch.nan)
    assert not torch.tensor(Retention().measure(lost).value).isfinite()


def test_a_teacher_may_answer_anew_at_every_step(cache: Cache) -> None:
    teacher = CASES["llama-causal-tied"].teacher()
    exact = replace(SHORT, steps=4, selection=20)
    kept = completed(half(teacher, cache, exact))
    on_disk = size(cache)
    other = Cache(cache.folder / "other")
    found = completed(half(teacher, other, replace(exact, answers="online")))
    assert found.losses == pytest.approx(kept.losses, rel=1e-2)
    mine, theirs = (one.published.measurements["retention"].value for one in (found, kept))
    assert mine == pytest.approx(theirs, rel=1e-2)
    # what is judged on is kept all the same
    assert 0 < size(other) < on_disk


def size(cache: Cache) -> int:
    return sum(path.stat().st_size for path in cache.folder.rglob("*.bin"))


def test_a_student_of_fewer_tokens_is_not_taught_anew_at_every_step(cache: Cache) -> None:
    anew = replace(PIECES, answers="online")
    fewer = candidate(pieces.teacher("bert-sentences"), cache, anew, vocab=0.6)
    with pytest.raises(Unsupported, match=r"a teacher that answers online, .*cached"):
        distilled(fewer)


def test_losses_that_look_inside_need_no_cache(cache: Cache) -> None:
    settings = replace(SHORT, steps=4, losses=(VectorCosine(), HiddenMSE(0.1)), selection=20)
    given_ = half(CASES["bert-sentences"].teacher(), cache, settings)
    assert len(completed(given_).losses) == 4
    # of the teacher's outputs only those that students are scored by are kept
    assert len([*cache.folder.glob(f"*/{ASKED}.bin")]) == 1


def test_a_student_may_start_deeper(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    settings = replace(SHORT, progressive=Progressive(until=0.3))
    run = CandidateDistillation(half(teacher, cache, settings), [Retention()])
    assert [rung.step for rung in run.rungs()] == [3, 9]
    student = run.published.candidate.student
    assert student.architecture.sizes() == run.candidate.architecture.sizes()
    assert student.model.config.num_hidden_layers == 2
    plain = completed(half(teacher, cache, replace(settings, progressive=None)))
    assert plain.losses != run.losses


# agreement of a classifier this small is 1 before it has learnt anything
PROGRESSIVE = ["bert-sentences", "bert-masked", "llama-causal-tied"]


@pytest.mark.parametrize("name", PROGRESSIVE)
def test_a_deeper_start_ends_in_a_student_of_its_own_depth_that_is_judged(
    name: str, cache: Cache
) -> None:
    teacher = CASES[name].teacher()
    settings = replace(SHORT, progressive=Progressive(until=0.5), selection=20)
    given_ = half(teacher, cache, settings)
    run, plain = completed(given_), given_.built()
    best = run.published.candidate
    assert best.student.manifest() == plain.student.manifest()
    assert best.student.model.config.num_hidden_layers == 2 < teacher.config.num_hidden_layers
    assert len(run.losses) == 9
    found = run.published.measurements["retention"].value
    assert found == Retention().measure(best).value
    assert found != Retention().measure(plain).value


def test_a_deeper_start_of_fewer_tokens_ends_in_the_student_of_that_size(cache: Cache) -> None:
    teacher = pieces.teacher("bert-sentences")
    settings = replace(PIECES, steps=6, learning_rate=3e-3, progressive=Progressive(until=0.5))
    fewer = candidate(teacher, cache, settings, vocab=0.6, layers=0.5)
    training = training_of(fewer.built())
    assert training.shrinking is not None
    assert training.student is training.shrinking.student
    run = completed(fewer)
    student = run.published.candidate.student
    assert student.kept.vocab == fewer.built().student.kept.vocab
    assert student.model.config.num_hidden_layers == fewer.architecture.num_hidden_layers
    assert len(run.losses) == 6
