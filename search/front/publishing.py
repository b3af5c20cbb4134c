"""Write notes, plots and files, so that Optuna Dashboard shows a study as the report does."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from protege.search.analysis.result import StudyResult
from protege.search.handover.checkpoint import card_of_trial
from protege.search.records.plain import plotted, printable
from protege.search.records.results import weights_folder
from protege.search.records.trial import Trial
from protege.search.report.learning import learning_curve
from protege.search.report.notes import study_note, trial_note
from protege.search.report.sections.convergence import growth, progress
from protege.search.report.sections.races import rungs
from protege.search.report.sections.sizes import composition
from protege.search.report.trade_off import front_plots
from protege.search.storage.storage import OptunaStudy
from protege.search.study.shown import (
    WHOLE_STUDY,
    ShownFile,
    declare_file,
    declared_files,
    write_notes,
    write_plots,
)
from protege.search.study.store import Store
from protege.spaces.errors import without_secrets
from protege.spaces.files.hashing import digest
from protege.spaces.files.manifest import MANIFEST

_LOG = logging.getLogger("protege")

REPORT, TABLE = "report.html", "front.csv"
LINKED = (REPORT, TABLE)
"""The files of the study itself, to which its note has links."""

MOST_PLOTS = 6
"""Plots that are shown; the dashboard loads all of them again and again."""

CARD_PX = 450
"""The height of a plot in the dashboard, which cuts higher ones off."""


@dataclass(frozen=True)
class Content:
    """A file for the dashboard with what is in it."""

    file: ShownFile
    text: str


def publish(
    front: StudyResult,
    study: OptunaStudy,
    files: AbstractContextManager[Store],
    report: str = "",
    writer: str = "run",
) -> None:
    """Write what Optuna Dashboard shows of a study; what cannot be written is a warning.

    Args:
        front: The study.
        study: Its Optuna study.
        files: Opens the store of files, as `Front.shown_files` does.
        report: The report as HTML, or an empty string to leave the stored one as it is.
        writer: See `write_notes`.
    """
    with unless_it_fails(front.name):
        with files as store:
            for one in _contents(front, report):
                store.write(one.file.id, io.BytesIO(one.text.encode()))
                declare_file(study, one.file)
        write_plots(study, dict(_plots(front)))
    write_front_notes(front, study, front.trials, writer)


@dataclass
class RunningNotes:
    """Writes notes during a run, each time on the trials that it concerns.

    Attributes:
        result: Makes the result of a study from its record and its finished trials.
    """

    result: Callable[[Mapping[str, Any], Sequence[Trial]], StudyResult]
    _on_front: set[int] | None = field(default=None, init=False)

    def write(
        self,
        study: OptunaStudy,
        about: Mapping[str, Any],
        trials: Sequence[Trial],
        ended: Trial | None,
    ) -> None:
        """Write the notes on the study, on a trial that ended, and on those that it dominates.

        Without such a trial the run has ended, and all notes are written.
        """
        with unless_it_fails(study.study_name):
            front = self.result(about, trials)
            on_front = {trial.number for trial in front.members}
            before, self._on_front = self._on_front or on_front, on_front
            changed = {ended.number} | (before ^ on_front) if ended else None
            concerned = [one for one in trials if changed is None or one.number in changed]
            write_front_notes(front, study, concerned, is_running=ended is not None)


def write_front_notes(
    front: StudyResult,
    study: OptunaStudy,
    trials: Iterable[Trial],
    writer: str = "run",
    *,
    is_running: bool = False,
) -> None:
    """Write the notes on a study and some trials; what cannot be written is a warning.

    While a study runs, notes leave out what takes long to compute.
    """
    with unless_it_fails(front.name):
        files = declared_files(study)
        links = {name: files[name] for name in LINKED if name in files}
        notes = {one.number: trial_note(front, one, is_running=is_running) for one in trials}
        whole = study_note(front, links=links, is_running=is_running)
        write_notes(study, notes | {WHOLE_STUDY: whole}, writer)


@contextmanager
def unless_it_fails(study: str) -> Iterator[None]:
    """Turn an error into a warning: a study is more important than what is shown of it."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is, no trial is to fail for it
        _LOG.debug("protege: what the dashboard shows", exc_info=True)
        why = printable(without_secrets(str(error)))
        _LOG.warning("protege: Optuna Dashboard is behind on study %r: %s", study, why)


def report_id(front: StudyResult) -> str:
    """Return the id of the report in the store."""
    return _id(front, REPORT)


def _contents(front: StudyResult, report: str) -> Iterator[Content]:
    """Yield the files of a study: report and front, model cards and learning curves."""
    if report:
        yield Content(ShownFile(report_id(front), REPORT, "text/html"), report)
    table = ShownFile(_id(front, TABLE), TABLE, "text/csv")
    yield Content(table, front.table.to_csv(index=False))
    for trial in front.trials:
        curve = learning_curve(trial)
        if curve:
            name = f"learning-curve-t{trial.number}.svg"
            yield Content(_file(front, name, "image/svg+xml", trial), curve)
    for trial in front.students:
        stored = weights_folder(front.folder, trial.number)
        if (stored / MANIFEST).is_file():
            name = f"model-card-t{trial.number}.md"
            card = card_of_trial(trial, stored, front.about)
            yield Content(_file(front, name, "text/markdown", trial), card)


def _file(front: StudyResult, name: str, mimetype: str, trial: Trial) -> ShownFile:
    return ShownFile(_id(front, name), name, mimetype, trial.number)


def _id(front: StudyResult, name: str) -> str:
    """Return the id of a file, always the same; those of weights begin with the run's id."""
    return digest(front.run.encode(), name.encode())


def _plots(front: StudyResult) -> Iterator[tuple[str, str]]:
    """Yield id and JSON of each figure, with its title in it."""
    found = [*front_plots(front), growth(progress(front)), rungs(front), composition(front)]
    for one in [plot for plot in found if plot is not None][:MOST_PLOTS]:
        figure = json.loads(one.spec)
        layout = figure["layout"]
        layout["title"] = {"text": plotted(one.title), "x": 0.02}
        layout |= {"height": CARD_PX, "margin": {**layout.get("margin", {}), "t": 60, "b": 70}}
        below = {"orientation": "h", "x": 0, "y": -0.28, "yanchor": "top", "font": {"size": 11}}
        layout["legend"] = below
        yield re.sub(r"[^A-Za-z0-9_-]", "-", f"protege-{one.name}"), json.dumps(figure)
