"""Advice is given where it applies, and only there."""

from dataclasses import replace
from typing import Any

import pytest

from protege.search import Front
from protege.search.analysis.advice import TOKENS_ALL, TOKENS_FIRST, advice_on
from tests.search.report.sections.made import GRID, made

RANGE = {"kind": "Range", "low": 0.25, "high": 0.75}
SPACE = {"space": {"layers": RANGE, "hidden": {"kind": "Choice", "values": [0.33, 0.66, 1.0]}}}


def said(front: Front, words: str) -> list[str]:
    """The sentences of the advice that hold some words."""
    return [sentence for sentence in front.advice() if words in sentence]


def counted(front: Front, parameters: dict[int, int]) -> Front:
    """The front with these numbers of parameters by trial."""
    trials = (replace(t, parameters=parameters.get(t.number)) for t in front.trials)
    return replace(front, trials=tuple(trials))


def test_nothing_is_said_without_students() -> None:
    assert made([]).advice() == []


def test_students_under_five_and_under_one_percent_of_the_teacher_are_named() -> None:
    front = made([(1, 8), (2, 8), (3, 8)])
    sizes = {0: 100_000, 10: 900, 11: 4_000, 12: 60_000}
    found = said(counted(front, sizes), "of the teacher's parameters")
    assert [sentence.split(":")[0] for sentence in found] == [
        "t10 has less than 1% of the teacher's parameters",
        "t11 has less than 5% of the teacher's parameters",
    ]
    assert said(front, "of the teacher's parameters") == []


def test_a_crowd_at_the_small_end_of_a_size_says_what_to_widen() -> None:
    narrow = made([(1, 8), (2, 8), (3, 8), (3, 16), (1, 24)], identity=SPACE)
    (sentence,) = said(narrow, "Widen")
    assert sentence == (
        "75% of the students on the front are at the smallest value of hidden size in the space, "
        "8: the front may go on beyond it. Widen hidden down to 0.17 in a new study."
    )


def test_a_crowd_at_the_large_end_may_be_widened_up_to_the_teacher() -> None:
    places = [(1, 16), (3, 16), (3, 8), (2, 24)]
    (sentence,) = said(made(places, identity=SPACE), "Widen")
    assert "67% of the students on the front are at the largest value of layers" in sentence
    assert sentence.endswith("Widen layers up to 1 in a new study.")
    whole = {"space": {"layers": RANGE | {"high": 1.0}}}
    assert said(made(places, identity=whole), "Widen") == []


def test_an_even_front_and_an_unrecorded_space_need_no_widening() -> None:
    assert said(made(GRID, identity=SPACE), "Widen") == []
    assert said(made([(1, 8), (2, 8)]), "Widen") == []


@pytest.mark.parametrize(
    ("kept", "way"),
    [(3, None), (2, "4 → 3 → 2"), (1, "4 → 3 → 2 → 1")],
)
def test_a_deep_cut_is_to_be_made_in_steps(kept: int, way: str | None) -> None:
    found = said(made([(kept, 24)]), "Steps of at most a third")
    assert [f"({way})" in one for one in found] == ([] if way is None else [True])


def test_tokens_are_planned_by_the_parameters_of_the_knee() -> None:
    front = counted(made([(3, 24)]), {0: 10**9, 10: 500_000_000})
    (sentence,) = said(front, "tokens")
    assert "plan 200 million tokens for most" in sentence
    assert "6 billion for nearly all" in sentence
    assert (TOKENS_FIRST, TOKENS_ALL) == (0.4, 12)
    assert said(made([(3, 24)]), "tokens") == []


def test_a_student_has_the_advice_that_concerns_it() -> None:
    front = counted(made(GRID), {0: 10**6, 10: 9_000, 18: 600_000})
    small, large = (advice_on(front, front.trial(number)) for number in (10, 18))
    assert [sentence.split(" ")[0] for sentence in small] == ["t10", "t10", "For"]
    assert "less than 1% of the teacher's parameters" in small[0]
    assert small[1].startswith("t10 drops 75% of the layers.")
    assert [sentence.split(" ")[0] for sentence in large] == ["For"]


def test_a_latency_that_layers_do_not_make_is_told(floored: Front) -> None:
    (sentence,) = said(floored, "do not come from its layers")
    assert sentence.startswith("Latency (ms): 20.")
    assert "of the fastest student, t10," in sentence


@pytest.fixture
def floored() -> Front:
    """A study whose calls take 20 ms and a thousandth more for each layer and channel."""
    workload: dict[str, Any] = {"batch_size": 1, "prompt_tokens": 128, "new_tokens": 0}
    places = [(layers, hidden) for layers in (1, 2, 3) for hidden in (4, 8, 12, 16, 20, 24)]
    teacher: dict[str, Any] = {"key": "key-0", "task": "feature-extraction"}
    front = made(places, about={"workloads": {"latency_ms": workload}, "teacher": teacher})
    trials = []
    for trial in front.trials:
        own = trial.architecture
        value = 20 + own["num_hidden_layers"] * own["hidden_size"] / 1000
        found = replace(trial.measurements["latency_ms"], value=value)
        trials.append(replace(trial, measurements={**trial.measurements, "latency_ms": found}))
    return replace(front, trials=tuple(trials))
