"""The search that a user would write without protege: plain Optuna, torch and transformers.

Every k-th layer, the first channels of every width, a teacher that runs at every step, the mean
of 100 timed calls after 10 warm-ups, the same steps for every trial, and NSGA-II. It imports
nothing of protege. `recipe_compare` writes the task file and runs this module with its path.
"""

import copy
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    get_linear_schedule_with_warmup,
)

WARM_UPS = 10

PROJECTION = "projection.safetensors"
"""File beside a narrow encoder with the linear layer to the teacher's width."""


@dataclass(frozen=True)
class Task:
    """What the recipe gets: the same that protege's study gets.

    Attributes:
        teacher: Folder of the teacher.
        generates: Whether it is a language model; else it is a sentence encoder with mean pooling.
        train: Texts to train on.
        selection: Texts to score on.
        sizes: The values of each size to choose from, by the configuration's names.
        head_dim: Size of an attention head.
        steps: Training steps of every trial.
        batch_size: Sequences of a step.
        learning_rate: Peak learning rate.
        max_tokens: Length to which texts are cut, or packed for a language model.
        blocks: Sequences to score on.
        prompt_tokens: Tokens that a timed call reads.
        new_tokens: Tokens that a timed call generates.
        timed: Number of timed calls.
        seconds: Seconds after which no trial begins.
        seed: Seed of proposals and data order.
        folder: Where students and results are written.
    """

    teacher: str
    generates: bool
    train: list[str]
    selection: list[str]
    sizes: dict[str, list[int]]
    head_dim: int
    steps: int
    batch_size: int
    learning_rate: float
    max_tokens: int
    blocks: int
    prompt_tokens: int
    new_tokens: int
    timed: int
    seconds: float
    seed: int
    folder: str


