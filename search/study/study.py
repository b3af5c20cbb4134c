"""`StoredStudy`: ask the Optuna study for architectures, and record results in it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import State, Trial
from protege.search.storage.attributes import (
    ABOUT,
    has_record,
    store_study_record,
    store_trial_record,
    trial_record,
)
from protege.search.storage.explaining import undamaged
from protege.search.storage.storage import asked_for, open_storage, quiet_optuna, with_retries
from protege.search.study.sampler import UniqueSampler, suggested
from protege.search.study.stopped import RUNG, STOPPED_AT, stopped_with
from protege.spaces.architecture.sizes import family_in
from protege.spaces.errors import without_secrets
from protege.spaces.files.hashing import text_checksum

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import Architecture, SearchSpace

_TOLD = {
    State.COMPLETE: TrialState.COMPLETE,
    State.STOPPED: TrialState.PRUNED,
    State.SCREENED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

CRASHES = "died"
"""The attribute with the reasons of a trial's worker crashes."""


@dataclass
class StoredStudy:
    """The stored study: asks for architectures and records trials.

    Attributes:
        optuna_study: The Optuna study.
        space: The resolved search space.
        objectives: The objectives of the study.
        claim: Raises if another process has claimed the study.
    """

    optuna_study: Study
    space: "SearchSpace"
    objectives: ObjectiveRecords
    claim: Callable[[], None] = lambda: None
    _open: dict[int, optuna.trial.Trial] = field(default_factory=dict, repr=False)
    _in_hand: set[int] = field(default_factory=set, repr=False)

    @classmethod
    def open(
        cls,
        study: Study,
        space: "SearchSpace",
        objectives: ObjectiveRecords,
        seed: int,
        sampler: BaseSampler | None = None,
    ) -> "StoredStudy":
        """Set the sampler of a study, and enqueue anchors that are not tried yet."""
        # another seed per run: a resumed sampler must not repeat its first proposals
        state = int(np.random.SeedSequence([seed, len(study.trials)]).generate_state(1)[0])
        study.sampler = UniqueSampler(space, state, sampler, objectives)
        # an earlier process may have enqueued some; some may be imported from another study
        known = asked_for(study)
        for anchor in space.anchors:
            if anchor.key() not in known:
                params = dict(space.params(anchor))
                study.enqueue_trial(params, {"anchor": True}, skip_if_exists=True)
        return cls(study, space, objectives)

    def catch_up(self) -> None:
        """Finish trials whose record was stored by a process that died before `tell`."""
        for trial in self._unfinished():
            if has_record(trial):
                self.tell(_read(trial, self.optuna_study.study_name))

    def ask(self) -> "tuple[int, Architecture]":
        """Return number and architecture of the next trial.

        Trials that an earlier process left unfinished come first, then members not tried yet.

        Raises:
            Infeasible: The space is exhausted.
        """
        # a retry resumes the trial that was begun when the connection broke
        return with_retries(self._ask)

    def _ask(self) -> "tuple[int, Architecture]":
        self.claim()
        waiting = self._waiting()
        trial = self._open[waiting[0].number] if waiting else self.optuna_study.ask()
        self._open[trial.number] = trial
        known = trial.user_attrs.get("key")
        if known:
            self._in_hand.add(trial.number)
            return trial.number, self.space.by_key[known]
        params = {knob.name: suggested(trial, knob) for knob in self.space.knobs}
        asked = [self.space.by_key[key] for key in asked_for(self.optuna_study)]
        architecture = self.space.nearest(params, excluding=asked)
        trial.set_user_attr("key", architecture.key())
        trial.set_user_attr("architecture", str(architecture))
        self._in_hand.add(trial.number)
        return trial.number, architecture

    def tell(self, result: Trial) -> None:
        """Store the record of a trial, then finish it in the Optuna study."""
        with_retries(lambda: self._tell(result))
        del self._open[result.number]
        self._in_hand.discard(result.number)

    def _tell(self, result: Trial) -> None:
        self.claim()
        trial = self._open[result.number]
        try:
            for name, value in attributes(result, self.objectives).items():
                trial.set_user_attr(name, value)
            store_trial_record(trial, checked_record(result))
        except UpdateFinishedTrialError:
            return  # an earlier attempt succeeded, but its reply was lost
        known = trial.constraints
        # all of them and sorted: the Gaussian process reads constraints by position
        for name, violation in self.objectives.violations(result).items():
            if name not in known:
                trial.set_constraint(name, violation)
        state = _TOLD[result.state]
        values = self.objectives.values(result) if state is TrialState.COMPLETE else None
        self.optuna_study.tell(trial, values, state=state)

    def add_crash(self, number: int, reason: str) -> int:
        """Record a worker crash of a trial; return the number of crashes so far.

        It is stored, so that resumed runs do not retry the trial forever.
        """
        trial = self._open[number]
        found = [*trial.user_attrs.get(CRASHES, []), without_secrets(reason)]
        with_retries(lambda: trial.set_user_attr(CRASHES, found))
        return len(found)

    def unfinished(self) -> list[tuple[int, str]]:
        """Return number and key of each trial that an earlier process left unfinished."""
        return [
            (trial.number, str(trial.user_attrs["key"]))
            for trial in with_retries(self._waiting)
            if "key" in trial.user_attrs
        ]

    def describe(self, about: Mapping[str, Any]) -> None:
        """Store the record of the study that reports need."""
        with_retries(lambda: store_study_record(self.optuna_study, ABOUT, about))

    def store_rung(self, number: int, step: int, values: Sequence[float]) -> None:
        """Store a candidate's values that are known at a rung, in the order of the objectives."""
        trial = self._open[number]
        with_retries(lambda: trial.set_user_attr(f"{RUNG}{step}", list(values)))

    def others_at_rung(self, number: int, step: int) -> list[list[float]]:
        """Return the values of other candidates at a rung, in the order of the objectives.

        They are those of the same family: students of another family than the teacher's begin with
        random weights, and early in their training lie behind students that are cut from it.
        """
        name = f"{RUNG}{step}"
        trials = self._stored()
        families = {trial.number: family_in(trial.user_attrs.get("key", "")) for trial in trials}
        return [
            trial.user_attrs[name]
            for trial in trials
            if name in trial.user_attrs
            and trial.number != number
            and families[trial.number] == families[number]
        ]

    def numbers(self) -> list[int]:
        """Return the numbers of all trials, finished or not."""
        return [trial.number for trial in self._stored()]

    def _stored(self) -> list[FrozenTrial]:
        return with_retries(lambda: self.optuna_study.get_trials(deepcopy=False))

    def trials(self) -> list[Trial]:
        """Return all finished trials, in order."""
        return trials_of(self.optuna_study)

    def _unfinished(self) -> list[FrozenTrial]:
        """Return unfinished trials of this and of earlier processes, after taking them over."""
        left = self.optuna_study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in left:
            if trial.number not in self._open:
                # Optuna has no public way to take over a trial
                taken_over = optuna.trial.Trial(self.optuna_study, trial._trial_id)  # noqa: SLF001
                self._open[trial.number] = taken_over
        return left

    def _waiting(self) -> list[FrozenTrial]:
        """Return trials that an earlier process left unfinished and this one has not resumed."""
        return [trial for trial in self._unfinished() if trial.number not in self._in_hand]

    @property
    def exhausted(self) -> bool:
        """Whether every member of the space is finished or under way."""
        return with_retries(self._is_exhausted)

    def _is_exhausted(self) -> bool:
        return not self._waiting() and len(asked_for(self.optuna_study)) >= len(self.space)


