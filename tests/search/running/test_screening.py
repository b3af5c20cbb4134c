"""Candidates that are sure to be too slow: found out by what was measured, and by nothing else."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler

from protege.objectives import Candidate, Latency, Measurement, Memory, Workload
from protege.objectives.candidate import Prepared
from protege.objectives.latency import Plan
from protege.objectives.latency.device.loop import Sample
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.predictor.model import ENOUGH
from protege.search import Front, Search, State, Trial
from protege.search.records.objectives import ObjectiveRecord
from protege.search.running.screening import screened
from protege.search.storage.storage import read_study
from protege.spaces import Architecture, Cache, Ends, First, Teacher
from tests.search.conftest import emptied
from tests.search.toys import OWN, WIDE, toy

SPACE = replace(WIDE, layer_policy=Ends(), width_policy=First(), healing="none")
STUDENTS: Sequence[Architecture] = SPACE.of(OWN).members
QUICK = Plan(usual_pairs=10, back_off_s=(), cool_down_s=0.0)


def law_ms(layers: int, hidden: int, ffn: int) -> float:
    """Milliseconds of a call: 4.5 for the teacher of this module, 0.8 for its smallest student."""
    return 0.5 + layers * (0.2 + hidden * (hidden + ffn) / 2000)


def worth_ms(own: Architecture) -> float:
    return law_ms(own.num_hidden_layers, own.hidden_size, own.intermediate_size)


@dataclass(frozen=True)
class Device:
    """Every model takes what `law_ms` says.

    Attributes:
        asked: Sizes of the models that were timed on it.
    """

    asked: list[tuple[int, int, int]] = field(default_factory=list, repr=False, compare=False)
    threads: int = 1
    label: str = "lawful"

    def description(self) -> dict[str, str]:
        return {"device": "lawful"}

    def trace(self, models: Sequence[Model], _workload: Workload, plan: Plan) -> Trace:
        sizes = [_sizes(model) for model in models]
        self.asked.append(sizes[-1])
        times = [law_ms(*one) for one in sizes]
        rounds = (tuple(Sample(w, w, 0, w, w) for w in times),) * plan.usual_pairs
        return Trace(tuple(times), rounds)


def _sizes(model: Model) -> tuple[int, int, int]:
    config: Any = model.configuration()  # type: ignore[union-attr]
    return config.num_hidden_layers, config.hidden_size, config.intermediate_size


def latency(limit_ms: float | None, **changes: Any) -> Latency:
    device = changes.pop("target", None) or Device()
    return Latency(device, Workload(prompt_tokens=8), limit_ms, QUICK, **changes)


def timed(trials: int, off: Callable[[int], float] = lambda _: 1.0) -> list[Trial]:
    """Trials of different students that were measured, off by this factor each."""
    # spread over the space, so that no size is the same in all of them
    chosen = [STUDENTS[7 * at % len(STUDENTS)] for at in range(trials)]
    return [
        Trial(
            number=at,
            key=one.key(),
            architecture=one.fields(),
            state=State.COMPLETE if at % 2 else State.SCREENED,
            measurements={"latency_ms": Measurement(worth_ms(one) * off(at))},
        )
        for at, one in enumerate(chosen)
    ]


@pytest.fixture
def candidate(teacher: Teacher, folder: Path) -> Candidate:
    """A student that none of the trials of `timed` is of the sizes of."""
    own = next(one for one in STUDENTS if one.key() not in {t.key for t in timed(25)})
    return Candidate(Prepared(teacher, Cache(folder)), own)


def test_what_is_over_the_limit_by_more_than_the_margin_is_screened(candidate: Candidate) -> None:
    value = worth_ms(candidate.architecture)
    trial = screened(7, candidate, [latency(0.94 * value)], timed(25))
    assert trial is not None
    predicted_ms = trial.predictions["latency_ms"]
    assert predicted_ms == pytest.approx(value, rel=0.005)
    assert (trial.number, trial.key) == (7, candidate.architecture.key())
    assert trial.state is State.SCREENED
    assert trial.measurements == {}
    assert set(trial.seconds) == {"screen"}
    assert trial.reason == (
        f"latency_ms is predicted as {predicted_ms:.4g} ± 5.0%, learned from 25 measured students: "
        f"beyond the limit {0.94 * value:g}"
    )


@pytest.mark.parametrize("share", [0.96, 1.0, 2.0, None])
def test_what_may_be_within_the_limit_is_measured(
    candidate: Candidate, share: float | None
) -> None:
    limit_ms = share and share * worth_ms(candidate.architecture)
    assert screened(7, candidate, [latency(limit_ms)], timed(25)) is None


def test_the_margin_is_what_the_model_itself_is_wrong_by(candidate: Candidate) -> None:
    value = worth_ms(candidate.architecture)
    off = np.random.default_rng(0).normal(1, 0.1, 25)
    noisy = timed(25, lambda at: float(off[at]))
    assert screened(7, candidate, [latency(0.9 * value)], timed(25)) is not None
    assert screened(7, candidate, [latency(0.9 * value)], noisy) is None
    far = screened(7, candidate, [latency(0.5 * value)], noisy)
    assert far is not None
    assert "± 5.0%" not in far.reason


def test_nothing_is_screened_before_enough_is_measured(candidate: Candidate) -> None:
    hopeless = [latency(0.01)]
    few = timed(ENOUGH - 1)
    again = [
        replace(trial, number=50 + trial.number, architecture={**trial.architecture, **chosen})
        for trial in few
        for chosen in ({"width_policy": "magnitude"}, {"healing": "one-shot"})
    ]
    assert screened(7, candidate, hopeless, few) is None
    assert screened(7, candidate, hopeless, [*few, *again]) is None
    assert screened(7, candidate, hopeless, timed(ENOUGH)) is not None


def test_trials_without_a_measured_latency_count_for_nothing(candidate: Candidate) -> None:
    few, more = timed(ENOUGH + 5)[: ENOUGH - 1], timed(ENOUGH + 5)[ENOUGH - 1 :]
    unknown = [replace(one, measurements={}, predictions={"latency_ms": 1.0}) for one in more]
    assert screened(7, candidate, [latency(0.01)], [*few, *unknown]) is None


def test_a_latency_is_predicted_from_its_own_measurements_alone(candidate: Candidate) -> None:
    other = latency(0.01, label="pi5")
    assert screened(7, candidate, [other], timed(25)) is None
    trial = screened(7, candidate, [other, latency(0.01)], timed(25))
    assert trial is not None
    assert set(trial.predictions) == {"latency_ms"}


def test_the_teacher_is_measured_whatever_is_expected_of_it(candidate: Candidate) -> None:
    own = replace(candidate, architecture=candidate.teacher.architecture)
    assert screened(7, own, [latency(0.01)], timed(6) + timed(25)[7:]) is None


def test_sizes_that_were_measured_are_not_predicted(candidate: Candidate) -> None:
    done = timed(25)
    known = next(one for one in STUDENTS if one.key() == done[3].key)
    twin = replace(candidate, architecture=replace(known, healing="one-shot"))
    assert screened(7, twin, [latency(0.01)], done) is None


def test_what_is_expected_to_be_the_fastest_so_far_is_measured(candidate: Candidate) -> None:
    # the smallest are far from all else, where predictions were seen to be 25 % too high
    small, *others = sorted(STUDENTS, key=worth_ms)
    found = {one.key(): {"latency_ms": Measurement(worth_ms(one))} for one in others}
    done = [
        Trial(at, one.key(), one.fields(), State.COMPLETE, found[one.key()])
        for at, one in enumerate(others)
    ]
    fastest = replace(candidate, architecture=small)
    hopeless = [latency(0.01)]
    assert screened(7, fastest, hopeless, done) is None
    slower = replace(candidate, architecture=others[0])
    assert screened(7, slower, hopeless, done[1:]) is None
    assert screened(7, replace(candidate, architecture=others[20]), hopeless, done[:20]) is not None


def test_the_order_of_the_trials_changes_nothing(candidate: Candidate) -> None:
    done = timed(25, lambda at: 1 + 0.01 * (at % 3))
    one, other = (screened(7, candidate, [latency(0.5)], order) for order in (done, done[::-1]))
    assert one is not None
    assert other is not None
    assert (one.predictions, one.reason) == (other.predictions, other.reason)


LIMIT_MS = 2.0


def search(folder: Path, teacher: Teacher, device: Device) -> Search:
    slow = latency(LIMIT_MS, target=device)
    # a Gaussian process proposes better, and takes its time
    chance = RandomSampler(seed=0)
    return toy(folder, teacher=teacher, space=SPACE, objectives=[slow, Memory()], sampler=chance)


@pytest.fixture(scope="module")
def device() -> Device:
    """Where the study of `lawful` was timed."""
    return Device()


@pytest.fixture(scope="module")
def lawful(teacher: Teacher, device: Device) -> Iterator[tuple[Path, Front]]:
    """The folder and the front of a study of the whole space, taken up again half-way."""
    with emptied() as folder:
        search(folder, teacher, device).run(trials=30)
        yield folder, search(folder, teacher, device).run(trials=len(STUDENTS))


def predicted(front: Front) -> list[Trial]:
    return [trial for trial in front.trials if trial.predictions]


def test_a_study_measures_no_student_that_it_knows_to_be_too_slow(
    lawful: tuple[Path, Front], device: Device
) -> None:
    front = lawful[1]
    assert len(front.trials) == len(STUDENTS)
    assert len(predicted(front)) > 5
    for trial in predicted(front):
        own = trial.architecture
        sizes = (own["num_hidden_layers"], own["hidden_size"], own["intermediate_size"])
        assert trial.state is State.SCREENED
        assert law_ms(*sizes) > LIMIT_MS
        assert sizes not in device.asked
    measured = {t.key for t in front.trials if t.measurements}
    assert {one.key() for one in STUDENTS if worth_ms(one) <= LIMIT_MS} <= measured


def test_a_study_that_screens_finds_the_front_that_enumeration_finds(
    lawful: tuple[Path, Front],
) -> None:
    front = lawful[1]
    sizes = {
        t.key: t.measurements["memory_mb"].value
        for t in front.trials
        if "memory_mb" in t.measurements
    }
    within = {one.key(): worth_ms(one) for one in STUDENTS if worth_ms(one) <= LIMIT_MS}
    best = {
        key
        for key, value in within.items()
        if not any(
            other <= value and sizes[rival] <= sizes[key] and rival != key
            for rival, other in within.items()
        )
    }
    assert {trial.key for trial in front.members} == best


def test_the_sampler_is_told_how_far_over_the_limit_a_prediction_is(
    lawful: tuple[Path, Front],
) -> None:
    folder, front = lawful
    stored = read_study(f"sqlite:///{folder}/study.db").trials
    objective = ObjectiveRecord("latency_ms", "ms", "minimize", LIMIT_MS)
    for trial in predicted(front):
        violation = objective.violation(trial.predictions["latency_ms"])
        assert violation > 0
        assert stored[trial.number].constraints == {"latency_ms": pytest.approx(violation)}
        assert stored[trial.number].values is None


def test_a_study_that_is_taken_up_again_screens_the_same(
    lawful: tuple[Path, Front], teacher: Teacher, device: Device
) -> None:
    folder, front = lawful
    again = Front.read(folder).trials
    assert again == front.trials
    fresh = search(folder, teacher, device)
    shared = fresh.prepare()
    for at, trial in enumerate(again):
        own = Candidate(shared, fresh.students.by_key[trial.key])
        found = screened(trial.number, own, fresh.objectives, again[:at])
        assert (found.predictions if found else {}) == trial.predictions
        assert not found or found.reason == trial.reason


def test_a_study_records_what_its_latencies_were_asked(lawful: tuple[Path, Front]) -> None:
    assert lawful[1].about["workloads"] == {
        "latency_ms": {"batch_size": 1, "prompt_tokens": 8, "new_tokens": 0}
    }


def test_a_trial_that_was_screened_so_is_shown_with_its_reason_and_no_figure(
    lawful: tuple[Path, Front],
) -> None:
    front = lawful[1]
    one = predicted(front)[0]
    row = front.candidates.set_index("trial").loc[one.number]
    assert np.isnan(row["latency_ms"])
    assert "is predicted as" in str(row["reason"])
    assert one.number not in {member.number for member in front.members}
