"""The Optuna study: asking for the next architecture, telling what came of it."""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError

from protege.search.goals import Goals
from protege.search.trial import State, Trial
from protege.spaces import Architecture, BadInput, Mismatch, SearchSpace
from protege.spaces.knobs import Knob

GP_TRIALS = 250
"""Up to so many trials a Gaussian process proposes best; beyond, it costs too much."""

_TOLD = {
    State.COMPLETE: TrialState.COMPLETE,
    State.SCREENED: TrialState.PRUNED,
    State.FAILED: TrialState.FAIL,
}


@dataclass
class Ledger:
    """The study's storage: what was asked, what was told, and by what it is recognised.

    Attributes:
        study: The Optuna study.
        space: The members that can be asked for.
        goals: What they are judged by.
    """

    study: Study
    space: SearchSpace
    goals: Goals
    _members: dict[str, Architecture] = field(init=False, repr=False)
    _open: dict[int, optuna.trial.Trial] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self._members = {member.key(): member for member in self.space}

    def catch_up(self) -> None:
        """Tell what a process that died had measured and recorded, but not told."""
        for trial in self._unfinished():
            if "protege" in trial.user_attrs:
                self.tell(Trial.of_record(trial.user_attrs["protege"]))

    def ask(self) -> tuple[int, Architecture]:
        """The number and the architecture of the next trial: one that was never asked for before.

        A trial that an earlier process left unfinished comes first.
        """
        waiting = self._unfinished()
        trial = self._open[waiting[0].number] if waiting else self.study.ask()
        self._open[trial.number] = trial
        known = trial.user_attrs.get("key")
        if known:
            return trial.number, self._members[known]
        params = {knob.name: knob.suggest(trial) for knob in self.space.knobs}
        asked = [self._members[key] for key in _asked(self.study)]
        architecture = self.space.nearest(params, excluding=asked)
        trial.set_user_attr("key", architecture.key())
        trial.set_user_attr("architecture", str(architecture))
        return trial.number, architecture

    def tell(self, result: Trial) -> None:
        """Store all that is known of a trial, then tell the study."""
        trial = self._open.pop(result.number)
        trial.set_user_attr("protege", result.record())
        trial.set_user_attr("state", str(result.state))
        if result.reason:
            trial.set_user_attr("reason", result.reason)
        known = trial.constraints
        # sorted, and all of them: the Gaussian process reads them by position
        for goal in sorted(self.goals.goals, key=lambda one: one.name):
            measured = goal.limit is not None and goal.name in result.measurements
            if measured and goal.name not in known:
                value = result.measurements[goal.name].value
                trial.set_constraint(goal.name, goal.violation(value))
        complete = result.state is State.COMPLETE
        values = self.goals.values(result) if complete else None
        self.study.tell(trial, values, state=_TOLD[result.state])

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

    @property
    def exhausted(self) -> bool:
        """Whether every member of the space has been asked for, and told of."""
        return not self._unfinished() and len(_asked(self.study)) >= len(self.space)


