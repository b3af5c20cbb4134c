"""Records for programs, in the system attributes of studies and trials.

Optuna Dashboard shows every user attribute on one line, and no system attributes. So records in
JSON are system attributes, and user attributes are short figures and words for people.
"""

from collections.abc import Mapping
from typing import Any

from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from protege.spaces import BadInput

ABOUT = "about"
"""The record of the study that reports need."""

IDENTITY = "identity"
"""What the study was made with."""

_PREFIX = "protege:"
_RECORD = f"{_PREFIX}trial"


def study_record(study: Study, name: str) -> dict[str, Any]:
    """Return a record of a study, empty if it has none yet.

    Raises:
        BadInput: The study has finished trials, so there must be a record.
    """
    found, key = system_attributes(study), f"{_PREFIX}{name}"
    if key not in found and any(t.state.is_finished() for t in study.get_trials(deepcopy=False)):
        raise BadInput(
            f"study {study.study_name!r}: its record {name!r} is missing; it is lost when a study "
            "is renamed in Optuna Dashboard; restore a copy of the storage"
        )
    return dict(found.get(key, {}))


def store_study_record(study: Study, name: str, record: Mapping[str, Any]) -> None:
    """Store a record of a study, in place of the earlier one."""
    set_system_attribute(study, f"{_PREFIX}{name}", dict(record))


def has_record(trial: FrozenTrial) -> bool:
    """Return whether the result of a trial is stored."""
    return _RECORD in trial.system_attrs


def trial_record(trial: FrozenTrial) -> dict[str, Any]:
    """Return the record of a trial."""
    return dict(trial.system_attrs[_RECORD])


def store_trial_record(trial: Trial, record: Mapping[str, Any]) -> None:
    """Store the record of a trial that is not finished in Optuna."""
    number = trial._trial_id  # noqa: SLF001 - as in the two functions below
    trial.storage.set_trial_system_attr(number, _RECORD, dict(record))


def as_trial_attribute(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the system attributes of a trial that is created with its record."""
    return {_RECORD: dict(record)}


def system_attributes(study: Study) -> dict[str, Any]:
    """Return the system attributes of a study, for which Optuna has no public name."""
    storage, number = study._storage, study._study_id  # noqa: SLF001
    return storage.get_study_system_attrs(number)


def set_system_attribute(study: Study, name: str, value: Any) -> None:
    """Set a system attribute of a study."""
    storage, number = study._storage, study._study_id  # noqa: SLF001
    storage.set_study_system_attr(number, name, value)
