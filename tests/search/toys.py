"""Studies so small that one runs in a second, and trials that need no model at all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from protege.objectives import Distillation, Measurement, Memory, Retention, Stage, Texts
from protege.search import Search, State, Trial
from protege.search.engines.engine import Engine
from protege.search.engines.local import SerialEngine
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.running.coordinator import Coordinator
from protege.search.session.session import Session
from protege.search.study.study import StoredStudy, open_study
from protege.spaces import Architecture, Choice, Ends, First, Range, SearchSpace, Teacher
from tests.tiny import CASES, texts

OWN = Architecture(
    model_type="bert",
    num_hidden_layers=4,
    hidden_size=24,
    num_attention_heads=6,
    num_key_value_heads=6,
    head_dim=4,
    intermediate_size=40,
    vocab_size=96,
)
"""The sizes of the tiny teachers."""

WIDE = SearchSpace(
    layers=Range(0.25, 1.0),
    hidden=Choice(1 / 3, 2 / 3, 1.0),
    intermediate=Choice(0.2, 0.4, 0.6, 0.8, 1.0),
    multiple_of=4,
)
"""Sixty-one students."""

NARROW = SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 1.0))
"""Nine students: the teacher, the naive half and seven more."""

PLAIN = replace(NARROW, layer_policy=Ends(), width_policy=First(), healing="none")
"""The same without a look at data, for studies that have none."""

OBJECTIVES = ObjectiveRecords(
    (
        ObjectiveRecord("size", "", "minimize"),
        ObjectiveRecord("quality", "", "maximize"),
    )
)


def record(number: int, values: Iterable[float], state: State = State.COMPLETE) -> Trial:
    """A trial of unnamed objectives ``g0 g1 ...`` with these values."""
    found = {f"g{index}": Measurement(float(value)) for index, value in enumerate(values)}
    return Trial(number, f"key-{number}", OWN.fields(), state, found)


def worth(number: int, architecture: Architecture) -> Trial:
    """A trial of `OBJECTIVES` whose values follow from the sizes: depth and width pay unevenly."""
    layers, width = architecture.num_hidden_layers, architecture.hidden_size
    size = layers * width * (width + architecture.intermediate_size)
    quality = layers**0.3 * width**0.5 + 0.02 * architecture.intermediate_size
    found = {"size": Measurement(float(size)), "quality": Measurement(quality)}
    return Trial(number, architecture.key(), architecture.fields(), State.COMPLETE, found)


SPACE = WIDE.of(OWN)


def opened(
    storage: str,
    space: SearchSpace = SPACE,
    objectives: ObjectiveRecords = OBJECTIVES,
    **options: Any,
) -> StoredStudy:
    """The study there, as a process that starts finds it."""
    optuna_study = open_study(storage, "toy", objectives)
    study = StoredStudy.open(optuna_study, space, objectives, **({"seed": 0} | options))
    study.catch_up()
    return study


def go_on(study: StoredStudy, trials: int) -> list[Trial]:
    """Ask and tell so many more trials, or until there is none left."""
    told: list[Trial] = []
    while len(told) < trials and not study.exhausted:
        trial = worth(*study.ask())
        study.tell(trial)
        told.append(trial)
    return told


def keys(trials: list[Trial]) -> list[str]:
    return [trial.key for trial in trials]


def distillation(**changes: Any) -> Distillation:
    """Two steps on forty texts, unless changes say otherwise."""
    given: dict[str, Any] = {
        "data": Texts.of(texts()),
        "steps": 2,
        "batch_size": 8,
        "selection": 16,
    }
    return Distillation(**(given | {"learning_rate": 1e-2, "max_tokens": 16} | changes))


def toy(folder: Path, /, **changes: Any) -> Search:
    """A search in that folder, of students of a tiny sentence encoder unless changes say so."""
    given: dict[str, Any] = {
        "name": "toy",
        "space": NARROW,
        "objectives": [Memory(), Retention()],
        "storage": f"sqlite:///{folder}/study.db",
        "folder": folder,
    }
    given |= {"teacher": teacher()} | changes
    if any(one.stage is Stage.STUDENT for one in given["objectives"]):
        given.setdefault("distillation", distillation())
    return Search(**given)


@contextmanager
def coordinated(
    search: Search,
    announce: Callable[[str], None] = lambda _: None,
    engine: Engine | None = None,
) -> Iterator[Coordinator]:
    """The coordinator of a search, which works in this process and tells of every phase."""
    session = Session(search, engine or SerialEngine())
    session.prepared.stopwatch.announce = announce
    with session.coordinated() as coordinator:
        yield coordinator


@contextmanager
def forwards() -> Iterator[list[nn.Module]]:
    """Every call of a whole language or sentence model inside the block."""
    calls: list[nn.Module] = []

    def note(module: nn.Module, _inputs: Any) -> None:
        if type(module).__name__ == "BertModel":
            calls.append(module)

    handle = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield calls
    finally:
        handle.remove()


def teacher(kind: str = "bert-sentences", seed: int = 0) -> Teacher:
    """A tiny teacher; of one kind and seed always the same weights."""
    return CASES[kind].teacher(seed)
