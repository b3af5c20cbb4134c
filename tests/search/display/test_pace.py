"""The time left of a study, checked on the durations of a recorded one."""

from dataclasses import dataclass

import pytest

from protege.search.display.pace import Pace


@dataclass
class Clock:
    """A clock that goes forward when it is told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


DEMO = [
    *((0.0, 12.4, 12.3), (12.5, 63.3, 14.3), (17.9, 68.7, 9.2), (21.9, 96.1, 34.3)),
    *((28.9, 114.3, 21.2), (32.2, 149.2, 39.5), (37.6, 149.3, 4.4), (42.1, 162.2, 15.9)),
    *((45.3, 162.2, 4.9), (50.4, 173.6, 15.0), (173.6, 193.6, 19.8), (193.6, 207.8, 14.1)),
    *((207.8, 234.6, 26.6), (234.6, 281.0, 45.5), (281.1, 293.9, 12.7), (293.9, 319.7, 25.6)),
    *((319.7, 355.0, 34.5), (355.1, 371.3, 16.0), (371.3, 378.4, 7.0), (378.4, 386.9, 8.4)),
    *((387.0, 392.3, 5.3), (392.4, 398.4, 5.9), (398.4, 403.7, 5.2), (403.7, 409.8, 5.9)),
    *((409.8, 413.7, 3.8), (413.7, 419.1, 5.3)),
]
"""Begin, end and running seconds of the trials of ``studies/minilm_cpu.py``, from its study.db.

Trials 1 to 9 ran to step 0, waited there, and went on one after another.
"""


def replayed(seconds: float) -> Pace:
    """The pace of the recorded study after so many seconds."""
    clock = Clock()
    pace = Pace(len(DEMO), clock)
    pace.done(0)
    stretches = []
    for number, (began, ended, spent) in enumerate(DEMO):
        first = min(spent, DEMO[number + 1][0] - began) if number < 9 else spent
        stretches.append((began, began + first, number, first >= spent - 0.3))
        if first < spent - 0.3:
            stretches.append((ended - (spent - first), ended, number, True))
    moments = [(start, 1, number, False) for start, _, number, _ in stretches]
    moments += [(stop, 0, number, last) for _, stop, number, last in stretches]
    done = 0
    for now, begins, number, last in sorted(moments):
        if now > seconds:
            break
        clock.now = now
        if begins:
            pace.run(number)
        elif last:
            done += 1
            pace.end(number)
            pace.done(done)
        else:
            pace.wait(number)
    clock.now = seconds
    return pace


@pytest.mark.parametrize("share", [0.27, 0.4, 0.5, 0.6])
def test_the_time_left_of_the_demo_is_right_within_thirty_percent_from_five_trials_on(
    share: float,
) -> None:
    whole = DEMO[-1][1]
    left = replayed(share * whole).left
    assert left == pytest.approx((1 - share) * whole, rel=0.3)


def test_nothing_is_known_before_a_trial_has_ended() -> None:
    assert replayed(10.0).left is None


def test_two_jobs_at_once_take_half_as_long() -> None:
    clock = Clock()
    pace = Pace(10, clock)
    pace.done(0)
    for number in (0, 1):
        pace.run(number)
    clock.now = 30.0
    for number in (0, 1):
        pace.end(number)
    pace.done(2)
    assert pace.left == pytest.approx(4 * 30)


def test_trials_of_earlier_runs_do_not_count() -> None:
    clock = Clock()
    pace = Pace(5, clock)
    pace.done(2)
    pace.run(2)
    clock.now = 20.0
    pace.end(2)
    pace.done(3)
    assert pace.left == pytest.approx(40.0)


def test_trials_without_a_time_of_their_own_are_counted_by_number() -> None:
    clock = Clock()
    pace = Pace(4, clock)
    pace.done(0)
    clock.now = 6.0
    pace.done(1)
    assert pace.left == pytest.approx(18.0)


def test_a_study_whose_trials_are_all_done_has_no_time_left() -> None:
    assert replayed(DEMO[-1][1]).left == 0
