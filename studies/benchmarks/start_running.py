"""Train from different starts on the same batches, with frequent evaluation on held-out data.

Learning rates are constant after a short warm-up, so that a short run is a prefix of a long one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import mean

import torch
from rich.console import Console
from torch import nn

from protege.objectives import Distillation, Example, Texts
from protege.objectives.distillation.inputs.batches import TaskInputs
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.distillation.tasks.task import DistillationTask
from protege.objectives.distillation.teacher_outputs import CachedOutputs, compute_outputs
from protege.objectives.distillation.training import Training
from protege.spaces import Student, Teacher
from studies.benchmarks.figures import Figure

WARM_UP = 10
"""Warm-up steps of the learning rate."""

JUDGED_AT = frozenset(
    (
        *range(10),
        *range(10, 50, 5),
        *range(50, 100, 10),
        *range(100, 400, 20),
        *range(400, 9999, 100),
    )
)
"""Steps at which the held-out loss is evaluated, besides the last."""

OURS, SEED, RANDOM = "ours", "seed recipe", "random"
RIVALS = {RANDOM: "at most 1/20", SEED: "at most 1/3"}
"""The other starts, and the targets for the share of their steps that ours takes."""


@dataclass(frozen=True)
class Answered:
    """Inputs and the teacher's outputs for them."""

    inputs: TaskInputs
    answers: CachedOutputs

    @classmethod
    def of(cls, teacher: Teacher, texts: Sequence[str], max_tokens: int, count: int) -> "Answered":
        """Tokenize texts, keep the first `count` sequences, and compute the teacher's outputs."""
        task = distillation_task(teacher)
        every = task.inputs(teacher, [Example(text) for text in texts], max_tokens)
        asked = every.first(count)
        found = compute_outputs(teacher.embedder() or teacher.model, task, asked)
        return cls(asked, CachedOutputs.of(asked, found))


UNUSED = Texts.of(("The inputs are", "tokenised already."))
"""The data of distillations whose inputs are given."""


@dataclass(frozen=True)
class Race:
    """A teacher, its students' starts, and their training.

    Attributes:
        name: The prefix of its figures' names.
        teacher: The teacher.
        learnt: The training data.
        held_out: The evaluation data.
        starts: Untrained students by name.
        rates: The learning rates of each start; its best run counts.
        batch_size: Sequences per step.
        steps: Training steps.
        seconds: The time to build our start, calibration included.
    """

    name: str
    teacher: Teacher
    learnt: Answered
    held_out: Answered
    starts: Mapping[str, Student]
    rates: Sequence[float]
    batch_size: int
    steps: int
    seconds: float

    @property
    def task(self) -> DistillationTask:
        """The distillation task."""
        return distillation_task(self.teacher)

    def training(self, settings: Distillation, start: str, seed: int = 0) -> Training:
        """Return the training of a copy of a start."""
        return Training(
            settings=settings,
            student=deepcopy(self.starts[start]),
            task=self.task,
            inputs=self.learnt.inputs,
            answers=self.learnt.answers,
            teacher=self.teacher,
            seed=seed,
        )

    def loss(self, module: nn.Module) -> float:
        """Return the held-out loss, averaged over batches."""
        (term,) = self.task.losses
        inputs, answers = self.held_out.inputs, self.held_out.answers
        with torch.inference_mode():
            return mean(
                float(
                    term.of(
                        self.task.answer(module.eval(), batch),
                        answers.to(batch),
                        inputs.labels[batch.rows],
                    )
                )
                for batch in inputs.in_order(8)
            )

    def run(self, start: str, goal: float = 0.0) -> "Run":
        """Train a start at every rate until its loss reaches the goal; return the best run."""
        tried = [Run(self, start, rate) for rate in self.rates]
        for one in tried:
            one.on(goal)
            print(f"{self.name}: {start} at rate {one.rate:g}: {one}", flush=True)
        return min(tried, key=lambda one: (one.first_at(goal), one.least))

    def figures(self) -> Iterator[Figure]:
        """Yield our steps relative to each rival's, initial losses, and the build time."""
        runs = {rival: self.run(rival) for rival in RIVALS}
        ours = self.run(OURS, min(rival.least for rival in runs.values()))
        for name, bar in RIVALS.items():
            share = ours.first_at(runs[name].least) / self.steps
            losses = f"loss {runs[name].least:.4g} in {self.steps} steps"
            yield Figure.of(f"{self.name} steps over {name}", [share], "", f"{losses}; {bar}")
        for name, run in {**runs, OURS: ours}.items():
            yield Figure.of(f"{self.name} loss before training ({name})", [run.losses[0]])
        step = f"a step takes {runs[SEED].seconds_a_step:.2f} s"
        yield Figure.of(f"{self.name} seconds before the first step", [self.seconds], "s", step)


class Run:
    """A student in training.

    Attributes:
        rate: The learning rate after the warm-up.
        losses: Held-out losses by step.
        seconds_a_step: Seconds per step, without evaluation.
    """

    def __init__(self, race: Race, start: str, rate: float) -> None:
        self.rate = rate
        self.seconds_a_step = 0.0
        self._race = race
        settings = Distillation(
            UNUSED,
            steps=race.steps,
            batch_size=race.batch_size,
            learning_rate=rate,
            warmup=min(1.0, WARM_UP / race.steps),
            decay=0.0,
        )
        self._training = race.training(settings, start)
        self.losses = {0: race.loss(self._training.student.module)}

    @property
    def least(self) -> float:
        """The lowest loss."""
        return min(self.losses.values())

    def first_at(self, goal: float) -> int:
        """Return the first step whose loss is at most the goal, or the step after the last."""
        steps = [step for step, loss in self.losses.items() if loss <= goal]
        return min(steps, default=self._race.steps + 1)

    def on(self, goal: float = 0.0) -> None:
        """Train to the end or until the loss is at most the goal."""
        race, spent, step = self._race, 0.0, 0
        stops = sorted(at for at in {*JUDGED_AT, race.steps} if 0 < at <= race.steps)
        halts = self._training.run(stops)
        with Console().status("") as status:
            while step < race.steps and self.least > goal:
                begin = time.perf_counter()
                step = next(halts)
                spent += time.perf_counter() - begin
                self.losses[step] = race.loss(self._training.student.module)
                status.update(f"{race.name}: step {step}, at best {self.least:.4g}")
        self.seconds_a_step = spent / max(1, step)

    def __str__(self) -> str:
        last = max(self.losses)
        shown = [step for step in (0, 10, 50, 100, 200, 500, last) if step in self.losses]
        losses = ", ".join(f"{self.losses[step]:.4g} at {step}" for step in dict.fromkeys(shown))
        return f"{losses} ({self.seconds_a_step:.2f} s a step)"
