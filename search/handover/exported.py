"""Read a student that was exported."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from protege.objectives import Candidate
from protege.objectives.candidate import Prepared
from protege.spaces import Architecture, BadInput, Mismatch, Student, Teacher
from protege.spaces.architecture.sizes import Sizes
from protege.spaces.checkpoints.processors import tokenizer_in
from protege.spaces.files.manifest import MANIFEST
from protege.spaces.models.loading import loaded
from protege.spaces.others.table import kind_of, names_other
from protege.spaces.students.selection import Selection


@dataclass(frozen=True)
class ExportedStudent:
    """A student's folder and its record.

    Attributes:
        folder: The folder.
        manifest: The entries of its ``protege.json``.
    """

    folder: Path
    manifest: Mapping[str, Any]

    @classmethod
    def read(cls, folder: str | Path) -> "ExportedStudent":
        """Read the record of a student; its weights are loaded by `student`.

        Raises:
            BadInput: The folder was not written by ``protege export`` or ``protege train``.
        """
        path = Path(folder).expanduser()
        what = "expected a folder that `protege export` or `protege train` wrote"
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BadInput(f"{path}: no {MANIFEST} there; {what}") from None
        except (OSError, ValueError) as error:
            raise BadInput(f"{path / MANIFEST}: cannot be read ({error}); {what}") from error
        if not isinstance(manifest, dict) or not {"teacher", "kept"} <= manifest.keys():
            raise BadInput(f"{path / MANIFEST}: names no teacher; {what}")
        return cls(path, manifest)

    @property
    def teacher(self) -> Mapping[str, Any]:
        """The record of the model that it learns from: hub id, fingerprint, task, sizes."""
        found: Mapping[str, Any] = self.manifest.get("answers_from") or self.manifest["teacher"]
        return found

    def load_teacher(self, source: str | Path | None = None) -> Teacher:
        """Load the teacher, by default from the hub.

        Args:
            source: The folder or hub id of the teacher.

        Raises:
            BadInput: No source is given and the teacher is not on the hub, or it cannot be loaded.
            Mismatch: It is another model than the student's teacher.
        """
        place = source or self.teacher.get("hub_id")
        if not place:
            raise BadInput(
                f"{self.folder}: its teacher came from a folder, which is not recorded; name it: "
                "--teacher FOLDER"
            )
        teacher = Teacher.load(place, task=self.teacher["task"])
        if teacher.fingerprint != self.teacher["fingerprint"]:
            raise Mismatch(
                f"{place}: not the teacher of {self.folder} (fingerprint {teacher.fingerprint}, "
                f"recorded {self.teacher['fingerprint']}); give the model that it was cut from"
            )
        return teacher

    def candidate(self, shared: Prepared) -> Candidate:
        """Return the student in the form in which objectives measure it."""
        student = loaded_student(self.folder, shared.teacher, self.manifest["kept"])
        return Candidate(shared, student.architecture).holding(student)


def loaded_student(folder: Path, teacher: Teacher, kept: Mapping[str, Any] | None) -> Student:
    """Load a student from its folder.

    Args:
        folder: The folder.
        teacher: Its teacher.
        kept: The units that it keeps; None if they are unknown.

    Raises:
        Mismatch: The student's tokenizer is not its teacher's.
    """
    model, sizes = of_folder(folder, teacher.task)
    student = Student(
        model=model.model,
        processor=model.processor,
        architecture=sizes,
        kept=Selection((), {}) if kept is None else Selection.of_manifest(kept),
        embedder=model.embedder(),
        is_sentence_transformer=(folder / "modules.json").is_file(),
    )
    if student.kept.vocab is None:
        check_same_tokens(model, teacher)
    return student


def of_folder(folder: Path, task: str) -> tuple[Teacher, Architecture]:
    """Load the model in a student's folder, of whatever family, with its sizes."""
    kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type", "")
    if not names_other(kind):
        model = Teacher.load(folder, task=task)
        return model, model.architecture
    kind_of(kind).register()
    recorded = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["architecture"]
    sizes = {one.name: recorded.get(one.name, 0) for one in fields(Sizes)}
    options = {"revision": None, "trust_remote_code": False}
    return Teacher(**loaded(folder, task, options, {}, cuts=False)), Architecture(**sizes)


def check_same_tokens(student: Teacher, teacher: Teacher) -> None:
    """Check that two models read the same tokens.

    Raises:
        Mismatch: They do not.
    """
    own, theirs = (_vocabulary(one) for one in (student, teacher))
    if own == theirs:
        return
    differing = {token for token, _ in own.items() ^ theirs.items()}
    raise Mismatch(
        f"{student.source}: its tokenizer differs from that of {teacher.source} in "
        f"{len(differing)} tokens, such as {min(differing)!r}; give the teacher that the student "
        "was cut from"
    )


def _vocabulary(model: Teacher) -> Mapping[str, int]:
    """Return the token ids of a model by token; empty for a model of images."""
    tokenizer = tokenizer_in(model.processor)
    return {} if tokenizer is None else tokenizer.get_vocab()