class Encoder(nn.Module):
    """A model with mean pooling, and for a narrow student a linear layer to the teacher's width."""

    def __init__(self, model: Any, width: int) -> None:
        super().__init__()
        self.model, own = model, model.config.hidden_size
        self.up = nn.Linear(own, width, bias=False) if own != width else None
        if self.up is not None:
            nn.init.eye_(self.up.weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return functional.normalize(pooled if self.up is None else self.up(pooled), dim=-1)


def cut(teacher: Any, sizes: dict[str, int], head_dim: int) -> Any:
    """Build a student: every k-th layer, and the first entries of every dimension."""
    config = copy.deepcopy(teacher.config)
    for name, size in sizes.items():
        setattr(config, name, size)
    if "num_key_value_heads" in sizes:
        groups = teacher.config.num_attention_heads // teacher.config.num_key_value_heads
        config.num_attention_heads = groups * sizes["num_key_value_heads"]
        config.head_dim = head_dim
    else:
        config.num_attention_heads = config.hidden_size // head_dim
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[: config.num_hidden_layers]
    student = type(teacher)(config)
    whole, kept = teacher.config.num_hidden_layers, config.num_hidden_layers
    known = teacher.state_dict()
    with torch.no_grad():
        for name, own in student.state_dict().items():
            parts = name.split(".")
            for at, part in enumerate(parts):
                if part.isdigit():  # the layer's number is the only number in a name
                    parts[at] = str(int(int(part) * whole / kept))
            own.copy_(known[".".join(parts)][tuple(slice(size) for size in own.shape)])
    return student


class Recipe:
    """The search: one Optuna objective, with the teacher in memory."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.tokenizer = AutoTokenizer.from_pretrained(task.teacher)
        kind = AutoModelForCausalLM if task.generates else AutoModel
        self.teacher = kind.from_pretrained(task.teacher, dtype=torch.float32).eval()
        self.teaching = self.wrapped(self.teacher)
        self.train, self.selection = self.read(task.train), self.read(task.selection)[: task.blocks]

    def wrapped(self, model: Any) -> Any:
        """Return what is trained and scored: a language model itself, or the encoder."""
        return model if self.task.generates else Encoder(model, self.teacher.config.hidden_size)

    def read(self, texts: list[str]) -> list[Any]:
        """Return texts to be tokenised, or for a language model packed blocks of tokens."""
        if not self.task.generates:
            return list(texts)
        size, end = self.task.max_tokens, [self.tokenizer.eos_token_id]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        stream = torch.tensor([token for one in ids for token in (*one, *end)])
        return [*stream[: len(stream) // size * size].view(-1, size)]

    def batch(self, examples: list[Any]) -> dict[str, Tensor]:
        """Return the inputs of a batch."""
        if self.task.generates:
            ids = torch.stack(examples)
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        most = self.task.max_tokens
        found = self.tokenizer(
            examples, padding=True, truncation=True, max_length=most, return_tensors="pt"
        )
        return {name: found[name] for name in ("input_ids", "attention_mask")}

    def loss(self, student: Any, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss against the teacher, which reads the batch once more."""
        with torch.no_grad():
            wanted = self.teaching(**batch)
        found = student(**batch)
        if not self.task.generates:
            cosine: Tensor = (found * wanted).sum(-1).mean()
            return 1 - cosine
        logs = found.logits.log_softmax(-1).flatten(0, 1)
        aim = wanted.logits.log_softmax(-1).flatten(0, 1)
        return functional.kl_div(logs, aim, log_target=True, reduction="batchmean")

    def distil(self, student: Any) -> None:
        """Train a student for the fixed number of steps."""
        task, chance = self.task, torch.Generator().manual_seed(self.task.seed)
        optimizer = torch.optim.AdamW(student.parameters(), lr=task.learning_rate)
        schedule = get_linear_schedule_with_warmup(optimizer, task.steps // 10, task.steps)
        student.train()
        for _ in range(task.steps):
            drawn = torch.randint(len(self.train), (task.batch_size,), generator=chance)
            loss = self.loss(student, self.batch([self.train[at] for at in drawn.tolist()]))
            loss.backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        student.eval()

    @torch.no_grad()
    def quality(self, student: Any) -> float:
        """Return the mean cosine to the teacher, or its perplexity over the student's."""
        found = list[Tensor]()
        for begin in range(0, len(self.selection), 32):
            batch = self.batch(self.selection[begin : begin + 32])
            if not self.task.generates:
                found.append((student(**batch) * self.teaching(**batch)).sum(-1))
                continue
            labels, losses = batch["input_ids"][:, 1:], []
            for model in (student, self.teaching):
                logits = model(**batch).logits[:, :-1].transpose(1, 2)
                losses.append(functional.cross_entropy(logits, labels, reduction="none"))
            found.append((losses[1] - losses[0]).mean(1))
        mean = torch.cat(found).mean()
        return float(mean.exp() if self.task.generates else mean)

    @torch.no_grad()
    def latency_ms(self, model: Any) -> float:
        """Return the mean of the timed calls with one thread, after the warm-ups."""
        task, threads = self.task, torch.get_num_threads()
        ids = torch.randint(1000, (1, task.prompt_tokens))
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        new: dict[str, Any] = {"max_new_tokens": task.new_tokens, "min_new_tokens": task.new_tokens}
        torch.set_num_threads(1)
        begin = 0.0
        for call in range(WARM_UPS + task.timed):
            if call == WARM_UPS:
                begin = time.perf_counter()
            if task.new_tokens:
                model.generate(**given, **new, do_sample=False)
            else:
                model(**given)
        spent = time.perf_counter() - begin
        torch.set_num_threads(threads)
        return 1000 * spent / task.timed

    def save(self, student: Any, folder: Path) -> None:
        """Write a student in a layout that its loader knows: an encoder's projection beside it."""
        model = student if self.task.generates else student.model
        model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if not self.task.generates and student.up is not None:
            save_file({"weight": student.up.weight.detach()}, folder / PROJECTION)

    def objective(self, trial: optuna.Trial) -> tuple[float, float]:
        """Build, train and measure the student that a trial proposes."""
        sizes = {
            name: int(trial.suggest_categorical(name, values))
            for name, values in self.task.sizes.items()
        }
        torch.manual_seed(self.task.seed)
        student = self.wrapped(cut(self.teacher, sizes, self.task.head_dim))
        self.distil(student)
        latency_ms = self.latency_ms(student if self.task.generates else student.model)
        found = latency_ms, self.quality(student)
        self.save(student, Path(self.task.folder) / f"student-{trial.number}")
        return found


def run(task: Task) -> None:
    """Search for the seconds of the task; write after each trial what is known."""
    ends, recipe = time.time() + task.seconds, Recipe(task)
    teacher = recipe.teacher
    about: dict[str, Any] = {"teacher_ms": recipe.latency_ms(teacher), "trials": []}
    sampler = optuna.samplers.NSGAIISampler(seed=task.seed)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    while time.time() < ends:
        study.optimize(recipe.objective, n_trials=1)
        last = study.trials[-1]
        row = {"number": last.number, "at": time.time(), "sizes": last.params}
        about["trials"].append(row | dict(zip(("ms", "quality"), last.values, strict=True)))
        (Path(task.folder) / "trials.json").write_text(json.dumps(about), encoding="utf-8")


if __name__ == "__main__":
    run(Task(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
