"""What all trials of a study share, made before the first student."""

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

from protege.objectives.data.examples import Examples
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.distillation.task_data import TaskData
from protege.objectives.stopwatch import Stopwatch
from protege.spaces import BadInput, Cache, Calibration, Teacher


@dataclass(frozen=True, eq=False)
class Prepared:
    """What all trials of a study share.

    Attributes:
        teacher: The teacher that students are cut from.
        cache: Cache of results that outlive a trial: teacher outputs, calibration, latencies.
        distillation: What students learn from and how; None if students are not distilled.
        calibration: What a pass over the training data tells of the teacher; None if no policy
            needs data.
        seed: Seed of data order and initialisation. All candidates of a study share it, so that
            students differ only by their architecture.
        batch_parts: Minimum number of gradient-accumulation parts per batch; more need less memory.
        stopwatch: Records the seconds of each phase.
    """

    teacher: Teacher
    cache: Cache
    distillation: Distillation | None = None
    calibration: Calibration | None = None
    seed: int = 0
    batch_parts: int = 1
    stopwatch: Stopwatch = field(default_factory=Stopwatch, repr=False)
    read: dict[Hashable, TaskData] = field(default_factory=dict, repr=False)
    """Data that was read before, by content and sizes."""

    @property
    def settings(self) -> Distillation:
        """The distillation, with batches in at least `batch_parts` parts.

        Raises:
            BadInput: Students are not distilled.
        """
        if self.distillation is None:
            raise BadInput("students are not distilled; give distillation=Distillation(data)")
        parts = max(self.distillation.accumulate, self.batch_parts)
        return replace(self.distillation, accumulate=parts)

    @property
    def data(self) -> TaskData:
        """The distillation's data, tokenised for the teacher.

        Raises:
            BadInput: Students are not distilled.
        """
        return self.data_of(self.settings.data)

    def data_of(self, examples: Examples) -> TaskData:
        """Return any data, split and tokenised as the distillation's is."""
        settings = self.settings
        train = settings.sequences_seen if examples == settings.data else 0
        sizes = (train, settings.selection, settings.held_out, settings.max_tokens)
        key = (examples, *sizes)
        if key not in self.read:
            own = (self.teacher, self.cache, examples, *sizes, self.stopwatch)
            self.read[key] = TaskData(*own)
        return self.read[key]

    def __getstate__(self) -> dict[str, Any]:
        """Return what other processes cannot read from the cache."""
        own = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return own | {"calibration": None, "stopwatch": Stopwatch(), "read": {}}
