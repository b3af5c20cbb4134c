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

from protege.objectives.distillation.distillation import remember
from protege.objectives.distillation.lesson import Lesson, Targets
from protege.objectives.distillation.sequences import Batch, Sequences
from protege.objectives.retention import lesson_of
from protege.spaces import Teacher
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
    """Sequences and the teacher's answers to them."""

    sequences: Sequences
    targets: Targets

    @classmethod
    def of(cls, teacher: Teacher, texts: Sequence[str], max_tokens: int, count: int) -> "Answered":
        """The first so many sequences of the texts."""
        lesson = lesson_of(teacher)
        every = lesson.sequences(teacher, texts, [-100] * len(texts), max_tokens)
        asked = every.first(count)
        return cls(asked, remember(teacher.embedder() or teacher.model, lesson, asked, size=32))

    def to(self, batch: Batch) -> Targets:
        """The teacher's answers to a batch."""
        return {name: tensor[batch.rows] for name, tensor in self.targets.items()}


@dataclass(frozen=True)
class Race:
    """A teacher, the starts, and what they run through.

    Attributes:
        name: Begins the names of its figures.
        lesson: What is taught.
        learnt: To learn from.
        held_out: To be judged on.
        starts: Untrained students by name.
        rates: The learning rates that each start is run at; its best run counts.
        batch_size: Sequences a step.
        steps: How long it is.
        seconds: What our start took, calibration and all.
    """

    name: str
    lesson: Lesson
    learnt: Answered
    held_out: Answered
    starts: Mapping[str, nn.Module]
    rates: Sequence[float]
    batch_size: int
    steps: int
    seconds: float

    def loss(self, module: nn.Module) -> float:
        """The held-out loss, the mean over batches."""
        with torch.inference_mode():
            return mean(
                self.lesson.loss(self.lesson.answer(module, batch), self.held_out.to(batch)).item()
                for batch in self.held_out.sequences.in_order(8)
            )

    def run(self, start: str, goal: float = 0.0) -> "Run":
        """A start's run at its best rate, to the end or to where its loss is at most the goal."""
        tried = [Run(self, deepcopy(self.starts[start]), rate) for rate in self.rates]
        for one in tried:
            one.on(self.steps, goal)
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

    def __init__(self, race: Race, module: nn.Module, rate: float) -> None:
        self.rate = rate
        self.losses = {0: race.loss(module.eval())}
        self.seconds_a_step = 0.0
        self._race, self._module, self._step, self._spent = race, module, 0, 0.0
        self._batches = race.learnt.sequences.shuffled(race.batch_size, seed=0)
        self._optimizer = torch.optim.AdamW(
            module.parameters(), lr=rate, weight_decay=0.01, fused=True
        )

    @property
    def least(self) -> float:
        """The least loss of all."""
        return min(self.losses.values())

    def first_at(self, goal: float) -> int:
        """The first step at which the loss was at most the goal; one past the last, if at none."""
        steps = [step for step, loss in self.losses.items() if loss <= goal]
        return min(steps, default=self._race.steps + 1)

    def on(self, end: int, goal: float = 0.0) -> None:
        """Train on to that step, or until the loss is at most the goal."""
        with Console().status("") as status:
            while self._step < end and self.least > goal:
                begin = time.perf_counter()
                self._learn(next(self._batches))
                self._step += 1
                self._spent += time.perf_counter() - begin
                if self._step in JUDGED_AT or self._step == end:
                    self.losses[self._step] = self._race.loss(self._module)
                status.update(f"{self._race.name}: step {self._step}, at best {self.least:.4g}")
        self.seconds_a_step = self._spent / max(1, self._step)

    def _learn(self, batch: Batch) -> None:
        lesson = self._race.lesson
        for group in self._optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self._step + 1) / WARM_UP)
        lesson.loss(lesson.answer(self._module, batch), self._race.learnt.to(batch)).backward()
        nn.utils.clip_grad_norm_(self._module.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def __str__(self) -> str:
        last = max(self.losses)
        shown = [step for step in (0, 10, 50, 100, 200, 500, last) if step in self.losses]
        losses = ", ".join(f"{self.losses[step]:.4g} at {step}" for step in dict.fromkeys(shown))
        return f"{losses} ({self.seconds_a_step:.2f} s a step)"
