"""The report shows who was stopped where, and whether the rungs can be trusted."""

import json
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import pytest

from protege.search import State, Trial
from protege.search.analysis.agreement import kendall
from protege.search.analysis.fidelity import FOLDER, Fidelity, LongRun
from protege.search.front.front import Front
from protege.search.report.racing import STOPPED, WENT_ON, curves, rivals, rungs, trust
from protege.search.running.racing import Race
from tests.search.toys import NARROW, distillation, toy


def run(folder: Path) -> Front:
    search = toy(folder, space=NARROW, race=Race(eta=1.5, min_records=1))
    return search.run(trials=9)


def test_every_rung_that_a_student_got_to_is_drawn(tmp_path: Path) -> None:
    front = run(tmp_path)
    frame = curves(front)
    steps = distillation().rung_steps
    for trial in front.trials:
        own = frame[frame["trial"] == trial.number]
        if trial is front.teacher:
            assert own.empty
        elif trial.state is State.STOPPED:
            assert set(own["became"]) == {STOPPED}
            assert trial.stopped_at == own["step"].max() < max(steps)
        else:
            assert set(own["became"]) == {WENT_ON}
            assert own["step"].tolist() == steps
    drawn = rungs(front)
    assert drawn is not None
    assert f"{_stopped(front)} were stopped" in drawn.says


def _stopped(front: Front) -> int:
    return sum(trial.state is State.STOPPED for trial in front.trials)


def test_stopped_students_are_off_the_front(tmp_path: Path) -> None:
    front = run(tmp_path)
    assert _stopped(front) > 0
    assert all(trial.state is State.COMPLETE for trial in front.members)


def test_the_table_tells_each_rungs_agreement(tmp_path: Path) -> None:
    front = run(tmp_path)
    assert trust(front) is None
    for number, long in enumerate((0.1, 0.2, 0.3, 0.4)):
        worth = LongRun(number, {0: -long, 2: long}, long, steps=16, seconds=1.0)
        path = tmp_path / FOLDER / f"trial-{number:05d}-x8.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"times": 8, "run": asdict(worth)}))
    table = trust(Front.read(tmp_path))
    assert table is not None
    assert [row[0].text for row in table.rows] == ["0", "2"]
    assert [float(row[1].text) for row in table.rows] == [-1, 1]
    assert "Agreement of rungs" in Front.read(tmp_path).report().read_text(encoding="utf-8")


def test_fidelity_is_measured_on_a_studys_own_students_once(tmp_path: Path) -> None:
    run(tmp_path)
    search = toy(tmp_path)
    found = search.fidelity(sample=4, times=2)
    assert len(found.runs) == 4
    assert {one.steps for one in found.runs} == {4}
    trials: dict[int, Trial] = {one.number: one for one in Front.read(tmp_path).trials}
    for one in found.runs:
        own = trials[one.number].curve
        best = accumulate(own.values(), max)
        assert {step: one.rungs[step] for step in own} == dict(zip(own, best, strict=True))
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / FOLDER).glob("*")}
    again = search.fidelity(sample=4, times=2)
    assert again == found
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / FOLDER).glob("*")}
    assert Fidelity.read(tmp_path) == found


def test_each_quality_is_beside_its_trivial_rivals(tmp_path: Path) -> None:
    run(tmp_path)
    assert rivals(Front.read(tmp_path)) is None
    found = toy(tmp_path).fidelity(sample=4, times=2)
    (row,) = found.rivals()
    assert row["quality"] == "retention"
    values = [(one.qualities["retention"], one) for one in found.runs]
    for of, one in values:
        assert of["untrained"] == pytest.approx(one.rungs[0])
        assert of["short"] == pytest.approx(max(one.rungs.values()))
        assert of["long"] == pytest.approx(one.long)
    long = [one.long for one in found.runs]
    sizes = [float(one.parameters) for one in found.runs]
    assert row["more parameters"] == pytest.approx(kendall(sizes, long), nan_ok=True)
    assert row["kendall tau"] == found.by_rung[max(found.by_rung)].kendall
    table = rivals(Front.read(tmp_path))
    assert table is not None
    assert table.rows[0][0].text == "Retention"
    page = Front.read(tmp_path).report().read_text(encoding="utf-8")
    assert "Agreement of qualities and their rivals" in page
