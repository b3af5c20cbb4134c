"""A score is what the user's function says of a student, or one clear line of why it is not."""

import gc
import math
import threading
import time
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from protege.objectives import Measurement, Objective, Score, Stage
from protege.objectives.candidate import Candidate
from protege.objectives.objective import JudgedOnUnseen, ScoredAtRungs, scores_rungs
from protege.objectives.quality.bootstrap import interval
from protege.objectives.quality.score import of_examples, of_statistic
from protege.objectives.quality.timed_call import is_any_left
from protege.spaces import BadInput, Cache, ProtegeError, Student, Unavailable
from tests.objectives.candidates import half, itself
from tests.tiny import CASES

FLOATS = st.floats(-1e3, 1e3)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A student of half the depth; tests leave it as it is."""
    teacher = CASES["bert-sentences"].teacher()
    return half(teacher, Cache(tmp_path_factory.mktemp("cache"))).built()


@dataclass(frozen=True)
class Returns:
    """A function that returns the same of every student."""

    found: Any

    def __call__(self, student: Student) -> Any:
        assert isinstance(student, Student)
        return self.found


@pytest.fixture
def measured(built: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Measures what a function returns, each time with an empty cache."""

    def of(found: Any, **given: Any) -> Measurement:
        empty = Cache(tmp_path_factory.mktemp("cache"))
        fresh = replace(built, prepared=replace(built.prepared, cache=empty))
        return Score("own", Returns(found), **given).measure(fresh)

    return of


def test_a_score_is_an_objective() -> None:
    objective: Objective = Score("own", Returns(1), "minimize", limit=3, unit="words")
    assert (objective.name, objective.unit, objective.direction) == ("own", "words", "minimize")
    assert (objective.limit, objective.stage) == (3, Stage.STUDENT)
    assert isinstance(objective, ScoredAtRungs)
    assert isinstance(objective, JudgedOnUnseen)
    assert not scores_rungs(objective)
    assert scores_rungs(Score("own", Returns(1), at_rungs=True))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"name": "my score"}, "name='my score': expected letters, digits and underscores"),
    ({"direction": "up"}, "direction='up': expected 'maximize' or 'minimize'"),
    ({"function": 3}, "function=3: expected a function of a student"),
    ({"unseen": "file"}, "unseen='file': expected a function of a student"),
    ({"timeout_s": 0}, "timeout_s=0: expected a number above 0"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[next(iter(r[0])) for r in REFUSED])
def test_what_cannot_be_declared_is_refused(changes: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"name": "own", "function": len}
    with pytest.raises(BadInput, match=f"^{message}$"):
        Score(**(given | changes))


@pytest.mark.parametrize(
    "found", [1, True, 0.5, np.float32(0.5), np.array(2), torch.tensor(0.5), torch.tensor(3)]
)
def test_a_number_is_the_value(measured: Any, found: Any) -> None:
    assert measured(found) == Measurement(float(found))


