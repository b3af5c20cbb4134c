"""Scripts for other trainers: the options ``--for`` and ``--data`` of ``protege export``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from protege.search.cli.whole import Count
from protege.search.handover.plan import TrainingPlan
from protege.search.progress import say, watching
from protege.search.records.plain import printable, quoted
from protege.spaces.errors import BadInput

if TYPE_CHECKING:
    from protege.search.analysis.card import ChosenStudent
    from protege.search.handover.starting import DataFile


@Parameter(name="*")
@dataclass(frozen=True)
class ScriptOptions:
    """A script by which another trainer trains the student.

    Attributes:
        trainer: Write a training script beside the student: for TRL's GKDTrainer, for
            transformers' Trainer or for that of sentence-transformers.
        data: With --for: file of texts to train on (default: the study's own data, if RUN is a
            study file).
        text: Column of the texts.
        label: Column of the labels.
        pair: Column of the second text of each pair.
        teacher: Folder or hub id of the teacher (default: the study's, or the hub's).
        epochs: Passes over the data.
        batch_size: Sequences per step.
        learning_rate: Peak learning rate (default: the study's, scaled by the student's distance
            from its teacher).
    """

    trainer: Annotated[
        Literal["gkd", "trainer", "sentence-transformers"] | None, Parameter(name="--for")
    ] = None
    data: Path | None = None
    text: str = "text"
    label: str | None = None
    pair: str | None = None
    teacher: str | None = None
    epochs: float = 1.0
    batch_size: Count = 32
    learning_rate: float | None = None

    def file(self) -> "DataFile | None":
        """Return the data that the options name."""
        from protege.search.handover.starting import DataFile

        columns = (self.text, self.label, self.pair)
        return None if self.data is None else DataFile(self.data, *columns)

    def settings(self) -> dict[str, Any]:
        """Return the plan and the teacher that the options describe."""
        plan = TrainingPlan(
            self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate
        )
        return {"plan": plan, "teacher": self.teacher}


def script_for(choice: "ChosenStudent", options: ScriptOptions, folder: Path | None) -> None:
    """Write a student of a front and the script."""
    say(str(choice))
    with watching("loading") as announce:
        known = {"tell": say, "show": announce, **options.settings()}
        script = choice.export_for(options.trainer, options.file(), folder, **known)
    _tell(script)


def script_beside(folder: str, options: ScriptOptions, target: Path | None) -> None:
    """Write the script for a student that was exported.

    Args:
        folder: The student's folder.
        options: The options.
        target: The folder of ``--to``, which is for a run.

    Raises:
        BadInput: It is given.
    """
    from protege.search.handover.exported import ExportedStudent
    from protege.search.handover.scripts.training_script import TrainingScript
    from protege.search.handover.starting import full_training

    if target is not None:
        raise BadInput(f"{folder}: a student's folder; --to is for a run")
    assert options.trainer is not None  # `export` looks
    student = ExportedStudent.read(folder)
    target = student.folder.with_name(f"{student.folder.name}-{options.trainer}")
    with watching("loading") as announce:
        known = options.settings()
        training = full_training(student, options.file(), target, tell=say, show=announce, **known)
        script = TrainingScript(training, options.trainer).write()
    _tell(script)


def _tell(script: Path) -> None:
    say(f"Script: {printable(script)}")
    say(f"To train the student: python {printable(quoted(script))}")
