"""Time the parts of a distillation step, and the savings of cached targets and bucketing.

A student of all-MiniLM-L6-v2 with half the layers and half the FFN learns from batches of 32 film
reviews, against cached teacher outputs. Compared variants alternate within one run.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.nn.functional import cosine_similarity

from protege.objectives import Candidate, Distillation, Texts
from protege.objectives.candidate import Prepared
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.mixed_precision import autocast
from protege.objectives.distillation.optimizers import Optimizers
from protege.objectives.distillation.teacher_outputs import LiveOutputs
from protege.objectives.distillation.training import Training
from protege.objectives.machine.precision import TrainingPrecision
from protege.objectives.quality.rungs import training_of
from protege.spaces import Cache
from studies.benchmarks.figures import Figure
from studies.benchmarks.parts import run_parts
from studies.benchmarks.start_encoder import minilm, reviews

BATCH = 32
PRECISIONS: tuple[TrainingPrecision, ...] = ("float32", "auto")
CPU = torch.device("cpu")


def half(folder: Path, inputs: int) -> Training:
    """Return the training of a half-size student, with teacher outputs cached in the folder."""
    teacher = minilm()
    architecture = teacher.architecture.scaled(layers=1 / 2, intermediate=1 / 2)
    settings = Distillation(
        Texts.of(reviews()),
        steps=inputs // BATCH,
        batch_size=BATCH,
        max_tokens=128,
        precision="float32",
        selection=64,
    )
    shared = Prepared(teacher, Cache(folder), settings)
    return training_of(Candidate(shared, architecture).built())


def steps_over_student(training: Training, rounds: int, each: int) -> Iterator[Figure]:
    """Compare a full step with the student's bare forward, backward and optimiser."""
    for precision in PRECISIONS:
        settings = replace(training.settings, precision=precision)
        batches = _first(training.inputs, each)
        ready = [(batch, training.answers.to(batch)["vector"]) for batch in batches]
        pairs = []
        for _ in range(rounds):
            ours = _seconds_of_run(replace(training, settings=settings), each)
            bare = _seconds(partial(_bare, training, ready, precision))
            pairs.append((ours, bare))
        label = "" if precision == "float32" else f" ({precision})"
        ratios = [ours / bare for ours, bare in pairs]
        yield Figure.of(f"step over student{label}", ratios, "", "at most 1.1")
        steps = [ours / each for ours, _ in pairs]
        yield Figure.of(f"seconds a step{label}", steps, "s", f"{each} steps at a time")


def online_over_cached(training: Training, rounds: int, each: int) -> Iterator[Figure]:
    """Compare a step with live teacher outputs to one with cached outputs."""
    teacher = training.teacher
    module = teacher.embedder() or teacher.model
    online = LiveOutputs(module, training.task, training.inputs.labels)
    for precision in PRECISIONS:
        settings = replace(training.settings, precision=precision)
        ratios = []
        for _ in range(rounds):
            cached, asked = (
                _seconds_of_run(replace(training, settings=settings, answers=answers), each)
                for answers in (training.answers, online)
            )
            ratios.append(asked / cached)
        label = "" if precision == "float32" else f" ({precision})"
        yield Figure.of(f"online over cached{label}", ratios, "", "at least 1.8")


def bucketed(training: Training, rounds: int, each: int) -> Iterator[Figure]:
    """Compare random batches with length-bucketed ones."""
    padded = replace(training, inputs=_Unsorted.of(training.inputs))
    ratios = []
    for _ in range(rounds):
        ours, theirs = (_seconds_of_run(one, each) for one in (training, padded))
        ratios.append(theirs / ours)
    yield Figure.of("bucketed speed-up", ratios, "", "at least 1.4")
    for name, inputs in (("ours", training.inputs), ("random", padded.inputs)):
        tokens = [batch.mask.shape[1] for batch in _first(inputs, 100)]
        yield Figure(f"tokens a row ({name})", float(np.mean(tokens)), min(tokens), max(tokens))


