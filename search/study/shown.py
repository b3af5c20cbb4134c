"""What Optuna Dashboard shows of a study beside trials: notes, plots, artifacts.

It reads them from system attributes of the study. They are written here, not by its functions, so
that a run needs no optuna-dashboard, and one note is one write. A note that was edited in the
dashboard is kept as it is.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from optuna.artifacts import ArtifactMeta

from protege.search.storage.attributes import set_system_attribute, system_attributes
from protege.search.storage.storage import OptunaStudy
from protege.search.study.artifacts import DECLARED
from protege.spaces.files.hashing import digest

WHOLE_STUDY = -1
"""The number that stands for the study itself, among those of its trials."""

_WRITTEN = "protege:note:"
"""Prefix of the attributes with the checksums of a note as protege has written it."""


@dataclass(frozen=True)
class ShownFile:
    """A file that the dashboard offers.

    Attributes:
        id: Its id in the store, hexadecimal digits.
        name: Its name.
        mimetype: Its type.
        trial: The trial that it belongs to, or `WHOLE_STUDY`.
    """

    id: str
    name: str
    mimetype: str
    trial: int = WHOLE_STUDY


def write_notes(study: OptunaStudy, notes: Mapping[int, str], writer: str = "run") -> None:
    """Write notes in Markdown; unchanged ones, and those that a person has edited, are left.

    Args:
        study: The study.
        notes: The notes by trial number, or by `WHOLE_STUDY`.
        writer: Which of the processes that may write at the same time this is.
    """
    known, ids = system_attributes(study), _ids(study)
    for number, text in notes.items():
        prefix = _prefix(ids[number])
        version, before = f"{prefix}note_ver", _body(known, prefix)
        mark = f"{_WRITTEN}{number}:"
        own = [one for name, sums in known.items() if name.startswith(mark) for one in sums]
        is_edited = version in known and _checksum(before) not in own
        if is_edited or (version in known and before == text):
            continue
        # both, as the process may be killed before the next line
        either = [before, text] if version in known else [text]
        set_system_attribute(study, f"{mark}{writer}", [*map(_checksum, either)])
        set_system_attribute(study, f"{prefix}note_str:0", text)
        set_system_attribute(study, version, known.get(version, 0) + 1)


def write_plots(study: OptunaStudy, plots: Mapping[str, str]) -> None:
    """Write Plotly figures as JSON, by the names that are ids of HTML elements."""
    known = system_attributes(study)
    for name, figure in plots.items():
        key = f"dashboard:plot_data:{name}:0"
        if known.get(key) != figure:
            set_system_attribute(study, key, figure)


def declare_file(study: OptunaStudy, file: ShownFile) -> None:
    """Declare a file that is in the store.

    Optuna declares artifacts of a trial in the trial, which cannot be changed once it is finished.
    The dashboard reads declarations in the study as well.
    """
    about = ArtifactMeta(file.id, file.name, file.mimetype, None)
    trial = _ids(study)[file.trial]
    key = f"{DECLARED}{file.id}" if trial is None else f"dashboard:artifacts:{trial}:{file.id}"
    declared = json.dumps(asdict(about))
    if system_attributes(study).get(key) != declared:
        set_system_attribute(study, key, declared)


def declared_files(study: OptunaStudy) -> dict[str, str]:
    """Return the addresses of the study's own files on the dashboard's server, by their names."""
    found = (
        json.loads(declared)
        for name, declared in system_attributes(study).items()
        if name.startswith(DECLARED)
    )
    number = study._study_id  # noqa: SLF001 - Optuna has no public name
    # a file that was removed in the dashboard is null
    return {one["filename"]: f"/artifacts/{number}/{one['artifact_id']}" for one in found if one}


def _ids(study: OptunaStudy) -> dict[int, int | None]:
    """Return the ids that the storage knows trials by; None for the study itself."""
    trials = study.get_trials(deepcopy=False)
    return {WHOLE_STUDY: None, **{one.number: one._trial_id for one in trials}}  # noqa: SLF001


def _prefix(trial: int | None) -> str:
    return "dashboard:" if trial is None else f"dashboard:{trial}:"


def _checksum(text: str) -> str:
    return digest(text.encode(errors="surrogatepass"))


def _body(known: Mapping[str, Any], prefix: str) -> str:
    """Return the note that is stored; the dashboard writes long ones in several parts."""
    parts, at = [], 0
    while (key := f"{prefix}note_str:{at}") in known:
        parts.append(str(known[key]))
        at += 1
    return "".join(parts)
