"""Notes for Optuna Dashboard during a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from protege.search.front.front import Front
from protege.search.front.publishing import write_front_notes
from protege.search.records.trial import Trial
from protege.search.running.coordinator import Coordinator
from protege.search.session.identity import SearchDeclaration, identity


@dataclass
class ShownNotes:
    """Writes the notes on a study that runs.

    Attributes:
        search: The declaration.
        run: The id that study and run folder share.
        coordinator: The study under way.
    """

    search: SearchDeclaration
    run: str
    coordinator: Coordinator
    _on_front: set[int] = field(init=False)

    def __post_init__(self) -> None:
        self._on_front = self.coordinator.finished.on_front

    def write(self, about: Mapping[str, Any], ended: Trial | None = None) -> None:
        """Write the notes on the study and all trials.

        Args:
            about: The record of the study.
            ended: Only the notes on this trial and on those that joined or left the front with it.
        """
        own, finished = self.search, self.coordinator.finished
        before, self._on_front = self._on_front, finished.on_front
        changed = {ended.number} | (before ^ self._on_front) if ended else None
        front = Front(
            name=own.name,
            folder=own.run_folder.path,
            objectives=self.coordinator.study.objectives,
            trials=tuple(finished.trials),
            about=about,
            identity=identity(own),
            run=self.run,
            database=own.run_folder.database,
        )
        trials = [one for one in finished.trials if changed is None or one.number in changed]
        study = self.coordinator.study.optuna_study
        write_front_notes(front, study, trials, is_running=ended is not None)
