"""A value that became worse is told from noise."""

import pytest

from protege.objectives import Direction, Measurement
from protege.objectives.measurement import worsened


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_exact_values_are_compared_exactly(direction: Direction, sign: int) -> None:
    before, less = Measurement(sign * 0.8), Measurement(sign * 0.79)
    assert worsened(before, less, direction)
    assert not worsened(less, before, direction)
    assert not worsened(before, before, direction)


def test_a_loss_within_the_standard_errors_is_noise() -> None:
    before = Measurement(0.8, spread=0.03)
    assert not worsened(before, Measurement(0.74, spread=0.03), "maximize")
    assert worsened(before, Measurement(0.72, spread=0.03), "maximize")


def test_examples_are_compared_in_pairs() -> None:
    hard = [0.1 * number for number in range(10)]
    lost = [0.02 + 0.001 * (number % 2) for number in range(10)]
    before = Measurement(0.45, 0.1, examples=tuple(hard))
    after = Measurement(0.43, 0.1, examples=tuple(h - x for h, x in zip(hard, lost, strict=True)))
    assert worsened(before, after, "maximize")
    mixed = [h + (0.1 if n % 2 else -0.11) for n, h in enumerate(hard)]
    assert not worsened(before, Measurement(0.445, 0.1, examples=tuple(mixed)), "maximize")