VECTOR = [0.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize(
    "found",
    [
        VECTOR,
        tuple(VECTOR),
        np.array(VECTOR, dtype=np.float32),
        torch.tensor(VECTOR, dtype=torch.bfloat16, requires_grad=True),
        [torch.tensor(one) for one in VECTOR],
        pd.Series(VECTOR),
    ],
    ids=["list", "tuple", "array", "bfloat16", "tensors", "series"],
)
def test_one_value_per_example_has_a_mean_an_error_and_an_interval(
    measured: Any, found: Any
) -> None:
    one = measured(found)
    assert one.value == pytest.approx(np.mean(VECTOR))
    assert one.spread == pytest.approx(np.std(VECTOR, ddof=1) / 2)
    assert (one.details["low"], one.details["high"]) == interval(VECTOR)
    assert one.examples == tuple(VECTOR)


def test_yes_and_no_per_example_count_as_one_and_zero(measured: Any) -> None:
    assert measured([True, False]).examples == (1.0, 0.0)


def test_one_example_has_no_error(measured: Any) -> None:
    assert measured([0.5]).spread == 0


@given(st.lists(FLOATS, min_size=2, max_size=40))
def test_examples_are_better_when_higher_also_of_an_error(values: list[float]) -> None:
    up, down = (of_examples(np.array(values), one) for one in ("maximize", "minimize"))
    assert down.value == up.value
    assert (down.spread, down.details) == (up.spread, up.details)
    assert down.examples == tuple(0.0 - one for one in up.examples)
    assert "-0.0" not in map(str, down.examples)


def test_a_measurement_is_taken_as_it_is(measured: Any) -> None:
    found = Measurement(0.5, 0.1, details={"hits": 3.0})
    assert measured(found) == found


NONE = r"score 'own': it returned "
WANTED = "; expected a number, or one number per example"
UNUSABLE = [
    (float("nan"), r"score 'own': its value is nan, not a finite number"),
    (torch.tensor(math.inf), r"score 'own': its value is inf, not a finite number"),
    (Measurement(math.nan), r"score 'own': its value is nan, not a finite number"),
    (
        [1.0, math.nan, 2.0, -math.inf],
        r"score 'own': 2 of 4 values are not finite, the first is nan at index 1",
    ),
    ([[1.0, 2.0]], rf"{NONE}values of shape \(1, 2\){WANTED}"),
    (torch.ones(3, 1), rf"{NONE}values of shape \(3, 1\){WANTED}"),
    ([], rf"{NONE}values of shape \(0,\){WANTED}"),
    ([[1.0], [1.0, 2.0]], rf"{NONE}of type list{WANTED}"),
    ("0.5", rf"{NONE}of type str{WANTED}"),
    (["0.5"], rf"{NONE}of type list with <U3 in it{WANTED}"),
    (None, rf"{NONE}of type NoneType{WANTED}"),
    ({"f1": 0.5}, rf"{NONE}of type dict{WANTED}"),
    (1j, rf"{NONE}of type complex{WANTED}"),
    ([None, 1.0], rf"{NONE}of type list with object in it{WANTED}"),
]


@pytest.mark.parametrize(("found", "message"), UNUSABLE, ids=[repr(u[0])[:20] for u in UNUSABLE])
def test_what_is_no_score_fails_in_one_line(measured: Any, found: Any, message: str) -> None:
    with pytest.raises(ProtegeError, match=f"^{message}$"):
        measured(found)


def test_another_number_of_examples_than_of_the_teacher_fails(cache: Cache) -> None:
    teacher = CASES["bert-sentences"].teacher()
    own, less = itself(teacher, cache).built(), half(teacher, cache).built()
    assert Score("own", Returns([1.0, 2.0])).measure(own).value == 1.5
    assert Score("own", Returns([3.0, 2.0])).measure(less).value == 2.5
    message = "^score 'own': it returned 3 values, and 2 before; expected one for each example, "
    with pytest.raises(ProtegeError, match=message):
        Score("own", Returns([1.0, 2.0, 3.0])).measure(less)
    with pytest.raises(ProtegeError, match=r"it returned 0 values, and 2 before"):
        Score("own", Returns(1.0)).measure(less)
    # what the function measured itself is its own affair
    assert Score("own", Returns(Measurement(0.5))).measure(less).value == 0.5
    # of another study in the same folder, whose teacher comes first too
    assert Score("own", Returns([1.0, 2.0, 3.0])).measure(own).value == 2


def fails(student: Student) -> float:
    rows = student.tokenizer("w1 w2")["input_ids"]
    return float(torch.ones(2, 2) @ torch.ones(len(rows)))


def test_an_exception_names_the_line_of_the_user_without_its_folder(built: Candidate) -> None:
    with pytest.raises(ProtegeError) as caught:
        Score("own", fails).measure(built)
    text = str(caught.value)
    assert text.startswith("score 'own': RuntimeError: size mismatch")
    line = fails.__code__.co_firstlineno + 2
    shown = "return float(torch.ones(2, 2) @ torch.ones(len(rows)))"
    assert text.endswith(f"(test_score.py:{line}: {shown})")
    assert "/" not in text.split("(test_score")[1]
    assert isinstance(caught.value.__cause__, RuntimeError)


def leaves(_: Student) -> float:
    raise SystemExit(3)


def refuses(_: Student) -> float:
    raise BadInput("no such column")


def is_without_a_device(_: Student) -> float:
    raise Unavailable("the board is gone")


def test_other_exceptions_keep_their_meaning(built: Candidate) -> None:
    with pytest.raises(ProtegeError, match=r"^score 'own': SystemExit: 3 \(test_score.py:"):
        Score("own", leaves).measure(built)
    with pytest.raises(BadInput, match=r"^score 'own': BadInput: no such column \(test_score.py:"):
        Score("own", refuses).measure(built)
    with pytest.raises(Unavailable, match=r"^the board is gone$"):
        Score("own", is_without_a_device).measure(built)


def spins(_: Student) -> float:
    while True:
        try:
            time.sleep(0.01)
        except Exception:  # noqa: BLE001 - it swallows whatever it can
            continue


def test_python_that_hangs_is_interrupted_at_a_line(built: Candidate) -> None:
    message = r"^score 'own': not done after timeout_s=0\.3, at test_score\.py:\d+: time\.sleep"
    with pytest.raises(ProtegeError, match=message):
        Score("own", spins, timeout_s=0.3).measure(built)
    assert not is_any_left()


def test_a_call_that_cannot_be_interrupted_is_left_behind(built: Candidate) -> None:
    released = threading.Event()

    def waits(_: Student) -> float:
        # a lock is waited for in one call of C, which nothing interrupts in another thread
        released.wait()
        return 1.0

    with pytest.raises(ProtegeError, match=r"at test_score.py:.*released.wait"):
        Score("own", waits, timeout_s=0.1).measure(built)
    assert is_any_left()
    released.set()
    end = time.monotonic() + 20
    while is_any_left() and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_any_left()


def test_a_student_that_failed_is_freed(built: Candidate) -> None:
    student = built.student.copy()
    gone, kept = weakref.ref(student), built.trained(student)
    gc.disable()
    try:
        with pytest.raises(ProtegeError):
            Score("own", fails).measure(kept)
        del kept, student
        assert gone() is None
    finally:
        gc.enable()


def trains(student: Student) -> float:
    assert not student.module.training
    vectors = student.module(**student.tokenizer("w1", return_tensors="pt"))
    vectors.sum().backward()  # gradients are on: a probe may be fitted
    student.module.zero_grad()
    return float(torch.is_grad_enabled())


def test_a_function_may_compute_gradients(built: Candidate) -> None:
    built.student.module.train()
    assert Score("own", trains).measure(built).value == 1


def test_unseen_data_has_a_function_of_its_own(built: Candidate) -> None:
    both = Score("own", Returns([1.0, 2.0]), unseen=Returns([3.0]))
    found = both.measure_unseen(built)
    assert found is not None
    assert found.value == 3
    assert Score("own", Returns(1.0)).measure_unseen(built) is None


@given(st.lists(FLOATS, min_size=3, max_size=30))
def test_the_jackknife_of_a_mean_is_the_mean(values: list[float]) -> None:
    table = np.array(values)
    found = of_statistic(lambda kept: float(table[kept].mean()), len(table))
    plain = of_examples(table)
    assert found.value == pytest.approx(plain.value, abs=1e-9)
    assert found.spread == pytest.approx(plain.spread, abs=1e-6)
    assert found.examples == pytest.approx(plain.examples, abs=1e-2)


def test_the_jackknife_is_about_the_error_of_a_correlation() -> None:
    generator = np.random.default_rng(0)

    def drawn() -> Any:
        first = generator.normal(size=500)
        return first, 0.7 * first + generator.normal(size=500)

    estimates = []
    for _ in range(60):
        first, second = drawn()
        estimates.append(spearmanr(first, second).statistic)
    first, second = drawn()
    found = of_statistic(lambda kept: spearmanr(first[kept], second[kept]).statistic, 500)
    assert found.value == spearmanr(first, second).statistic
    assert found.spread == pytest.approx(np.std(estimates), rel=0.3)
    assert len(found.examples) == 200
    assert float(found.details["low"]) < found.value < float(found.details["high"])


def test_a_statistic_that_some_group_decides_has_no_error() -> None:
    labels = np.array([1, 0, 0])
    found = of_statistic(lambda k: float("nan") if labels[k].sum() == 0 else 0.5, 3)
    assert found == Measurement(0.5)
