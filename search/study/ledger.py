"""Asking for the next architecture, telling what came of it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from protege.search.records.goals import Goals
from protege.search.records.trial import State, Trial
from protege.search.storage.explaining import undamaged
from protege.search.storage.storage import asked_for, calm, insist, open_storage
from protege.search.study.curves import RUNG, STOPPED_AT
from protege.search.study.sampler import UniqueSampler, suggested
from protege.spaces import Mismatch
from protege.spaces.files.hashing import text_checksum
from protege.spaces.redaction import without_secrets

if TYPE_CHECKING:  # a study is read without torch
    from protege.spaces import Architecture, SearchSpace

_TOLD = {
    State.COMPLETE: TrialState.COMPLETE,
    # with its last rung's values: a sampler that does not hear of it proposes its like again
    State.STOPPED: TrialState.COMPLETE,
    State.SCREENED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}

CHECKSUM = "checksum"
"""The attribute that holds the checksum of a trial's record."""

DIED = "died"
"""The attribute that holds why processes died over a trial."""


@dataclass
class Ledger:
    """The study's storage: what was asked, what was told, and by what it is recognised.

    Attributes:
        study: The Optuna study.
        space: The members that can be asked for.
        goals: What they are judged by.
        claim: Makes sure that no other process goes on with the study.
    """

    study: Study
    space: "SearchSpace"
    goals: Goals
    claim: Callable[[], None] = lambda: None
    _open: dict[int, optuna.trial.Trial] = field(default_factory=dict, repr=False)
    _in_hand: set[int] = field(default_factory=set, repr=False)

    def catch_up(self) -> None:
        """Tell what a process that died had measured and recorded, but not told."""
        for trial in self._unfinished():
            if "protege" in trial.user_attrs:
                self.tell(_read(trial, self.study.study_name))

    def ask(self) -> "tuple[int, Architecture]":
        """The number and the architecture of the next trial: one that was never asked for before.

        Trials that an earlier process left unfinished come first.

        Raises:
            Infeasible: The space is exhausted.
        """
        # a trial that was begun when the server went away is then one that was left unfinished
        return insist(self._ask)

    def _ask(self) -> "tuple[int, Architecture]":
        self.claim()
        waiting = self._waiting()
        trial = self._open[waiting[0].number] if waiting else self.study.ask()
        self._open[trial.number] = trial
        known = trial.user_attrs.get("key")
        if known:
            self._in_hand.add(trial.number)
            return trial.number, self.space.by_key[known]
        params = {knob.name: suggested(trial, knob) for knob in self.space.knobs}
        asked = [self.space.by_key[key] for key in asked_for(self.study)]
        architecture = self.space.nearest(params, excluding=asked)
        trial.set_user_attr("key", architecture.key())
        trial.set_user_attr("architecture", str(architecture))
        self._in_hand.add(trial.number)
        return trial.number, architecture

    def tell(self, result: Trial) -> None:
        """Store all that is known of a trial, then tell the study."""
        insist(lambda: self._tell(result))
        del self._open[result.number]
        self._in_hand.discard(result.number)

    def _tell(self, result: Trial) -> None:
        self.claim()
        trial = self._open[result.number]
        try:
            for name, value in attributes(result).items():
                trial.set_user_attr(name, value)
        except UpdateFinishedTrialError:
            return  # it was told, and the server went away before it could say so
        known = trial.constraints
        # sorted, and all of them: the Gaussian process reads them by position
        for name, violation in self.goals.violations(result).items():
            if name not in known:
                trial.set_constraint(name, violation)
        complete = _TOLD[result.state] is TrialState.COMPLETE
        values = self.goals.values(result) if complete else None
        self.study.tell(trial, values, state=_TOLD[result.state])

    def died(self, number: int, reason: str) -> int:
        """Note that a process died over a trial; how many did so far.

        It is stored: whoever goes on with the study does not begin it for ever.
        """
        trial = self._open[number]
        found = [*trial.user_attrs.get(DIED, []), without_secrets(reason)]
        insist(lambda: trial.set_user_attr(DIED, found))
        return len(found)

    def unfinished(self) -> list[tuple[int, str]]:
        """Number and key of each trial that a process that died had asked for, and not told of."""
        return [
            (trial.number, str(trial.user_attrs["key"]))
            for trial in insist(self._waiting)
            if "key" in trial.user_attrs
        ]

    def describe(self, about: Mapping[str, Any]) -> None:
        """Store what a report needs to know of the study."""
        insist(lambda: self.study.set_user_attr("about", dict(about)))

    def note(self, number: int, step: int, values: Sequence[float]) -> None:
        """Store a candidate's values at a rung, in the order of the goals."""
        trial = self._open[number]
        insist(lambda: trial.set_user_attr(f"{RUNG}{step}", list(values)))

    def others(self, number: int, step: int) -> list[list[float]]:
        """The values at a rung of every candidate that was there, but for one."""
        name = f"{RUNG}{step}"
        trials = insist(lambda: self.study.get_trials(deepcopy=False))
        return [t.user_attrs[name] for t in trials if t.number != number and name in t.user_attrs]

    def numbers(self) -> list[int]:
        """The numbers of all trials, told or not."""
        return [trial.number for trial in insist(lambda: self.study.get_trials(deepcopy=False))]

    def trials(self) -> list[Trial]:
        """Every trial that was told, in order."""
        return trials_of(self.study)

    def _unfinished(self) -> list[FrozenTrial]:
        """Trials asked for and not told, by this process or one that died; open for telling."""
        left = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in left:
            if trial.number not in self._open:
                # there is no public way to take over a trial whose process died
                taken_over = optuna.trial.Trial(self.study, trial._trial_id)  # noqa: SLF001
                self._open[trial.number] = taken_over
        return left

    def _waiting(self) -> list[FrozenTrial]:
        """Trials that a process that died had asked for, and nobody has in hand."""
        return [trial for trial in self._unfinished() if trial.number not in self._in_hand]

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to ask for: every member is told of, or in hand."""
        return insist(self._is_exhausted)

    def _is_exhausted(self) -> bool:
        return not self._waiting() and len(asked_for(self.study)) >= len(self.space)


def open_study(storage: str | Path, name: str, goals: Goals) -> Study:
    """The study of that name, created if it is new."""
    with calm():
        study = optuna.create_study(
            study_name=name,
            storage=open_storage(storage),
            directions=[goal.direction for goal in goals.goals],
            load_if_exists=True,
        )
        if study.metric_names is None:
            study.set_metric_names(goals.names)
    return study


def open_ledger(
    study: Study,
    space: "SearchSpace",
    goals: Goals,
    seed: int,
    sampler: BaseSampler | None = None,
) -> Ledger:
    """The ledger of a study; of a new one, with its anchors enqueued."""
    done = len(study.trials)
    # a resumed sampler must not propose again what it proposed first
    state = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    study.sampler = UniqueSampler(space, state, sampler)
    # a process may have died between two of them; some may be known from another study
    known = asked_for(study)
    for anchor in space.anchors:
        if anchor.key() not in known:
            study.enqueue_trial(dict(space.params(anchor)), {"anchor": True}, skip_if_exists=True)
    return Ledger(study, space, goals)


def attributes(trial: Trial) -> dict[str, Any]:
    """What is stored beside the values of a trial that is told."""
    # as it is read again: JSON has no tuples, and no numbers for keys
    record = json.loads(json.dumps(trial.record()))
    found: dict[str, Any] = {"state": str(trial.state), CHECKSUM: text_checksum(record)}
    found["protege"] = record
    if trial.reason:
        found["reason"] = record["reason"]
    if trial.stopped_at is not None:
        found[STOPPED_AT] = trial.stopped_at
    return found


def trials_of(study: Study) -> list[Trial]:
    """Every trial that was told, in order."""
    stored = study.get_trials(deepcopy=False)
    # a process may die between the record and the telling: such a trial is done again
    return [
        _read(t, study.study_name)
        for t in stored
        if t.state.is_finished() and "protege" in t.user_attrs
    ]


def _read(stored: FrozenTrial, study: str) -> Trial:
    """Return the trial that a storage has.

    Raises:
        BadInput: Its record is damaged, or of another trial.
    """
    own = stored.user_attrs
    with undamaged(f"study {study!r}, trial {stored.number}", "restore a copy of the storage"):
        if own[CHECKSUM] != text_checksum(own["protege"]):
            raise ValueError("altered after it was written")
        trial = Trial.of_record(own["protege"])
        if (trial.number, trial.key) != (stored.number, own["key"]):
            raise ValueError("another trial's")
        return trial


def identify(study: Study, identity: Mapping[str, Any]) -> None:
    """Record what the study is about, or compare it with what was recorded.

    Raises:
        Mismatch: The study was made with another teacher, data, space or objectives.
    """
    recorded = study.user_attrs.get("identity")
    if recorded is None:
        study.set_user_attr("identity", dict(identity))
        return
    given = json.loads(json.dumps(identity))
    for part in {**recorded, **given}:
        if recorded.get(part) != given.get(part):
            raise Mismatch(
                f"study {study.study_name!r} was made with another {part}: "
                f"recorded {recorded.get(part)}, given {given.get(part)}; "
                "give the study another name, or resume it with what it was made with"
            )
