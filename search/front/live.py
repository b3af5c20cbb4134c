"""What Optuna Dashboard shows of a study that may be running."""

import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from protege.search.front.front import Front
from protege.search.front.publishing import publish, report_id, unless_it_fails
from protege.search.records.trial import State
from protege.search.report.page import page
from protege.search.storage.explaining import explained, shown_storage, undamaged
from protege.search.storage.format import run_of
from protege.search.storage.run_folder import locate_run
from protege.search.storage.storage import OptunaStudy, read_study
from protege.search.study.study import trials_of


@dataclass
class LiveDashboard:
    """Notes, plots and files of a study; the artifact store of its dashboard.

    The report is made again when it is opened, not after every trial: that would disturb the
    measurements of a run on this machine.

    Attributes:
        run: The run folder or storage.
        study: The Optuna study.
    """

    run: str | Path
    study: OptunaStudy
    _shown: int = field(default=0, init=False)
    _report: tuple[int, bytes] = field(default=(0, b""), init=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, init=False)

    @classmethod
    def of(cls, run: str | Path, name: str | None = None) -> "LiveDashboard":
        """Open the study of a run.

        Raises:
            BadInput: There is no study, it is damaged, or it has another format.
        """
        place = locate_run(run)
        with undamaged(shown_storage(place.storage)), explained(place.storage):
            study = read_study(place.storage, name or place.study or None)
            run_of(study, shown_storage(place.storage))
            trials_of(study)
            return cls(run, study)

    def refresh(self) -> None:
        """Write notes, plots and files if trials have ended since; the report the first time.

        What cannot be read or written is a warning.
        """
        with self._lock, unless_it_fails(self.study.study_name):
            trials = trials_of(self.study)
            is_new = len(trials) > self._shown
            if not is_new or all(trial.state is not State.COMPLETE for trial in trials):
                return
            is_first, self._shown = not self._shown, len(trials)
            front = Front.read(self.run, self.study.study_name)
            report = self._made(front).decode() if is_first else ""
            publish(front, self.study, front.shown_files(), report, writer="dashboard")

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open a file for reading; the report is that of all trials that have ended."""
        front = Front.read(self.run, self.study.study_name)
        if artifact_id == report_id(front):
            with self._lock:
                return io.BytesIO(self._made(front))
        with front.shown_files() as store:
            return store.open_reader(artifact_id)

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store a file that was given to the dashboard."""
        with Front.read(self.run, self.study.study_name).shown_files() as store:
            store.write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove a file."""
        with Front.read(self.run, self.study.study_name).shown_files() as store:
            store.remove(artifact_id)

    def _made(self, front: Front) -> bytes:
        """Return the report, made again if trials have ended since."""
        count = len(front.trials)
        if self._report[0] != count:
            self._report = count, page(front).encode()
        return self._report[1]
