"""A search runs from the first trial to the exported student whatever kind of model it is about."""

from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Latency, LocalCPU, Memory, Parameters, Workload
from protege.objectives.latency import Plan
from protege.search import Search, State
from protege.spaces import First, SearchSpace, Teacher
from tests.tiny import ZOO, save

BRIEF = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


@pytest.mark.parametrize(
    ("name", "ratios"),
    [
        ("t5-text2text-generation", {"decoder_layers": (0.3, 1.0), "vocab": [0.5, 1.0]}),
        ("vit-image-classification", {"layers": (0.25, 1.0), "heads": [0.5, 1.0]}),
        ("mixtral-text-generation", {"experts": (0.4, 1.0), "moe_intermediate": [0.5, 1.0]}),
        ("whisper-automatic-speech-recognition", {"layers": [0.5, 1.0], "intermediate": [0.4, 1]}),
        ("deberta-v2-question-answering", {"layers": (0.25, 1.0), "vocab": [0.5, 1.0]}),
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
        storage=f"sqlite:///{tmp_path / 'run' / 'study.db'}",
    )
    front = search.run(trials=4)
    assert {trial.state for trial in front.trials} == {State.COMPLETE}
    assert front.report().exists()
    best = front.members[0]
    loaded = Teacher.load(front.export(best, tmp_path / "out"), task=teacher.task)
    assert loaded.architecture.sizes().items() <= dict(best.architecture).items()
    assert loaded.model.num_parameters() / 1e6 == best.measurements["parameters_m"].value