def parts_of_a_step(training: Training, rounds: int, each: int) -> Iterator[Figure]:
    """Time each part of a step in ms, in an instrumented copy of the training loop."""
    for precision in PRECISIONS:
        found = [_timed(training, each, precision) for _ in range(rounds)]
        label = "" if precision == "float32" else f" ({precision})"
        for part in found[0]:
            yield Figure.of(f"{part}{label}", [1e3 * one[part] / each for one in found], "ms")


@dataclass(frozen=True, eq=False)
class _Unsorted(TaskInputs):
    """TaskInputs whose batches are drawn at random, without bucketing by length."""

    inputs: TaskInputs
    lengths: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, inputs: TaskInputs) -> "_Unsorted":
        # equal lengths disable bucketing
        return cls(inputs, torch.ones_like(inputs.lengths), inputs.labels)

    def batch(self, numbers: list[int]) -> Batch:  # type: ignore[override]
        return self.inputs.batch(numbers)

    def first(self, count: int) -> TaskInputs:
        return self.of(self.inputs.first(count))

    @property
    def fingerprint(self) -> str:
        return self.inputs.fingerprint

    @property
    def row_starts(self) -> torch.Tensor:
        return self.inputs.row_starts


def _first(inputs: TaskInputs, count: int) -> list[Batch]:
    batches = inputs.shuffled(BATCH, seed=0)
    return [next(batches)[0] for _ in range(count)]


def _seconds_of_run(training: Training, steps: int) -> float:
    """Time some steps on a copy of the student, after a warm-up step."""
    student = deepcopy(training.student)
    settings = replace(training.settings, steps=steps + 1)
    halts = replace(training, student=student, settings=settings, losses=[]).run([1, steps + 1])
    next(halts)
    return _seconds(partial(next, halts))


def _bare(
    training: Training, ready: list[tuple[Batch, torch.Tensor]], precision: TrainingPrecision
) -> None:
    """Run only forward, backward and optimiser, on prepared batches."""
    module = deepcopy(training.student.module)
    with ExitStack() as stack:
        optimizers = Optimizers(module, training.settings, [], stack)
        for batch, target in ready:
            with autocast(precision, CPU):
                answer = module(**batch.inputs)
            (1 - cosine_similarity(answer.float(), target)).mean().backward()
            optimizers.step()


def _timed(training: Training, steps: int, precision: TrainingPrecision) -> dict[str, float]:
    """Return the seconds of each part over some steps."""
    module, settings = deepcopy(training.student.module), training.settings
    batches = training.inputs.shuffled(settings.batch_size, seed=0)
    watch = _Parts()
    with ExitStack() as stack:
        optimizers = Optimizers(module, settings, [], stack)
        for _ in range(steps):
            with watch("batch"):
                batch = next(batches)[0]
            with watch("cached answers"):
                targets = training.answers.to(batch)
            with watch("forward"), autocast(precision, CPU):
                answer = training.task.answer(module, batch)
            with watch("loss"):
                labels = training.inputs.labels[batch.rows]
                (term,) = settings.terms(training.task)
                loss = term.of(answer.float(), targets, labels)
            with watch("backward"):
                loss.backward()
            with watch("clipping and optimiser"):
                optimizers.step()
    return watch.seconds


@dataclass
class _Parts:
    """A stopwatch that sums seconds by part."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _part(
    measured: Callable[[Training, int, int], Iterator[Figure]],
) -> Callable[..., Iterator[Figure]]:
    def part(*, quick: bool) -> Iterator[Figure]:
        rounds, each = (2, 3) if quick else (7, 30)
        with TemporaryDirectory() as folder:
            training = half(Path(folder), 320 if quick else 3200)
            yield from measured(training, rounds, each)

    return part


if __name__ == "__main__":
    run_parts(
        "distillation",
        __doc__ or "",
        {
            "step": _part(steps_over_student),
            "online": _part(online_over_cached),
            "bucketed": _part(bucketed),
            "parts": _part(parts_of_a_step),
        },
    )