class UniqueSampler(BaseSampler):
    """Another sampler, its proposals moved to the nearest member not asked for yet."""

    def __init__(self, space: SearchSpace, seed: int, base: BaseSampler | None = None) -> None:
        self._space = space
        self._distributions = {knob.name: _distribution(knob) for knob in space.knobs}
        self._members = {member.key(): member for member in space}
        self._early = base or GPSampler(seed=seed)
        with _calm():
            self._late = base or TPESampler(seed=seed, multivariate=True)

    def infer_relative_search_space(
        self,
        study: Study,  # noqa: ARG002 - the space is the same for every study and trial
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if trial.system_attrs.get("fixed_params"):
            return {}  # enqueued: nothing to propose
        base = self._base(study)
        params = base.sample_relative(study, trial, search_space)
        for name, distribution in search_space.items():
            if name not in params:
                params[name] = base.sample_independent(study, trial, name, distribution)
        excluded = [self._members[key] for key in _asked(study) if key in self._members]
        if trial.params:  # a process that died had stored some of them already
            stored = trial.params.items()
            excluded += [m for m in self._space if not stored <= self._space.params(m).items()]
        return dict(self._space.params(self._space.nearest(params, excluding=excluded)))

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._base(study).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._base(study).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._base(study).after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self._early.reseed_rng()
        self._late.reseed_rng()

    def _base(self, study: Study) -> BaseSampler:
        return self._early if len(study.get_trials(deepcopy=False)) < GP_TRIALS else self._late


def open_study(
    storage: str,
    name: str,
    space: SearchSpace,
    goals: Goals,
    seed: int,
    sampler: BaseSampler | None = None,
) -> Ledger:
    """The study of that name, created with its anchors enqueued if it is new."""
    with _calm():
        study = optuna.create_study(
            study_name=name,
            storage=_open_storage(storage),
            directions=[goal.direction for goal in goals.goals],
            load_if_exists=True,
        )
        if study.metric_names is None:
            study.set_metric_names(goals.names)
    done = len(study.trials)
    # a resumed sampler must not propose again what it proposed first
    state = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    study.sampler = UniqueSampler(space, state, sampler)
    # a process may have died between two of them
    for anchor in space.anchors if done < len(space.anchors) else ():
        study.enqueue_trial(dict(space.params(anchor)), {"anchor": True}, skip_if_exists=True)
    return Ledger(study, space, goals)


def read_study(storage: str, name: str | None = None) -> Study:
    """A study that exists, for reading.

    Raises:
        BadInput: There is no storage, or no study, or more than one and no name.
    """
    path = database_path(storage)
    if path is not None and not path.exists():
        raise BadInput(f"{path}: no study there; expected a study.db or the run folder it is in")
    with _calm():
        opened = _open_storage(storage)
        names = optuna.get_all_study_names(opened)
        if name is None and len(names) != 1:
            raise BadInput(f"{storage}: expected one study, found {len(names)}: {', '.join(names)}")
        if name is not None and name not in names:
            raise BadInput(f"{storage}: no study {name!r}; it has: {', '.join(names)}")
        return optuna.load_study(study_name=name or names[0], storage=opened)


def trials_of(study: Study) -> list[Trial]:
    """Every trial that was told, in order."""
    stored = study.get_trials(deepcopy=False)
    # a process may die between the record and the telling: such a trial is done again
    told = (t.user_attrs for t in stored if t.state.is_finished() and "protege" in t.user_attrs)
    return [Trial.of_record(attributes["protege"]) for attributes in told]


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
    for part, value in given.items():
        if recorded.get(part) != value:
            raise Mismatch(
                f"study {study.study_name!r} was made with another {part}: "
                f"recorded {recorded.get(part)}, given {value}; "
                "give the study another name, or resume it with what it was made with"
            )


def database_path(storage: str) -> Path | None:
    """The file of a SQLite storage; none for any other.

    Raises:
        BadInput: The text is not a storage URL.
    """
    try:
        url = make_url(storage)
    except ArgumentError:
        expected = "a URL such as sqlite:///runs/name/study.db or postgresql://host/name"
        raise BadInput(f"storage {storage!r}: expected {expected}") from None
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(str(url.database)) if is_file else None


def _open_storage(storage: str) -> RDBStorage:
    path = database_path(storage)
    if path is None:
        return RDBStorage(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # a reader (the dashboard) may hold the file for a moment
        return RDBStorage(storage, engine_kwargs={"connect_args": {"timeout": 60}})
    except DatabaseError as error:
        if "not a database" in str(error):
            raise BadInput(f"{path}: not a SQLite database; expected a study.db") from error
        raise


def _asked(study: Study) -> set[str]:
    """Keys of the architectures asked for so far, told or not."""
    trials: Sequence[FrozenTrial] = study.get_trials(deepcopy=False)
    return {t.user_attrs["key"] for t in trials if "key" in t.user_attrs}


def _distribution(knob: Knob) -> BaseDistribution:
    if not knob.is_size:
        return CategoricalDistribution([str(value) for value in knob.values])
    return IntDistribution(int(knob.values[0]), int(knob.values[-1]), step=knob.step)


@contextmanager
def _calm() -> Iterator[None]:
    """Without Optuna's notes on what it calls experimental, and its log of every trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
