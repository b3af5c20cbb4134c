import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from protege.search.records.objectives import exclusive, ranks
from protege.search.running.racing import Decision, Race, decide
from protege.spaces import BadInput

Points = npt.NDArray[np.float64]

RACE = Race()
races = st.builds(Race, eta=st.sampled_from([1.5, 2.0, 3.0, 4.0]), min_records=st.integers(1, 6))


@st.composite
def clouds(draw: st.DrawFn, most: int = 30) -> Points:
    """One to four objectives and at least one point; few distinct values, many are equal."""
    objectives = draw(st.integers(1, 4))
    row = st.lists(st.integers(0, 6), min_size=objectives, max_size=objectives)
    return np.array(draw(st.lists(row, min_size=1, max_size=most)), dtype=float)


@st.composite
def rungs(draw: st.DrawFn) -> tuple[Points, Points]:
    """Records of a rung and who comes to it."""
    points = draw(clouds(31))
    return points[:-1], points[-1]


def dominates(one: Points, other: Points) -> bool:
    return bool((one <= other).all() and (one < other).any())


def ranks_by_peeling(points: Points) -> list[int]:
    """Front after front is taken off, each found by comparing every pair."""
    found = [-1] * len(points)
    left = set(range(len(points)))
    rank = 0
    while left:
        front = {i for i in left if not any(dominates(points[j], points[i]) for j in left)}
        for i in front:
            found[i] = rank
        left -= front
        rank += 1
    return found


def volume_by_cells(points: Points, worst: float) -> float:
    """The volume dominated, cell by cell between all coordinates there are."""
    if not len(points):
        return 0.0
    axes = [np.unique([*column, worst]) for column in points.T]
    corners = np.stack(np.meshgrid(*[axis[:-1] for axis in axes], indexing="ij"), axis=-1)
    sides = np.stack(np.meshgrid(*[np.diff(axis) for axis in axes], indexing="ij"), axis=-1)
    covered = np.zeros(corners.shape[:-1], dtype=bool)
    for point in points:
        covered |= (point <= corners).all(axis=-1)
    return float(sides.prod(axis=-1)[covered].sum())


def reference(points: int, objectives: int) -> float:
    """1 + 1/H for the most divisions H that so many evenly spread points can have."""
    objectives = max(objectives, 2)
    divisions = [
        h for h in range(1, points + 1) if math.comb(h + objectives - 1, objectives - 1) <= points
    ]
    return 1 + 1 / max(divisions, default=1)


def decided(records: Points, new: Points, race: Race = RACE) -> bool:
    """Whether the candidate goes on."""
    return decide(records, new, race) is Decision.CONTINUE


def test_ranks_are_in_the_order_of_the_points() -> None:
    points = np.array([[0, 0], [1, 1], [2, 2], [3, 3], [0.5, 0.5]])
    assert ranks(points).tolist() == [0, 2, 3, 4, 1]


@given(clouds())
def test_ranks_are_what_taking_off_front_after_front_finds(points: Points) -> None:
    assert ranks(points).tolist() == ranks_by_peeling(points)


def test_nothing_has_no_ranks_and_no_volumes() -> None:
    nothing = np.empty((0, 2))
    assert ranks(nothing).shape == exclusive(nothing).shape == (0,)


@given(clouds(12))
def test_an_exclusive_volume_is_what_is_lost_without_the_point(points: Points) -> None:
    layer = points[ranks(points) == 0]
    spread = np.ptp(layer, axis=0)
    scaled = (layer - layer.min(axis=0)) / np.where(spread > 0, spread, 1)
    volumes = exclusive(layer)
    worst = reference(len(layer), layer.shape[1])
    whole = volume_by_cells(scaled, worst)
    lost = [whole - volume_by_cells(np.delete(scaled, i, axis=0), worst) for i in range(len(layer))]
    padding = worst if layer.shape[1] == 1 else 1.0
    assert volumes == pytest.approx(np.array(lost) * padding, abs=1e-9)


@pytest.mark.parametrize("points", [3, 4, 9])
def test_evenly_spread_points_have_equal_volumes(points: int) -> None:
    one = np.linspace(0, 1, points)
    volumes = exclusive(np.column_stack([one, 1 - one]))
    assert volumes == pytest.approx(np.full(points, 1 / (points - 1) ** 2))


def test_what_crowds_together_has_little_of_its_own() -> None:
    volumes = exclusive(np.array([[0, 10], [1, 9], [5, 5], [9, 1], [10, 0]], dtype=float))
    assert volumes.argmax() == 2


def test_a_point_twice_has_nothing_of_its_own() -> None:
    volumes = exclusive(np.array([[0, 2], [1, 1], [1, 1], [2, 0]], dtype=float))
    assert (volumes > 0).tolist() == [True, False, False, True]


@given(rungs(), races, st.randoms(use_true_random=False))
def test_the_order_of_records_changes_nothing(
    rung: tuple[Points, Points], race: Race, random: np.random.Generator
) -> None:
    records, new = rung
    shuffled = records.tolist()
    random.shuffle(shuffled)
    assert decide(np.array(shuffled), new, race) is decide(records, new, race)


