"""Protege's side of the comparison with the recipe, and what the recipe gets from it.

`recipe_compare` runs this module with model, folder, seed, minutes, and ``whole`` or ``quick``.
"""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from protege.objectives import Latency, LocalCPU, Retention, Workload
from protege.search import Search
from protege.search.session.session import claimed_folder, prepared_for
from studies.benchmarks.recipe import Task

SIZES = ("num_hidden_layers", "hidden_size", "intermediate_size", "num_key_value_heads")

MANY = 10_000
"""More trials than fit into the time."""


@dataclass(frozen=True)
class Model:
    """A demo whose teacher both search students of.

    Attributes:
        declared: Returns the demo's study.
        call: The call that is timed.
        generates: Whether it is a language model.
    """

    declared: Callable[[], Search]
    call: Workload
    generates: bool


def _minilm() -> Search:
    from studies import minilm_cpu

    return minilm_cpu.search


def _smollm2() -> Search:
    from studies import smollm2_cpu

    return smollm2_cpu.study()


MODELS = {
    "minilm": Model(_minilm, Workload(batch_size=1, prompt_tokens=128), generates=False),
    "smollm2": Model(
        _smollm2, Workload(batch_size=1, prompt_tokens=128, new_tokens=32), generates=True
    ),
}


def declared(name: str, folder: Path, seed: int) -> Search:
    """Return the demo's study with latency and retention as its only objectives."""
    model = MODELS[name]
    return replace(
        model.declared(),
        name=f"recipe-{name}",
        objectives=[Latency(LocalCPU(threads=1), model.call), Retention()],
        folder=folder,
        seed=seed,
    )


def task(name: str, folder: Path, seed: int, seconds: float) -> Task:
    """Return the same teacher, texts, sizes and call for the recipe, and write the teacher."""
    search = declared(name, folder / "data", seed)
    settings, teacher = search.distillation, search.teacher
    assert settings
    claimed_folder(search)
    data = prepared_for(search).data
    place = folder / "teacher"
    teacher.model.save_pretrained(place)
    teacher.tokenizer.save_pretrained(place)
    model, own = MODELS[name], teacher.architecture
    return Task(
        teacher=str(place),
        generates=model.generates,
        train=[str(one.content) for one in data.examples_of(data.learnt)],
        selection=[str(one.content) for one in data.examples_of(data.selected)],
        sizes=_sizes(search, grouped=own.num_key_value_heads != own.num_attention_heads),
        head_dim=own.head_dim,
        steps=settings.steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        max_tokens=settings.max_tokens,
        blocks=settings.selection,
        prompt_tokens=model.call.prompt_tokens,
        new_tokens=model.call.new_tokens,
        timed=100,
        seconds=seconds,
        seed=seed,
        folder=str(folder),
    )


def _sizes(search: Search, *, grouped: bool) -> dict[str, list[int]]:
    """Return the values of each size in the space, except those of the naive half alone."""
    members = list(search.students)
    found = {}
    for name in SIZES if grouped else SIZES[:-1]:
        counts = Counter(getattr(one, name) for one in members)
        found[name] = sorted(value for value, times in counts.items() if times > 1)
    return found


def main(name: str, folder: str, seed: str, minutes: str, size: str) -> None:
    """Run the search for some minutes."""
    search = declared(name, Path(folder) / "run", int(seed))
    if size == "quick" and search.distillation:
        search = replace(search, distillation=replace(search.distillation, steps=4))
    search.run(trials=MANY, minutes=float(minutes))


if __name__ == "__main__":
    main(*sys.argv[1:])
