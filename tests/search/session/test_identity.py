"""What identifies a study: all that was declared, limits apart, in words that stay the same."""

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import (
    Candidate,
    Direction,
    HiddenMSE,
    Latency,
    LocalCPU,
    Measurement,
    Memory,
    Parameters,
    PeakMemory,
    Progressive,
    Retention,
    Stage,
    Texts,
    VectorCosine,
    Workload,
)
from protege.search import Front, Search, State
from protege.search.session.identity import differences, document, identify, identity
from protege.search.storage.attributes import IDENTITY, study_record
from protege.spaces import Activation, Choice, First, Greedy, Mismatch, Range, SearchSpace, Teacher
from tests.search.toys import PLAIN, WIDE, distillation, opened, toy

STORED = Path(__file__).with_name("identity.json")
"""The identity of `declared`. If a change of the library alters it, raise `VERSION`."""

TEXTS = Texts.of(["one two", "three four", "five"])


@dataclass(frozen=True)
class Judged:
    """An objective of somebody's own, with values of every kind."""

    metric: Callable[..., float]
    words: frozenset[str] = frozenset()
    folder: Path = Path("data")
    weights: dict[str, tuple[float, ...]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list, compare=False)
    limit: float | None = None

    name: str = field(default="judged", init=False)
    unit: str = field(default="", init=False)
    direction: Direction = field(default="maximize", init=False)
    stage: Stage = field(default=Stage.STUDENT, init=False)

    def measure(self, candidate: Candidate) -> Measurement:
        return Measurement(float(candidate.student.nbytes))


def declared(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    """A study in whose declaration there is much."""
    given: dict[str, Any] = {
        "seed": 3,
        "space": SearchSpace(
            layers=Range(0.25, 1.0),
            hidden=Choice(0.5, 1.0),
            intermediate=0.6,
            multiple_of=4,
            layer_policy=Greedy(),
            width_policy=Choice(First(), Activation(heads_by="ablation")),
        ),
        "distillation": distillation(
            data=TEXTS,
            losses=(VectorCosine(2.0),),
            rungs=(0.0, 0.5),
            progressive=Progressive(until=0.4),
        ),
        "objectives": [
            Memory(Workload(prompt_tokens=8), precision="int8", limit=3.0, label="int8"),
            Latency(LocalCPU(), Workload(prompt_tokens=8), limit=20.0),
            PeakMemory(LocalCPU(), Workload(prompt_tokens=8)),
            Retention(),
            Retention(Texts.of(["six", "seven"]), limit=0.5, label="mine"),
            Judged(
                statistics.mean,
                words=frozenset({"b", "a"}),
                folder=Path("data/test"),
                weights={"a": (1.0, 2.0)},
                told=["nothing of this"],
            ),
        ],
    }
    return toy(folder, teacher=teacher, **(given | changes))


VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (3, 3),
    (0.25, 0.25),
    ("text", "text"),
    (Stage.STUDENT, 2),
    (State.COMPLETE, "complete"),
    ((1, [2.0, None]), [1, [2.0, None]]),
    ({"a": (1,), 2: First()}, {"a": [1], "2": {"kind": "First"}}),
    ({"b", "a", "c"}, ["a", "b", "c"]),
    (Path("a") / "b", "a/b"),
    (statistics.mean, "statistics.mean"),
    (statistics.NormalDist, "statistics.NormalDist"),
    (statistics.NormalDist(), "statistics.NormalDist"),
    (Memory(), {"kind": "Memory"}),
    (
        Memory(Workload(2), "int8"),
        {"kind": "Memory", "workload": {"kind": "Workload", "batch_size": 2}, "precision": "int8"},
    ),
    (TEXTS, {"kind": "Texts", "fingerprint": TEXTS.fingerprint}),
    (Retention(TEXTS), {"kind": "Retention", "data": document(TEXTS)}),
    (HiddenMSE(), {"kind": "HiddenMSE"}),
]


@pytest.mark.parametrize(("value", "found"), VALUES, ids=map(str, range(len(VALUES))))
def test_every_kind_of_value_has_a_document(value: Any, found: Any) -> None:
    assert document(value) == found
    assert json.loads(json.dumps(document(value))) == found


def test_the_document_of_a_declaration_is_the_stored_one(folder: Path, teacher: Teacher) -> None:
    found, stored = identity(declared(folder, teacher)), json.loads(STORED.read_bytes())
    assert found.pop("teacher") == teacher.fingerprint
    assert json.loads(json.dumps(found)) == stored


def settings(name: str, *fields: tuple[Any, ...]) -> Any:
    """An instance of a class of that name whose only given value is ``steps``."""
    return make_dataclass(name, [("steps", int), *fields], frozen=True)(9)


