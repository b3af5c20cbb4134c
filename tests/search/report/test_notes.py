"""Notes hold what a person needs, and names in them are text."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from protege.objectives import Measurement
from protege.objectives.measurement import TrainingRecord
from protege.search import State
from protege.search.analysis.confirmation import Confirmation
from protege.search.records.plain import printable
from protege.search.report.learning import learning_curve
from protege.search.report.notes import study_note, trial_note
from tests.search.report.drawn import ABOUT, classic, drawn, objective, student

MARKUP = "<b>x</b>|`y`*z*_a_$b$[c](d)\\#\n"


def plain(note: str) -> str:
    """A note without the backslashes before punctuation."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", note)


def rows(note: str) -> list[list[str]]:
    """The rows of all tables of a note."""
    lines = [line for line in plain(note).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_note_on_a_study_has_teacher_result_front_and_commands() -> None:
    front = classic(database=Path("runs/toy/study.db"))
    note = study_note(front, links={"report.html": "/artifacts/1/ab"})
    assert note.startswith("## org\\/teacher\n\n**The student at the knee of the front\\, t")
    assert "5 trials: 5 complete; hypervolume 0." in note
    table = rows(note)
    assert table[0] == ["trial", "student", "Latency (ms)", "Retention", "times faster"]
    assert [row[0] for row in table[2:]] == [str(trial.number) for trial in front.members]
    assert ["3", "4x24-h6-f40-t3", "30 ± 0.3", "0.9 ± 0.009", "1.33"] in table
    assert "(teacher)" in table[-1][1]
    assert "[report\\.html](/artifacts/1/ab)" in note
    knee = front.knee().trial.number
    commands = ["pick runs/toy", f"export runs/toy --trial {knee}", "report runs/toy"]
    assert [line for line in note.splitlines() if line.startswith("`protege")] == [
        f"`protege {command}`" for command in commands
    ]


def test_a_server_is_not_named_in_a_command() -> None:
    note = study_note(classic())
    assert "`protege pick RUN`" in note
    assert "RUN is the URL of this storage, or the study file." in note


def test_a_study_that_runs_names_no_choice() -> None:
    note = study_note(classic(), is_running=True)
    assert "**The study runs.**" in note
    assert "knee" not in note
    assert len(rows(note)) == 2 + len(classic().members)


def test_the_note_on_a_student_is_its_card() -> None:
    rungs = {0: {"retention": 0.7}, 7: {"retention": 0.9}}
    training = TrainingRecord(7, 7, 1e-3, (0.3, 0.2))
    trial = student(5, {"latency_ms": 5.0, "retention": 0.9}, rungs=rungs, training=training)
    front = classic(replace(trial, parameters=1_500_000), database=Path("a b/study.db"))
    note = trial_note(front, front.trials[5])
    assert "**Finished, on the front.**" in note
    table = rows(note)
    assert ["layers", "2", "4", "50%"] in table
    assert ["parameters", "1.50 M", "", ""] in table
    assert ["Latency (ms)", "5 ± 0.05", "40 ± 0.4", "12%"] in table
    assert ["times faster", "8.00", "1", ""] in table
    assert ["0", "0.7000"] in table
    assert ["7 (published)", "0.9000"] in table
    assert "`protege export runs/toy --trial 5`" in note


@pytest.mark.parametrize(
    ("state", "begins"),
    [
        (State.STOPPED, "**Stopped by the race: beaten at step 0."),
        (State.SCREENED, "**Screened: not trained: beaten at step 0."),
        (State.FAILED, "**Failed: beaten at step 0."),
    ],
)
def test_the_note_says_why_a_trial_ended(state: State, begins: str) -> None:
    own = {"rungs": {0: {"retention": 0.2}}} if state is State.STOPPED else {}
    trial = student(5, {"latency_ms": 9.0}, state=state, reason="beaten at step 0", **own)
    front = classic(trial)
    note = trial_note(front, trial)
    assert begins in plain(note)
    assert "export" not in note
    assert ["Retention", "-", "1 ± 0.01", ""] in rows(note)


def test_a_prediction_is_shown_as_one() -> None:
    trial = student(5, {}, state=State.SCREENED, predictions={"latency_ms": 123.4})
    assert ["Latency (ms)", "123 (predicted)", "40 ± 0.4", ""] in rows(
        trial_note(classic(trial), trial)
    )


def test_names_with_markup_are_text() -> None:
    named = objective(MARKUP, "maximize")
    made = {"reason": MARKUP, "rungs": {0: {MARKUP: 0.1}}, "state": State.STOPPED}
    stopped = student(2, {MARKUP: 0.3}, **made)
    own = {**ABOUT["teacher"], "source": f"org/{MARKUP}"}  # type: ignore[dict-item]
    about = {**ABOUT, "teacher": own, "workloads": {}, "processor": MARKUP}
    front = drawn(
        [named], [(0.9,), (0.5,)], stopped, name=MARKUP, about=about, folder=Path("runs", MARKUP)
    )
    front = replace(front, database=Path("study.db"))
    for note in (study_note(front), *(trial_note(front, trial) for trial in front.trials)):
        shown = [line for line in note.splitlines() if not line.startswith("``protege")]
        assert "\\<b\\>x\\<\\/b\\>\\|\\`y\\`\\*z\\*" in note
        unescaped = re.sub(r"\\[!-/:-@\[-`{-~]", "", "\n".join(shown))
        assert not set("<>`$[]_") & set(unescaped)
        assert "<b>x</b>|`y`*z*" in plain(note)
    assert printable(MARKUP) in plain(study_note(front))
    assert printable(MARKUP) in plain(trial_note(front, stopped))


def test_a_command_is_a_span_that_can_be_copied() -> None:
    front = classic(folder=Path("runs/a|`b"), database=Path("study.db"))
    assert "``protege report 'runs/a|`b'``" in study_note(front)


def test_the_learning_curve_has_losses_and_rungs() -> None:
    rungs = {0: {"<b>": 0.7}, 4: {"<b>": 0.9}}
    training = TrainingRecord(4, 4, 1e-3, (0.4, 0.3, float("nan"), 0.2))
    trial = student(1, {"latency_ms": 5.0}, rungs=rungs, training=training)
    image = learning_curve(trial)
    assert image.count("<polyline") == 2
    assert image.count("<circle") == 3 + 2
    assert "training loss" in image
    assert "&lt;b&gt;" in image
    assert ">0.400<" in image
    assert ">0.200<" in image
    assert "nan" not in image
    untrained = replace(trial, rungs={}, training=None, measurements={"a": Measurement(1.0)})
    assert learning_curve(untrained) == ""


def test_the_note_on_a_trial_has_its_confirmed_figures(tmp_path: Path) -> None:
    front = classic(folder=tmp_path)
    trial = front.trials[3]
    values = {"latency_ms": 31.0, "retention": 0.9, "unseen_retention": 0.85}
    Confirmation(trial.number, trial.weights, values).store(tmp_path)
    table = {row[0]: row[1] for row in rows(trial_note(classic(folder=tmp_path), trial))}
    assert table["Latency (ms)"] == "30 ± 0.3, confirmed 31.0"
    assert table["Retention"] == "0.9 ± 0.009, confirmed 0.850"
