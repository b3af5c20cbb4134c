"""A model of sizes knows laws that are products, and how far it is off."""

import math
from dataclasses import replace

import pytest

from protege.search import State, Trial
from protege.search.analysis.size_model import SizeModel, free_sizes
from tests.search.report.sections.made import GRID, latency_ms, made, student

SIZES = ["num_hidden_layers", "hidden_size"]


def test_it_finds_the_law_of_the_students_it_has_not_seen() -> None:
    front = made([place for place in GRID if place != (2, 16)])
    model = SizeModel.fit(front.finished, "latency_ms", SIZES)
    ((value, error),) = model.predict([{"num_hidden_layers": 2, "hidden_size": 16}])
    assert value == pytest.approx(latency_ms(2, 16), rel=0.05)
    assert abs(value - latency_ms(2, 16)) < 2 * error
    assert error >= model.left_out * value


def valued(trial: Trial, name: str, value: float) -> Trial:
    """The trial with another value of an objective."""
    found = replace(trial.measurements[name], value=value)
    return replace(trial, measurements={**trial.measurements, name: found})


def sized(trial: Trial, **sizes: int) -> Trial:
    """The trial with other sizes."""
    return replace(trial, architecture={**trial.architecture, **sizes})


def test_values_that_are_not_positive_are_modelled_as_they_are() -> None:
    trials = [
        valued(student(at, layers, hidden), "retention", -math.log(hidden))
        for at, (layers, hidden) in enumerate(GRID)
    ]
    model = SizeModel.fit(trials, "retention", SIZES)
    assert not model.is_log
    ((value, _),) = model.predict([{"num_hidden_layers": 2, "hidden_size": 12}])
    assert value == pytest.approx(-math.log(12), abs=0.1)


def test_the_error_is_that_of_students_left_out() -> None:
    exact = SizeModel.fit(made().finished, "latency_ms", SIZES).left_out
    noisy = [
        valued(student(at, *place), "latency_ms", latency_ms(*place) * (1.2 if at % 2 else 0.8))
        for at, place in enumerate(GRID)
    ]
    assert exact < 0.05
    assert SizeModel.fit(noisy, "latency_ms", SIZES).left_out > 0.15


def test_only_students_with_final_values_are_finished() -> None:
    ended = [state for state in State if state is not State.COMPLETE]
    others = [student(30 + at, 1, 8, state=state) for at, state in enumerate(ended)]
    front = made(GRID, *others)
    assert [trial.number for trial in front.finished] == list(range(10, 19))
    half = made(GRID, about={"naive": "key-10"})
    assert [trial.number for trial in half.finished] == list(range(11, 19))


def test_sizes_that_follow_from_others_or_never_change_are_not_free() -> None:
    trials = made().finished
    assert free_sizes(trials) == SIZES
    heads = [trial.architecture["hidden_size"] // 4 for trial in trials]
    narrow = [
        sized(trial, num_attention_heads=own, num_key_value_heads=own)
        for trial, own in zip(trials, heads, strict=True)
    ]
    assert free_sizes(narrow) == SIZES
    odd = [sized(narrow[0], num_attention_heads=5), *narrow[1:]]
    assert free_sizes(odd) == [*SIZES, "num_attention_heads"]
