"""Optuna Dashboard reads notes, plots and files as its own functions would have written them."""

import plotly.graph_objects as go
import pytest
from optuna_dashboard import get_note, save_note
from optuna_dashboard._custom_plot_data import (
    get_plotly_graph_objects,
)
from optuna_dashboard.artifact._backend import (
    list_study_artifacts,
    list_trial_artifacts,
)

from protege.search.storage.attributes import system_attributes
from protege.search.study.shown import (
    WHOLE_STUDY,
    ShownFile,
    declare_file,
    declared_files,
    write_notes,
    write_plots,
)
from tests.search.toys import go_on, opened

LONG = "x" * 5000


def test_notes_are_those_of_the_dashboard(storage: str) -> None:
    study = opened(storage)
    go_on(study, 2)
    own = study.optuna_study
    for text in ("# one", LONG, "short"):
        write_notes(own, {WHOLE_STUDY: text, 1: f"trial {text}"})
        assert get_note(own) == text
        (trial,) = [one for one in own.trials if one.number == 1]
        key = f"dashboard:{trial._trial_id}:note_str:0"
        assert system_attributes(own)[key] == f"trial {text}"


def test_a_note_that_is_unchanged_is_not_written(storage: str) -> None:
    study = opened(storage).optuna_study
    write_notes(study, {WHOLE_STUDY: "one"})
    before = system_attributes(study)
    write_notes(study, {WHOLE_STUDY: "one"})
    assert system_attributes(study) == before
    assert before["dashboard:note_ver"] == 1


def test_two_processes_that_write_at_once_leave_a_note_that_both_can_write(storage: str) -> None:
    study = opened(storage).optuna_study
    write_notes(study, {WHOLE_STUDY: "one"})
    write_notes(study, {WHOLE_STUDY: "by the dashboard"}, "dashboard")
    # the run had read the note before, and its text is stored last
    before = system_attributes(study)
    write_notes(study, {WHOLE_STUDY: "by the run"})
    name, texts = "dashboard:note_str:0", ("by the run", "by the dashboard")
    for text in texts:
        study._storage.set_study_system_attr(study._study_id, name, text)
        for writer in ("run", "dashboard"):
            write_notes(study, {WHOLE_STUDY: f"next {writer}"}, writer)
            assert get_note(study) == f"next {writer}"
        for key, value in before.items():
            study._storage.set_study_system_attr(study._study_id, key, value)
        write_notes(study, {WHOLE_STUDY: "by the run"})


@pytest.mark.parametrize("edited", ["mine", LONG, ""])
def test_a_note_that_was_edited_in_the_dashboard_is_kept(storage: str, edited: str) -> None:
    study = opened(storage).optuna_study
    write_notes(study, {WHOLE_STUDY: "one"})
    save_note(study, edited)
    write_notes(study, {WHOLE_STUDY: "two"})
    assert get_note(study) == edited


def test_a_note_that_was_cut_short_by_a_kill_is_written_again(storage: str) -> None:
    study = opened(storage).optuna_study
    write_notes(study, {WHOLE_STUDY: "one"})
    saved = system_attributes(study)
    write_notes(study, {WHOLE_STUDY: "two"})
    # killed before the text, or before the version
    for name in ("dashboard:note_str:0", "dashboard:note_ver"):
        study._storage.set_study_system_attr(study._study_id, name, saved[name])
        write_notes(study, {WHOLE_STUDY: "three"})
        assert get_note(study) == "three"


def test_plots_are_those_of_the_dashboard(storage: str) -> None:
    study = opened(storage).optuna_study
    figures = [go.Figure(go.Scatter(x=[1], y=[y])).to_json() for y in (1, 2)]
    for figure in figures:
        write_plots(study, {"protege-growth": figure})
        shown = get_plotly_graph_objects(system_attributes(study))
        assert shown == {"protege-growth": figure}


def test_files_are_declared_for_the_study_and_for_trials_that_are_finished(storage: str) -> None:
    study = opened(storage)
    go_on(study, 1)
    own = study.optuna_study
    report = ShownFile("ab12", "report.html", "text/html")
    curve = ShownFile("cd34", "curve.svg", "image/svg+xml", 0)
    for _ in range(2):
        declare_file(own, report)
        declare_file(own, curve)
    known, (trial, *_) = system_attributes(own), own.trials
    assert [one["artifact_id"] for one in list_study_artifacts(known)] == ["ab12"]
    assert [one["filename"] for one in list_trial_artifacts(known, {}, trial)] == ["curve.svg"]
    assert declared_files(own) == {"report.html": f"/artifacts/{own._study_id}/ab12"}
