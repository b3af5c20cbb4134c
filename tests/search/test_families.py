"""A search runs from the first trial to the exported student whatever kind of model it is about."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protege.objectives import (
    Distillation,
    Example,
    Examples,
    Images,
    Latency,
    LocalCPU,
    Memory,
    Parameters,
    Retention,
    Texts,
    Workload,
)
from protege.objectives.data import Picture
from protege.objectives.distillation.tasks.choice import distillation_task
from protege.objectives.latency import Plan
from protege.search import Search, State
from protege.search.handover.plan import TrainingPlan
from protege.spaces import Choice, First, Range, SearchSpace, Teacher
from tests.tiny import ZOO, save, texts

BRIEF = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


def slow(*given: Any) -> Any:
    """A kind of model that is left to the full set of tests."""
    return pytest.param(*given, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "ratios"),
    [
        ("t5-text2text-generation", {"decoder_layers": Range(0.3, 1.0), "vocab": Choice(0.5, 1.0)}),
        slow(
            "vit-image-classification",
            {"layers": Range(0.25, 1.0), "heads": Choice(0.5, 1.0)},
        ),
        slow(
            "mixtral-text-generation",
            {"experts": Range(0.4, 1.0), "moe_intermediate": Choice(0.5, 1.0)},
        ),
        slow(
            "whisper-automatic-speech-recognition",
            {"layers": Choice(0.5, 1.0), "intermediate": Choice(0.4, 1.0)},
        ),
        slow(
            "deberta-v2-question-answering",
            {"layers": Range(0.25, 1.0), "vocab": Choice(0.5, 1.0)},
        ),
    ],
)
def test_a_student_of_any_kind_is_found_told_of_and_exported(
    name: str, ratios: dict[str, Any], tmp_path: Path
) -> None:
    teacher = Teacher.load(save(ZOO[name].teacher(), tmp_path / "teacher"), task=ZOO[name].task)
    workload = Workload(1, 8, new_tokens=2 if teacher.generates else 0)
    search = Search(
        name="kinds",
        teacher=teacher,
        space=SearchSpace(**ratios, width_policy=First()),
        objectives=[Parameters(), Memory(workload), Latency(LocalCPU(), workload, plan=BRIEF)],
        folder=tmp_path / "run",
    )
    front = search.run(trials=4)
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    assert front.report().exists()
    best = front.members[0]
    loaded = Teacher.load(front.export(best, tmp_path / "out"), task=teacher.task)
    assert loaded.architecture.sizes().items() <= dict(best.architecture).items()
    assert loaded.model.num_parameters() / 1e6 == best.measurements["parameters_m"].value


def answered(_: Teacher) -> Examples:
    """Texts, each with another to be written for it."""
    given = texts(60)
    return Texts.of(given, given[::-1])


def in_words(teacher: Teacher) -> Examples:
    """Texts in words, each word with the class that the teacher gives it, but for every fourth."""
    given, labels = [text.split() for text in texts(60)], []
    for words in given:
        read = teacher.tokenizer(words, is_split_into_words=True, return_tensors="pt")
        with torch.inference_mode():
            said = teacher.model(**read).logits[0, 1:-1].argmax(-1).tolist()
        labels.append(tuple((one + (at % 4 == 3)) % 3 for at, one in enumerate(said)))
    return Texts.of(given, labels)


def drawn(teacher: Teacher) -> Examples:
    """Images of noise, each with the class that the teacher gives it, but for every fourth."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 14, 14), dtype=np.uint8)
    examples = [Example(Picture.of(one)) for one in pixels]
    task = distillation_task(teacher)
    with torch.inference_mode():
        asked = task.inputs(teacher, examples, 16).batch(range(60))
        said = task.answer(teacher.model, asked).argmax(-1).tolist()
    return Images.of(pixels, [(one + (at % 4 == 3)) % 3 for at, one in enumerate(said)])


@pytest.mark.parametrize(
    ("name", "data", "ratios"),
    [
        slow(
            "t5-text2text-generation",
            answered,
            {"decoder_layers": Range(0.3, 1.0), "vocab": Choice(0.6, 1.0)},
        ),
        slow(
            "bart-text2text-generation",
            answered,
            {"layers": Range(0.25, 1.0), "heads": Choice(0.5, 1.0)},
        ),
        slow(
            "vit-image-classification",
            drawn,
            {"layers": Range(0.25, 1.0), "intermediate": Choice(0.4, 1.0)},
        ),
        ("bert-tokens", in_words, {"layers": Range(0.25, 1.0), "vocab": Choice(0.6, 1.0)}),
    ],
)
def test_students_of_any_task_are_calibrated_healed_taught_and_confirmed(
    name: str, data: Callable[[Teacher], Examples], ratios: dict[str, Any], tmp_path: Path
) -> None:
    teacher = Teacher.load(save(ZOO[name].teacher(), tmp_path / "teacher"), task=ZOO[name].task)
    brief: dict[str, Any] = {
        "steps": 6,
        "batch_size": 8,
        "max_tokens": 16,
        "selection": 15,
        "held_out": 15,
    }
    search = Search(
        name="tasks",
        teacher=teacher,
        space=SearchSpace(hidden=Choice(0.5, 1.0), **ratios),
        objectives=[Parameters(), Retention()],
        distillation=Distillation(data(teacher), **brief),
        folder=tmp_path / "run",
    )
    front = search.run(trials=4)
    assert {trial.state for trial in front.trials} <= {State.COMPLETE, State.STOPPED}
    assert any(trial.architecture["hidden_size"] < 24 for trial in front.trials)
    smallest = min(front.members, key=lambda trial: trial.measurements["parameters_m"].value)
    again = search.confirm(front.export(smallest, tmp_path / "out"))
    assert again["retention"] == pytest.approx(smallest.measurements["retention"].value, rel=1e-6)
    assert "unseen_retention" in again
    plan = TrainingPlan(epochs=2, batch_size=8, held_out=15)
    trained = front.train(smallest, folder=tmp_path / "trained", plan=plan)
    record = json.loads((trained / "protege.json").read_text(encoding="utf-8"))["trained"]
    assert record["steps"] > 0
    assert record["after"]["retention"][0] >= record["before"]["retention"][0]
    assert Teacher.load(trained, task=teacher.task).max_tokens == teacher.max_tokens
