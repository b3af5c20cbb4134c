"""How much of a training is done, by steps or by minutes."""

from types import SimpleNamespace
from typing import Any

import pytest

from protege.search.handover.plan import TrainingPlan
from protege.search.handover.trainer import TrainingClock


def ran(clock: TrainingClock, steps: int, most: int, seconds: list[float]) -> list[Any]:
    """The control after each of so many steps, of which each takes a second."""
    args = SimpleNamespace(world_size=1)
    state = SimpleNamespace(global_step=0, max_steps=most)
    clock.on_train_begin(args, state, None)
    found = []
    for _ in range(steps):
        control = SimpleNamespace(should_training_stop=False)
        clock.on_step_begin(args, state, control)
        seconds[0] += 1
        state.global_step += 1
        clock.on_step_end(args, state, control)
        found.append(control)
    return found


def test_by_steps_it_evaluates_and_saves_ten_times() -> None:
    seconds = [0.0]
    clock = TrainingClock(None, clock=lambda: seconds[0])
    controls = ran(clock, 40, 40, seconds)
    assert [one.should_evaluate for one in controls] == [n % 4 == 0 for n in range(1, 41)]
    assert [one.should_training_stop for one in controls] == [False] * 39 + [True]


def test_minutes_end_a_training_and_tell_what_is_left() -> None:
    seconds = [0.0]
    clock = TrainingClock(1.0, clock=lambda: seconds[0])
    clock.leave_out(30)  # for the teacher's outputs
    controls = ran(clock, 15, 10**6, seconds)
    assert clock.done == pytest.approx(0.5)
    assert clock.left() == pytest.approx(15)
    assert not any(one.should_training_stop for one in controls)
    assert sum(one.should_save for one in controls) == 5
    assert ran(clock, 15, 10**6, seconds)[-1].should_training_stop


def test_the_rate_rises_stays_and_falls_to_zero() -> None:
    plan = TrainingPlan(warmup=0.1, decay=0.5)
    assert [plan.pace(done) for done in (0.05, 0.1, 0.5, 0.75, 1.0)] == [0.5, 1, 1, 0.5, 0]
    assert TrainingPlan(warmup=0, decay=0).pace(0.0) == TrainingPlan(warmup=0, decay=0).pace(1) == 1
