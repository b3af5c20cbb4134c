"""What is published, exported and judged is the best rung of a trial."""

from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Candidate, Retention, VectorCosine
from protege.search import State
from protege.search.cli.studying import finish
from protege.search.records.wording import AS_CUT
from tests.search.toys import distillation, toy


@pytest.mark.parametrize("race", [True, False])
def test_no_trial_is_published_below_its_start_and_what_is_exported_is_what_was_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, race: bool
) -> None:
    changes: dict[str, Any] = {} if race else {"race": None}
    worse = distillation(losses=(VectorCosine(weight=-1.0),))  # away from the teacher
    search = toy(tmp_path / "run", distillation=worse, **changes)
    front = search.run(trials=5)
    shared = search.prepare()
    space = search.students.resolved(shared.calibration)
    for trial in front.trials:
        assert trial.state in {State.COMPLETE, State.STOPPED}
        if trial is front.teacher:
            continue
        found = trial.measurements["retention"]
        cut = Candidate(shared, space.by_key[trial.key]).built()
        assert found.value == Retention().measure(cut).value
        assert trial.best_step == 0
    student = next(one for one in front.members if one is not front.teacher)
    folder = front.export(student, tmp_path / "student")
    assert search.confirm(folder)["retention"] == student.measurements["retention"].value
    said = "Training did not improve {0} of {0} trained students: they are published as cut"
    said = said.format(sum(trial.best_step == 0 for trial in front.trials))
    assert AS_CUT in str(front)
    assert set(front.table["best_step"].dropna()) == {0}
    assert said in front.report().read_text(encoding="utf-8")
    finish(front)
    assert said in capsys.readouterr().out
