"""The format version of stored studies, and the id that a study shares with its run folder."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from optuna.study import Study

from protege.spaces import BadInput

FORMAT = 4
"""Format version of studies and run folders. Raise it with every incompatible change."""

RUN = "run"
"""The user attribute with the random id that study and run folder share."""

_FORMAT = "format"


def written_by() -> dict[str, Any]:
    """Return format and version of this protege for storage."""
    return {"format": FORMAT, "protege": version("protege")}


def check_format(found: Any, what: str) -> None:
    """Check the format of stored records.

    Args:
        found: The stored result of `written_by`, or None.
        what: Name of the records for the message.

    Raises:
        BadInput: The format differs; the message says which version reads it.
    """
    known: Any = {"format": 0, "protege": "before 0.1"} if found is None else found
    read = (known.get("format"), known.get("protege")) if isinstance(known, Mapping) else ()
    match read:
        case (int(number), str(wrote)) if number == FORMAT:
            return
        case (int(number), str(wrote)):
            advice = (
                f'install "protege>={wrote}"'
                if number > FORMAT
                else "run the study again under another name, or read it with that version"
            )
            raise BadInput(
                f"{what}: written by protege {wrote} in format {number}; "
                f"protege {version('protege')} reads format {FORMAT} only: {advice}"
            )
        case _:
            raise BadInput(f"{what}: its format is recorded as {found!r}; the record is damaged")


def run_of(study: Study, storage: str) -> str:
    """Return the id that a study shares with its run folder.

    Raises:
        BadInput: The study is of another format, or was not made by protege.
    """
    attributes, named = study.user_attrs, f"{storage}: study {study.study_name!r}"
    if "about" not in attributes and _FORMAT not in attributes:  # the former is of format 0
        raise BadInput(f"{named} was not made by protege; give another name")
    check_format(attributes.get(_FORMAT), named)
    return str(attributes.get(RUN, ""))


def claimed_run(study: Study, storage: str) -> str:
    """Return the id that a study shares with its run folder; a new study gets one.

    Raises:
        BadInput: The study is of another format, or was not made by protege.
    """
    if not study.user_attrs and not study.get_trials(deepcopy=False):
        study.set_user_attr(_FORMAT, written_by())
    run = run_of(study, storage)
    if not run:
        run = uuid4().hex
        study.set_user_attr(RUN, run)
    return run
