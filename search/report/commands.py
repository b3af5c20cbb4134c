"""The lines that use a student, to be copied from the report."""

from collections.abc import Callable
from pathlib import Path

from protege.search.analysis.result import StudyResult
from protege.search.records.plain import quoted
from protege.search.records.trial import Trial


def commands(front: StudyResult, trial: Trial) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the lines that use a student: by relative path, if it has one, and by absolute path.

    The relative path holds in the folder in which the report was written.
    """
    absolute = front.folder.absolute()
    folders = [("absolute path", absolute)]
    if absolute.is_relative_to(Path.cwd()):
        folders.insert(0, ("relative path", absolute.relative_to(Path.cwd())))
    lines = LINES if trial.number in front.confirmed else (*LINES, CONFIRM)
    return [
        (kind, [(what, written(folder, trial)) for what, written in lines])
        for kind, folder in folders
    ]


def _export(folder: Path, trial: Trial) -> str:
    return f"protege export {quoted(folder)} --trial {trial.number}"


def _export_in_python(folder: Path, trial: Trial) -> str:
    return f"from protege.search import Front; {_front(folder)}.export({trial.number})"


def _train(folder: Path, trial: Trial) -> str:
    return f"protege train {quoted(folder)} --trial {trial.number} --data FILE"


def _train_in_python(folder: Path, trial: Trial) -> str:
    return (
        "from protege.objectives import Texts; from protege.search import Front; "
        f'{_front(folder)}.train({trial.number}, Texts.from_file("texts.jsonl"))'
    )


def _confirm(folder: Path, _: Trial) -> str:
    return f"protege confirm {quoted(folder)}"


def _front(folder: Path) -> str:
    # repr keeps an accented name readable, ascii escapes what is not printable
    text = str(folder)
    return f"Front.read({repr(text) if text.isprintable() else ascii(text)})"


LINES: tuple[tuple[str, Callable[[Path, Trial], str]], ...] = (
    ("Export on the command line", _export),
    ("Export in Python", _export_in_python),
    ("Train on the command line", _train),
    ("Train in Python", _train_in_python),
)
"""The lines to copy for a student in a run folder, by what they are."""

CONFIRM = ("Confirm the front", _confirm)
"""The line where the figures of a student were not confirmed."""
