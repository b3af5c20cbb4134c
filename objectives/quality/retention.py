"""Retention: a student's quality relative to its teacher's, by the task's own measure."""

from dataclasses import dataclass, field
from typing import ClassVar

from protege.objectives.candidate import Candidate
from protege.objectives.data.examples import Examples
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.task_data import TaskData
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.task import TaskScore
from protege.objectives.measurement import Direction, Measurement, Stage, name_of
from protege.objectives.quality.bootstrap import interval
from protege.spaces import BadInput, Teacher
from protege.spaces.arguments import checks_fields


@checks_fields
@dataclass(frozen=True)
class Retention:
    """Student quality on examples that it was not trained on, divided by the teacher's quality.

    Encoders of texts or images: mean cosine to the teacher's vectors. Language and
    sequence-to-sequence models: the teacher's perplexity divided by the student's. Speech: the
    share of next tokens that are the teacher's. Classifiers of one class: accuracy; of several
    classes, and of answers: F1; scores: one over one plus the squared error in units of the
    variance. These are divided by the teacher's, or are the agreement with the teacher if the data
    has no labels. A student with a cut vocabulary gets the same texts, mapped to its own tokens. A
    baseline reads them with its own tokenizer; its sentence vectors are first mapped linearly to
    the teacher's, as fitted on the training part.

    Attributes:
        data: Examples to score on; None scores on the distillation's own, of which students train
            on other ones.
        limit: Minimum retention of a student; None means no limit.
        label: Distinguishes several objectives of the kind: ``retention_<label>``.
    """

    data: Examples | None = field(default=None, repr=False)
    limit: float | None = None
    label: str = ""

    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "maximize"
    stage: ClassVar[Stage] = Stage.STUDENT
    at_rungs: ClassVar[bool] = True
    judges_deployed: ClassVar[str] = "always"

    def __post_init__(self) -> None:
        given: object = self.data
        if given is not None and not isinstance(given, Examples):
            raise BadInput(f"data={given!r}: expected examples, such as Texts.of([...]), or None")
        _ = self.name  # checks the label

    @property
    def name(self) -> str:
        return name_of("retention", self.label, "")

    def check(self, teacher: Teacher) -> None:
        distillation_task(teacher)

    def measure(self, candidate: Candidate) -> Measurement:
        """Score the candidate's student on the part of the data that the search scores on."""
        return self._measured(candidate, held_out=False)

    def measure_unseen(self, candidate: Candidate) -> Measurement:
        """Score the candidate's student on the part of the data that the search never uses."""
        return self._measured(candidate, held_out=True)

    def _measured(self, candidate: Candidate, *, held_out: bool) -> Measurement:
        shared = candidate.prepared
        data = shared.data if self.data is None else shared.data_of(self.data)
        inputs = data.unseen if held_out else data.selected
        if not held_out:
            with candidate.stopwatch.phase("caching teacher outputs"):
                data.check_labels(inputs)
        return self.measured_on(candidate, data, inputs)

    def measured_on(self, candidate: Candidate, data: TaskData, inputs: TaskInputs) -> Measurement:
        """Score the candidate's student on inputs of the teacher; see `TaskData.sampled`."""
        own, score = candidate.judged(data, inputs)
        if candidate.vocabulary_map is not None:
            score.figures["pieces_per_token"] = float(own.lengths.sum() / inputs.lengths.sum())
        return _measurement(score, inputs.by_sequence(score.rows).tolist())


def _measurement(score: TaskScore, by_sequence: list[float]) -> Measurement:
    """Return a score with its bootstrap interval and the score of each sequence."""
    if not bool(score.rows.isfinite().all()):
        return Measurement(float("nan"))
    low, high = map(score.of_mean, interval(by_sequence))
    details: dict[str, float | str] = {**score.figures, "low": low, "high": high}
    rounded = tuple(round(one, 6) for one in by_sequence)
    return Measurement(score.value, score.spread, details=details, examples=rounded)