def test_a_new_field_with_a_default_changes_nothing() -> None:
    before = document(settings("Settings"))
    grown = settings(
        "Settings",
        ("rate", float, 0.5),
        ("names", dict[str, int], field(default_factory=dict)),
        ("policy", Any, Greedy()),
        ("found", list[str], field(default_factory=list, init=False)),
        ("cache", Any, field(default=None, compare=False)),
    )
    assert document(grown) == before == {"kind": "Settings", "steps": 9}
    assert document(replace(grown, rate=0.25)) == before | {"rate": 0.25}
    assert document(settings("Others")) != before


LIMITED = [
    Memory(),
    Parameters(),
    Latency(LocalCPU(), Workload(prompt_tokens=8)),
    PeakMemory(LocalCPU(), Workload(prompt_tokens=8)),
    Retention(),
    Judged(statistics.mean),
]


@pytest.mark.parametrize("objective", LIMITED, ids=lambda one: one.name)
def test_a_limit_is_no_part_of_it(objective: Any) -> None:
    assert document(replace(objective, limit=1.0)) == document(objective)


def test_each_difference_is_told_by_its_path() -> None:
    recorded = {"seed": 0, "space": {"layers": {"low": 0.5}, "hidden": [1]}, "distillation": None}
    given = {"seed": 0, "space": {"layers": {"low": 0.25}, "heads": 0.5}, "distillation": {"a": 1}}
    assert differences(recorded, recorded) == []
    assert differences(recorded, given) == [
        "space.layers.low: recorded 0.5, given 0.25",
        "space.hidden: recorded [1], given nothing",
        "space.heads: recorded nothing, given 0.5",
        "distillation: recorded nothing, given {'a': 1}",
    ]


@pytest.mark.parametrize("part", ["teacher", "seed", "space", "distillation", "objectives"])
def test_a_study_is_gone_on_with_only_as_what_it_is(storage: str, part: str) -> None:
    study = opened(storage).optuna_study
    own = {"teacher": "a", "seed": 0, "space": {"layers": (0.5, 1.0)}} | {
        "distillation": {"steps": 2},
        "objectives": {"memory_mb": {"kind": "Memory"}},
    }
    identify(study, own)
    identify(study, own)
    message = f"^study 'toy' was made otherwise: {part}: recorded .*, given 'other'; give the study"
    with pytest.raises(Mismatch, match=message):
        identify(study, own | {part: "other"})
    assert study_record(study, IDENTITY) == json.loads(json.dumps(own))


LIMITS: list[Any] = [
    (0.07, 0.05),
    pytest.param(0.05, 0.07, marks=pytest.mark.slow),
    pytest.param(None, 0.06, marks=pytest.mark.slow),
    (0.06, None),
]


@dataclass(frozen=True)
class Depth:
    """Counts layers; more are better."""

    name: str = "depth"
    unit: str = ""
    direction: Direction = "maximize"
    stage: Stage = Stage.SHAPE
    limit: float | None = None

    def measure(self, candidate: Candidate) -> Measurement:
        return Measurement(float(candidate.architecture.num_hidden_layers))


@pytest.mark.parametrize(("first", "then"), LIMITS)
def test_a_study_goes_on_with_a_tighter_or_looser_limit(
    folder: Path, teacher: Teacher, first: float | None, then: float | None
) -> None:
    plain: dict[str, Any] = {
        "layer_policy": PLAIN.layer_policy,
        "width_policy": First(),
        "healing": "none",
    }
    given: dict[str, Any] = {"teacher": teacher, "space": replace(WIDE, **plain)}
    before = toy(folder, objectives=[Memory(limit=first), Depth()], **given).run(trials=9)
    front = toy(folder, objectives=[Memory(limit=then), Depth()], **given).run(trials=14)
    assert front.trials[:9] == before.trials
    assert len({trial.key for trial in front.trials}) == 14
    assert front.objectives.records[0].limit == then
    assert Front.read(folder).members == front.members != before.members
    complete = [trial for trial in front.trials if trial.state is State.COMPLETE]
    for trial in complete:
        within = then is None or trial.measurements["memory_mb"].value <= then
        assert front.objectives.feasible(trial) == within
    assert all(front.objectives.feasible(trial) for trial in front.members)


def test_of_a_stricter_limit_on_what_training_tells_the_front_is_what_meets_it(
    folder: Path, teacher: Teacher
) -> None:
    before = toy(folder, teacher=teacher, race=None).run(trials=6)
    values = sorted(trial.measurements["retention"].value for trial in before.trials)
    strict = [Memory(), Retention(limit=values[3])]
    front = toy(folder, teacher=teacher, race=None, objectives=strict).run(trials=6)
    assert front.trials == before.trials
    assert min(one.measurements["retention"].value for one in before.members) < values[3]
    assert min(one.measurements["retention"].value for one in front.members) >= values[3]
