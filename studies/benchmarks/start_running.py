"""Training from different starts on the same batches, with the held-out loss looked at often.

Rates are constant after a short warm-up, so that a short run is the beginning of a long one.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import mean

import torch
from rich.console import Console
from torch import nn

from protege.objectives import Distillation, Example
from protege.objectives.distillation.lesson import Lesson
from protege.objectives.distillation.questions import Questions
from protege.objectives.distillation.remembering import Remembered, remember
from protege.objectives.distillation.training import Training
from protege.objectives.retention import lesson_of
from protege.spaces import Student, Teacher
from studies.benchmarks.figures import Figure

WARM_UP = 10
"""Steps over which the rate rises."""

JUDGED_AT = frozenset(
    (
        *range(10),
        *range(10, 50, 5),
        *range(50, 100, 10),
        *range(100, 400, 20),
        *range(400, 9999, 100),
    )
)
"""Steps at which the held-out loss is looked at, beside the last."""

OURS, SEED, RANDOM = "ours", "seed recipe", "random"
RIVALS = {RANDOM: "at most 1/20", SEED: "at most 1/3"}
"""What ours runs against, and the share of their steps that it may take."""


@dataclass(frozen=True)
class Answered:
    """Questions and the teacher's answers to them."""

    questions: Questions
    answers: Remembered

    @classmethod
    def of(cls, teacher: Teacher, texts: Sequence[str], max_tokens: int, count: int) -> "Answered":
        """The first so many sequences of the texts."""
        lesson = lesson_of(teacher)
        every = lesson.questions(teacher, [Example(text) for text in texts], max_tokens)
        asked = every.first(count)
        found = remember(teacher.embedder() or teacher.model, lesson, asked)
        return cls(asked, Remembered.of(asked, found))


@dataclass(frozen=True)
class Race:
    """A teacher, the starts, and what they run through.

    Attributes:
        name: Begins the names of its figures.
        teacher: Who teaches.
        learnt: To learn from.
        held_out: To be judged on.
        starts: Untrained students by name.
        rates: The learning rates that each start is run at; its best run counts.
        batch_size: Sequences a step.
        steps: How long it is.
        seconds: What our start took, calibration and all.
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
    def lesson(self) -> Lesson:
        """What is taught."""
        return lesson_of(self.teacher)

    def training(self, settings: Distillation, start: str, seed: int = 0) -> Training:
        """A copy of a start, ready to be taught."""
        return Training(
            settings=settings,
            student=deepcopy(self.starts[start]),
            lesson=self.lesson,
            questions=self.learnt.questions,
            answers=self.learnt.answers,
            teacher=self.teacher,
            seed=seed,
        )

    def loss(self, module: nn.Module) -> float:
        """The held-out loss, the mean over batches."""
        (term,) = self.lesson.losses
        questions, answers = self.held_out.questions, self.held_out.answers
        with torch.inference_mode():
            return mean(
                float(
                    term.of(
                        self.lesson.answer(module.eval(), batch),
                        answers.to(batch),
                        questions.labels[batch.rows],
                    )
                )
                for batch in questions.in_order(8)
            )

    def run(self, start: str, goal: float = 0.0) -> "Run":
        """A start's run at its best rate, to the end or to where its loss is at most the goal."""
        tried = [Run(self, start, rate) for rate in self.rates]
        for one in tried:
            one.on(goal)
            print(f"{self.name}: {start} at rate {one.rate:g}: {one}", flush=True)
        return min(tried, key=lambda one: (one.first_at(goal), one.least))

    def figures(self) -> Iterator[Figure]:
        """Steps that ours took over those of its rivals, losses, and what they cost."""
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
        losses: Held-out, by the number of steps before.
        seconds_a_step: What a step took, judging left out.
    """

    def __init__(self, race: Race, start: str, rate: float) -> None:
        self.rate = rate
        self.seconds_a_step = 0.0
        self._race = race
        settings = Distillation(
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
        """The least loss of all."""
        return min(self.losses.values())

    def first_at(self, goal: float) -> int:
        """The first step at which the loss was at most the goal; one past the last, if at none."""
        steps = [step for step, loss in self.losses.items() if loss <= goal]
        return min(steps, default=self._race.steps + 1)

    def on(self, goal: float = 0.0) -> None:
        """Train to the end, or until the loss is at most the goal."""
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
