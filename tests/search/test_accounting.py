import pytest

from protege.search.accounting import Accounting


def test_what_neither_measures_nor_trains_nor_evaluates_is_overhead() -> None:
    spent = Accounting({"distil": 60.0, "latency": 20.0, "evaluate": 10.0, "store": 6, "other": 4})
    assert spent.total == pytest.approx(100.0)
    assert spent.overhead == pytest.approx(0.1)


def test_a_study_that_took_no_time_has_no_overhead() -> None:
    assert Accounting({}).overhead == 0
    assert str(Accounting({})) == "Time: 0 s, 0.0% of it overhead"


def test_phases_are_listed_from_the_longest_to_the_shortest_with_their_share() -> None:
    lines = str(Accounting({"store": 1.0, "distil": 3.0})).splitlines()
    assert lines[0] == "Time: 4 s, 25.0% of it overhead"
    assert [line.split() for line in lines[1:]] == [
        ["distil", "3.0", "s", "75.0%"],
        ["store", "1.0", "s", "25.0%"],
    ]