@given(rungs(), races)
def test_what_nothing_dominates_goes_on(rung: tuple[Points, Points], race: Race) -> None:
    records, new = rung
    assume(not any(dominates(record, new) for record in records))
    assert decided(records, new, race)


@given(rungs(), races, st.data())
def test_a_record_that_the_candidate_dominates_stops_nobody(
    rung: tuple[Points, Points], race: Race, data: st.DataObject
) -> None:
    records, new = rung
    assume(len(records) >= race.min_records and decided(records, new, race))
    behind = np.array([v + data.draw(st.integers(0, 20)) for v in new])
    assume(dominates(new, behind))
    assert decided(np.vstack([records, behind]), new, race)


@given(rungs(), races, st.data())
def test_a_record_that_others_dominate_stops_nobody_on_the_front(
    rung: tuple[Points, Points], race: Race, data: st.DataObject
) -> None:
    records, new = rung
    assume(len(records) and not any(dominates(record, new) for record in records))
    better = records[data.draw(st.integers(0, len(records) - 1))]
    behind = np.array([v + data.draw(st.integers(0, 3)) for v in better])
    assume(dominates(better, behind))
    assert decided(np.vstack([records, behind]), new, race)


@given(rungs(), races, st.data())
def test_units_change_nothing(rung: tuple[Points, Points], race: Race, data: st.DataObject) -> None:
    records, new = rung
    scale = np.array([data.draw(st.sampled_from([1e-6, 0.3, 1.0, 7.0, 1e9])) for _ in new])
    shift = scale * np.array([data.draw(st.floats(-100, 100)) for _ in new])
    assert decide(records * scale + shift, new * scale + shift, race) is decide(records, new, race)


@given(st.lists(st.integers(0, 20), max_size=30), st.integers(0, 20), races)
def test_one_objective_is_plain_successive_halving(values: list[int], new: int, race: Race) -> None:
    better = sum(value < new for value in values)
    halved = len(values) >= race.min_records and better >= math.ceil(len(values) / race.eta)
    goes_on = not halved or better == 0
    assert decided(np.array(values).reshape(-1, 1), np.array([new]), race) == goes_on


@given(st.integers(1, 10), st.permutations(range(30)), st.integers(1, 4))
def test_of_a_total_order_the_top_third_goes_on(
    thirds: int, order: list[int], objectives: int
) -> None:
    records = np.array([i for i in order if i < 3 * thirds], dtype=float)
    places = [place for place in range(3 * thirds + 1) if goes_on_at(records, place, objectives)]
    few = 3 * thirds < RACE.min_records
    assert places == list(range(3 * thirds + 1 if few else thirds))


def goes_on_at(records: Points, place: int, objectives: int) -> bool:
    """Whether a candidate goes on that so many of the records are better than in all objectives."""
    return decided(
        np.repeat(records[:, None], objectives, axis=1), np.full(objectives, place - 0.5)
    )


def test_of_equal_rank_the_one_that_is_less_crowded_goes_on() -> None:
    #  one record at the origin dominates a second layer from (1, 9) to (9, 1), crowded at its end
    records = np.array([[0, 0], [1, 9], [8, 2.2], [8.5, 1.6], [9, 1]])
    alone, crowded = np.array([4, 4]), np.array([8.2, 1.9])
    assert ranks(np.vstack([records, alone]))[-1] == ranks(np.vstack([records, crowded]))[-1] == 1
    assert decided(records, alone)
    assert not decided(records, crowded)


def test_with_few_records_everyone_goes_on() -> None:
    records = np.arange(4.0).reshape(-1, 1)
    assert decided(records[:3], np.array([9]))
    assert not decided(records, np.array([9]))
    assert decided(records, np.array([9]), Race(min_records=5))


def test_the_first_one_goes_on() -> None:
    assert decide([], [1.0, 2.0], Race(min_records=1)) is Decision.CONTINUE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_and_is_no_record(value: float) -> None:
    records = np.arange(8.0).reshape(-1, 2)
    assert not decided(records[:0], np.array([0, value]))
    spoilt = np.vstack([records[:3], [-1, value]])
    assert decided(spoilt, np.array([9, 9]))
    assert not decided(np.vstack([spoilt, records[3:]]), np.array([9, 9]))


@pytest.mark.parametrize(
    ("records", "new"),
    [([[1.0, 2.0]], [1.0]), ([1.0, 2.0], [1.0, 2.0]), ([[1.0]], 1.0), ([], [])],
)
def test_records_of_other_objectives_are_refused(records: list[float], new: list[float]) -> None:
    with pytest.raises(
        BadInput, match=r"expected \(n, objectives\) and \(objectives,\) of the same objectives"
    ):
        decide(records, new, RACE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Race(eta=1), r"eta=1: .*give a number above 1"),
        (lambda: Race(eta=math.nan), r"eta=nan: "),
        (lambda: Race(eta=math.inf), r"eta=inf: "),
        (lambda: Race(min_records=0), r"min_records=0: .*give 1 or more"),
    ],
)
def test_settings_that_make_no_race_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()
