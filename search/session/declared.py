"""The declaration of a study, as a session reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from protege.objectives import Distillation, Objective
from protege.search.running.racing import Race
from protege.search.storage.run_folder import RunFolder
from protege.spaces import Cache, SearchSpace, Teacher


class Declared(Protocol):
    """The declaration of a study; `protege.search.Search` is one."""

    @property
    def name(self) -> str:
        """Name of the study."""

    @property
    def teacher(self) -> Teacher:
        """The teacher."""

    @property
    def students(self) -> SearchSpace:
        """The search space, bound to the teacher."""

    @property
    def objectives(self) -> Sequence[Objective]:
        """The objectives."""

    @property
    def distillation(self) -> Distillation | None:
        """What students learn from and how."""

    @property
    def place(self) -> str | Path:
        """The storage."""

    @property
    def run_folder(self) -> RunFolder:
        """The run folder."""

    @property
    def cache(self) -> Cache:
        """The cache in the run folder."""

    @property
    def seed(self) -> int:
        """Seed of proposals, data order and initialisation."""

    @property
    def sampler(self) -> Any:
        """An Optuna sampler in place of the default one."""

    @property
    def race(self) -> Race | None:
        """The rule that stops candidates at rungs."""

    @property
    def artifacts(self) -> str:
        """The store that weights are uploaded to."""

    @property
    def private(self) -> bool:
        """Whether files of the run are readable by their owner only."""
