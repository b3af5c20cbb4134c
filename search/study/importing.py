"""Import of trials from an earlier study of the same teacher."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import accumulate

from optuna.study import Study
from optuna.trial import TrialState, create_trial

from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.trial import State, Trial
from protege.search.storage.attributes import as_trial_attribute
from protege.search.storage.storage import asked_for
from protege.search.study.sampler import distributions
from protege.search.study.stopped import RUNG
from protege.search.study.study import attributes, checked_record
from protege.spaces import SearchSpace


def importable_trials(
    study: Study, space: SearchSpace, known: Iterable[Trial]
) -> list[tuple[int, Trial]]:
    """Return trials of another study that can be imported.

    Those are complete or stopped trials of members of this space that this study has not tried.
    Failed and screened ones may succeed here.

    Returns:
        For each its number in the other study, and the trial with its number in this one.
    """
    taken = asked_for(study)
    found: list[tuple[int, Trial]] = []
    for trial in known:
        if trial.key in taken or trial.key not in space.by_key:
            continue
        if trial.state not in {State.COMPLETE, State.STOPPED}:
            continue
        number = len(study.get_trials(deepcopy=False)) + len(found)
        # the other study's limits do not apply
        reason = trial.reason if trial.state is State.STOPPED else ""
        found.append((trial.number, replace(trial, number=number, reason=reason)))
        taken.add(trial.key)
    return found


def import_trial(
    study: Study, space: SearchSpace, objectives: ObjectiveRecords, trial: Trial, source: str
) -> None:
    """Store a trial of another study as a finished trial of this one.

    Args:
        study: The study.
        space: Its resolved space.
        objectives: Its objectives; those of the other study differ in limits only.
        trial: The trial, with the next free number.
        source: Name of the other study.
    """
    member, is_complete = space.by_key[trial.key], trial.state is State.COMPLETE
    study.add_trial(
        create_trial(
            state=TrialState.COMPLETE if is_complete else TrialState.PRUNED,
            values=objectives.values(trial) if is_complete else None,
            params=dict(space.params(member)),
            distributions=distributions(space),
            user_attrs=_attributes(trial, str(member), source, objectives),
            system_attrs=as_trial_attribute(checked_record(trial)),
            constraints=objectives.violations(trial) or None,
        )
    )


def _attributes(
    trial: Trial, architecture: str, source: str, objectives: ObjectiveRecords
) -> dict[str, object]:
    """Return the user attributes of an imported trial."""
    known = [objective for objective in objectives.records if objective.at_rungs]
    # candidates are compared by the best value up to each rung
    best = {
        objective.name: [
            *accumulate(
                (
                    values.get(objective.name, trial.measurements[objective.name].value)
                    for values in trial.rungs.values()
                ),
                max if objective.sign < 0 else min,
            )
        ]
        for objective in known
    }
    rungs = {
        f"{RUNG}{step}": [best[objective.name][at] for objective in known]
        for at, step in enumerate(trial.rungs)
    }
    return {
        "key": trial.key,
        "architecture": architecture,
        "imported": source,
        **attributes(trial, objectives),
        **rungs,
    }
