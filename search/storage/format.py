"""The format of a study's records, and the identity that binds a study to its run folder."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any
from uuid import uuid4

from optuna.study import Study

from protege.spaces import BadInput

FORMAT = 2
"""The format of what is stored in a study and in its run folder. Raise it with any change that an
earlier protege would misread, or that misreads what an earlier one wrote."""

RUN = "run"
"""The user attribute with the random id of a study, which its run folder has too."""

_FORMAT = "format"


def written_by() -> dict[str, Any]:
    """Return the format and the version of this protege, as they are stored."""
    return {"format": FORMAT, "protege": version("protege")}


def check_format(found: Any, what: str) -> None:
    """Refuse records of another format.

    Args:
        found: What `written_by` gave when they were written, or None if nothing did.
        what: What they are records of, as the error names it.

    Raises:
        BadInput: The error says which version reads them.
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
                else "run the study again under another name, or read it with the version it is of"
            )
            raise BadInput(
                f"{what}: written by protege {wrote} in format {number}; "
                f"protege {version('protege')} reads format {FORMAT} only: {advice}"
            )
        case _:
            raise BadInput(f"{what}: its format is recorded as {found!r}; the record is damaged")


def run_of(study: Study, storage: str) -> str:
    """Return the id that binds a study to its run folder.

    Raises:
        BadInput: The study is of another format, or was not made by protege.
    """
    attributes, named = study.user_attrs, f"{storage}: study {study.study_name!r}"
    if "about" not in attributes and "identity" not in attributes and _FORMAT not in attributes:
        raise BadInput(f"{named} was not made by protege; give another name")
    check_format(attributes.get(_FORMAT), named)
    return str(attributes.get(RUN, ""))


def claimed_run(study: Study, storage: str) -> str:
    """Return the id that binds a study to its run folder; a new study gets one.

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