def open_study(storage: str | Path, name: str, objectives: ObjectiveRecords) -> Study:
    """Open the study of that name, or create it."""
    with quiet_optuna():
        study = optuna.create_study(
            study_name=name,
            storage=open_storage(storage),
            directions=[objective.direction for objective in objectives.records],
            load_if_exists=True,
        )
        if study.metric_names is None:
            study.set_metric_names(objectives.names)
    return study


def attributes(trial: Trial, objectives: ObjectiveRecords) -> dict[str, Any]:
    """Return the user attributes of a finished trial: short figures and words for people."""
    found: dict[str, Any] = {"state": str(trial.state), "student": trial.label}
    if isfinite(trial.speedup):
        found["times_faster"] = round(trial.speedup, 3)
    if trial.parameters is not None:
        found["parameters_m"] = round(trial.parameters / 1e6, 3)
    if trial.reason:
        found["reason"] = without_secrets(trial.reason)
    if trial.stopped_at is not None:
        found[STOPPED_AT] = trial.stopped_at
        # it may be stopped before all objectives are measured; nothing is learned from it then
        if all(name in trial.measurements for name in objectives.names):
            found |= stopped_with(objectives.values(trial))
    return found


def checked_record(trial: Trial) -> dict[str, Any]:
    """Return the record of a finished trial with its checksum."""
    # normalise tuples and integer keys as JSON reads them
    record = json.loads(json.dumps(trial.record()))
    return {"record": record, "checksum": text_checksum(record)}


def trials_of(study: Study) -> list[Trial]:
    """Return all finished trials of a study, in order."""
    stored = study.get_trials(deepcopy=False)
    # a trial with a record that is not finished in Optuna is finished by the next run
    return [_read(t, study.study_name) for t in stored if t.state.is_finished() and has_record(t)]


def _read(stored: FrozenTrial, study: str) -> Trial:
    """Read a stored trial.

    Raises:
        BadInput: Its record is damaged, or belongs to another trial.
    """
    with undamaged(f"study {study!r}, trial {stored.number}", "restore a copy of the storage"):
        own = trial_record(stored)
        if own["checksum"] != text_checksum(own["record"]):
            raise ValueError("altered after it was written")
        trial = Trial.of_record(own["record"])
        if (trial.number, trial.key) != (stored.number, stored.user_attrs["key"]):
            raise ValueError("another trial's")
        return trial
