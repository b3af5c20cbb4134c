"""The report shows who was stopped where, and whether the rungs can be trusted."""

import json
import shutil
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

import pytest

from protege.search import State, Trial
from protege.search.analysis.agreement import kendall
from protege.search.analysis.fidelity import FOLDER, Fidelity, LongRun
from protege.search.front.front import Front
from protege.search.report.sections.fidelity import rivals, trust
from protege.search.report.sections.races import STOPPED, WENT_ON, curves, rungs
from protege.search.running.racing import Race
from tests.search.toys import NARROW, distillation, toy


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Front:
    """A study whose students race; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("ran")
    return toy(folder, space=NARROW, race=Race(eta=1.5, min_records=1)).run(trials=9)


@pytest.fixture
def folder(ran: Front, tmp_path: Path) -> Path:
    """A copy of its folder."""
    return shutil.copytree(ran.folder, tmp_path / "run")


def test_every_rung_that_a_student_got_to_is_drawn(ran: Front) -> None:
    frame = curves(ran)
    steps = distillation().rung_steps
    for trial in ran.trials:
        own = frame[frame["trial"] == trial.number]
        if trial is ran.teacher:
            assert own.empty
        elif trial.state is State.STOPPED:
            assert set(own["became"]) == {STOPPED}
            assert trial.stopped_at == own["step"].max() < max(steps)
        else:
            assert set(own["became"]) == {WENT_ON}
            assert own["step"].tolist() == steps
    drawn = rungs(ran)
    assert drawn is not None
    assert f"{_stopped(ran)} were stopped" in drawn.says


def _stopped(front: Front) -> int:
    return sum(trial.state is State.STOPPED for trial in front.trials)


def test_stopped_students_are_off_the_front(ran: Front) -> None:
    assert _stopped(ran) > 0
    assert all(trial.state is State.COMPLETE for trial in ran.members)


def test_the_table_tells_each_rungs_agreement(ran: Front, folder: Path) -> None:
    assert trust(ran) is None
    for number, long in enumerate((0.1, 0.2, 0.3, 0.4)):
        worth = LongRun(number, {0: -long, 2: long}, long, steps=16, seconds=1.0)
        path = folder / FOLDER / f"trial-{number:05d}-x8.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"times": 8, "run": asdict(worth)}))
    table = trust(Front.read(folder))
    assert table is not None
    assert [row[0].text for row in table.rows] == ["0", "2"]
    assert [float(row[1].text) for row in table.rows] == [-1, 1]
    assert "Agreement of rungs" in Front.read(folder).report().read_text(encoding="utf-8")


def test_fidelity_is_measured_on_a_studys_own_students_once(folder: Path) -> None:
    search = toy(folder)
    found = search.fidelity(sample=4, times=2)
    assert len(found.runs) == 4
    assert {one.steps for one in found.runs} == {4}
    trials: dict[int, Trial] = {one.number: one for one in Front.read(folder).trials}
    for one in found.runs:
        own = trials[one.number].curve
        best = accumulate(own.values(), max)
        assert {step: one.rungs[step] for step in own} == dict(zip(own, best, strict=True))
    before = {p: p.stat().st_mtime_ns for p in (folder / FOLDER).glob("*")}
    again = search.fidelity(sample=4, times=2)
    assert again == found
    assert before == {p: p.stat().st_mtime_ns for p in (folder / FOLDER).glob("*")}
    assert Fidelity.read(folder) == found


def test_each_quality_is_beside_its_trivial_rivals(folder: Path) -> None:
    assert rivals(Front.read(folder)) is None
    found = toy(folder).fidelity(sample=4, times=2)
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
    table = rivals(Front.read(folder))
    assert table is not None
    assert table.rows[0][0].text == "Retention"
    page = Front.read(folder).report().read_text(encoding="utf-8")
    assert "Agreement of qualities and their rivals" in page
