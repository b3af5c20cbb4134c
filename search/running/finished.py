"""What the finished trials of a study add up to."""

from dataclasses import dataclass, field

from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import State, Trial


@dataclass
class FinishedTrials:
    """The finished trials of a study, with their front and hypervolume.

    Attributes:
        objectives: The objectives of the study.
        teacher_key: The key of the teacher's architecture.
        trials: The trials, in order.
        front: The non-dominated ones among them.
        volumes: The hypervolume after each trial; 0 before the teacher's.
        teacher: The teacher's own trial, once it is complete.
    """

    objectives: ObjectiveRecords
    teacher_key: str
    trials: list[Trial] = field(default_factory=list, init=False)
    front: list[Trial] = field(default_factory=list, init=False)
    volumes: list[float] = field(default_factory=list, init=False)
    teacher: Trial | None = field(default=None, init=False)

    def __len__(self) -> int:
        return len(self.trials)

    def add(self, trial: Trial) -> None:
        """Add a trial that has just finished."""
        self.trials.append(trial)
        self.front = self.front_with(trial)
        if trial.key == self.teacher_key and trial.state is State.COMPLETE:
            self.teacher = trial
        teacher, of = self.teacher, self.objectives
        self.volumes.append(of.hypervolume(self.front, teacher) if teacher else 0.0)

    def front_with(self, trial: Trial) -> list[Trial]:
        """Return the front if this trial is added."""
        return self.objectives.front([*self.front, trial])

    def is_failed_teacher(self, trial: Trial) -> bool:
        """Return whether this is the teacher's trial and it failed."""
        return trial.key == self.teacher_key and trial.state is State.FAILED

    @property
    def on_front(self) -> set[int]:
        """The numbers of the trials on the front."""
        return {trial.number for trial in self.front}

    @property
    def has_succeeded(self) -> bool:
        """Whether any student is complete or was stopped at a rung."""
        good = (State.COMPLETE, State.STOPPED)
        return any(one.state in good and one.key != self.teacher_key for one in self.trials)
