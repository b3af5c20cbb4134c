"""Confirm a student: measure it again from its exported files."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from protege.objectives import Candidate, Objective
from protege.objectives.latency.runtimes.deployed import deployed
from protege.objectives.machine.pickling import read_pickle, write_pickle
from protege.objectives.measurement import Stage
from protege.objectives.objective import Confirmed, JudgedOnUnseen, judges_deployed
from protege.search.handover.exported import loaded_student
from protege.spaces import ProtegeError
from protege.spaces.files.atomic import write_text
from protege.spaces.files.manifest import MANIFEST


def confirmed(objectives: Sequence[Objective], own: Candidate, folder: Path) -> dict[str, float]:
    """Measure each objective on the exported student.

    Objectives that judge students are also measured on examples that the search never saw, under
    their name with the prefix ``unseen_``. Further values of an objective, such as a latency's
    speedup, are those of the first objective that has them.

    Returns:
        Values by name.
    """
    figures: dict[str, float] = {}
    exported = _exported(own, folder)
    how = own.prepared.deployment
    running = exported if how is None else deployed(exported, how)
    for objective in objectives:
        student = running if judges_deployed(objective, own.teacher) else exported
        if isinstance(objective, Confirmed):
            figures = {**objective.confirm(own, folder), **figures}
        else:
            figures[objective.name] = objective.measure(student).value
        if objective.stage is Stage.STUDENT and isinstance(objective, JudgedOnUnseen):
            unseen = objective.measure_unseen(student)
            if unseen is not None:
                figures[f"unseen_{objective.name}"] = unseen.value
    return figures


def _exported(own: Candidate, folder: Path) -> Candidate:
    """Return the student in a folder as a candidate."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    student = loaded_student(folder, own.teacher, manifest.get("kept"))
    return Candidate(own.prepared, student.architecture).holding(student)


def confirm_apart(
    objectives: Sequence[Objective], own: Candidate, folder: Path
) -> dict[str, float]:
    """Run `confirmed` in a new process, which knows nothing but the exported files.

    Args:
        objectives: The objectives.
        own: The teacher as a candidate.
        folder: The folder of the student.

    Raises:
        BadInput: Something cannot be sent to another process.
        ProtegeError: The process failed; the message is its last line.
    """
    with TemporaryDirectory() as place:
        task, result = Path(place) / "task.pt", Path(place) / "result.json"
        advice = "define it without open files, locks and connections"
        write_pickle((tuple(objectives), own, folder), task, "the study", advice)
        line = [sys.executable, "-P", "-m", __name__, str(task), str(result)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise ProtegeError(f"{folder}: could not be measured again ({last})")
        found: dict[str, float] = json.loads(result.read_text(encoding="utf-8"))
        return found


def main(task: str, result: str) -> None:
    """Measure the student of a task file and write its values."""
    objectives, own, folder = read_pickle(Path(task))
    write_text(Path(result), json.dumps(confirmed(objectives, own, folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
