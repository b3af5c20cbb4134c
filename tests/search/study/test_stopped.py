"""A stopped trial is believed to end as those did that went on from its rung."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, create_trial

from protege.search.study.stopped import ENOUGH, RUNG, STOPPED_AT, continued

numbers = st.floats(-100, 100, width=32)


def ended(cost: float, there: float, last: float) -> FrozenTrial:
    return create_trial(values=[cost, last], user_attrs={f"{RUNG}7": [cost, there]})


def stopped(cost: float, there: float, step: int = 7) -> FrozenTrial:
    attributes = {f"{RUNG}{step}": [cost, there], STOPPED_AT: step}
    return create_trial(values=[cost, there], user_attrs=attributes)


@given(
    starts=st.lists(st.integers(-50, 50), min_size=ENOUGH, max_size=9, unique=True),
    slope=numbers,
    shift=numbers,
    own=st.integers(-50, 50),
)
def test_what_all_others_gained_by_a_line_is_gained_by_it(
    starts: list[int], slope: float, shift: float, own: int
) -> None:
    others = [ended(3.0 * x, x, slope * x + shift) for x in starts]
    *same, found = continued([*others, stopped(2.5, own)])
    assert all(one is other for one, other in zip(same, others, strict=True))
    assert found.values == pytest.approx([2.5, slope * own + shift], rel=1e-6, abs=1e-6)


def test_what_is_stored_stays_as_it_was_measured() -> None:
    trials = [*(ended(1, x, x + 1) for x in range(ENOUGH)), stopped(1, 0.5)]
    assert continued(trials)[-1].values == pytest.approx([1, 1.5])
    assert trials[-1].values == [1, 0.5]


def test_of_few_others_or_of_other_rungs_nothing_is_concluded() -> None:
    few = [*(ended(1, x, x + 1) for x in range(ENOUGH - 1)), stopped(1, 0.5)]
    elsewhere = [*(ended(1, x, x + 1) for x in range(ENOUGH)), stopped(1, 0.5, step=20)]
    for trials in (few, elsewhere):
        assert continued(trials) == trials


def test_others_that_were_all_alike_at_the_rung_move_it_by_what_they_gained() -> None:
    trials = [*(ended(1, 0.25, 0.5 + x) for x in range(ENOUGH)), stopped(1, 0.5)]
    gained = np.mean([0.25 + x for x in range(ENOUGH)])
    assert continued(trials)[-1].values == pytest.approx([1, 0.5 + gained])
