"""Trials of an earlier study of the same teacher, taken over as known ones."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate

from optuna.study import Study
from optuna.trial import TrialState, create_trial

from protege.search.records.goals import Goals
from protege.search.records.trial import State, Trial
from protege.search.storage.storage import asked_for
from protege.search.study.curves import RUNG
from protege.search.study.ledger import attributes
from protege.search.study.sampler import distributions
from protege.spaces import SearchSpace


def adoptable(study: Study, space: SearchSpace, known: Iterable[Trial]) -> list[tuple[int, Trial]]:
    """What another study has found of members of this one's space that it has not asked for.

    Those that failed or were screened are left out: here they may not.

    Returns:
        The trial's number in the other study, and the trial as it will be known here.
    """
    taken = asked_for(study)
    found: list[tuple[int, Trial]] = []
    for trial in known:
        if trial.key in taken or trial.key not in space.by_key:
            continue
        if trial.state not in {State.COMPLETE, State.STOPPED}:
            continue
        number = len(study.get_trials(deepcopy=False)) + len(found)
        # a limit that it was over there is none here
        reason = trial.reason if trial.state is State.STOPPED else ""
        found.append((trial.number, replace(trial, number=number, reason=reason)))
        taken.add(trial.key)
    return found


def adopt(study: Study, space: SearchSpace, goals: Goals, trial: Trial, source: str) -> None:
    """Store a trial of another study as one that was told in this one.

    Args:
        study: The study.
        space: Its space, resolved.
        goals: Its goals; the other one's are the same, but for limits.
        trial: The trial, by the next number that is free.
        source: Which study it is from.
    """
    member = space.by_key[trial.key]
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE,
            values=goals.values(trial),
            params=dict(space.params(member)),
            distributions=distributions(space),
            user_attrs=_attributes(trial, str(member), source, goals),
            constraints=goals.violations(trial) or None,
        )
    )


def _attributes(trial: Trial, architecture: str, source: str, goals: Goals) -> dict[str, object]:
    """What a trial that was told here has stored beside its values."""
    trained = [goal for goal in goals.goals if trial.measurements[goal.name].examples]
    # candidates are compared at a rung by the best they have reached there
    best = {
        goal.name: [*accumulate(trial.rungs.values(), max if goal.sign < 0 else min)]
        for goal in trained
    }
    rungs = {
        f"{RUNG}{step}": [
            best[name][at] if name in best else trial.measurements[name].value
            for name in goals.names
        ]
        for at, step in enumerate(trial.rungs)
    }
    return {
        "key": trial.key,
        "architecture": architecture,
        "imported": source,
        **attributes(trial),
        **rungs,
    }
