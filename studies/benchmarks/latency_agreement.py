"""Compare a student's latency in a study with that of its export under ``protege measure``."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from protege.objectives import Candidate
from protege.objectives.candidate import Prepared
from protege.objectives.latency import Latency, LocalCPU, Plan, SavedModel, Workload, compare
from protege.spaces import Cache
from studies.benchmarks.figures import Figure
from studies.benchmarks.start_encoder import minilm

WORKLOAD = Workload(batch_size=1, prompt_tokens=64)
RATIOS: tuple[dict[str, Any], ...] = (
    {"layers": 1 / 2},
    {"layers": 2 / 3, "intermediate": 1 / 2},
    {"intermediate": 1 / 4},
)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the relative difference between the two ratios to the teacher."""
    teacher, apart = minilm(), list[float]()
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        teacher.student(teacher.architecture).save(place / "teacher")
        for number, ratios in enumerate(RATIOS[: 1 if quick else None]):
            shared = Prepared(teacher, Cache(place / "cache"))
            candidate = Candidate(shared, teacher.architecture.scaled(**ratios)).built()
            study = Latency(LocalCPU(), WORKLOAD).measure(candidate)
            candidate.student.save(place / f"{number}")
            models = [SavedModel.at(place / "teacher"), SavedModel.at(place / f"{number}")]
            _, measured = compare(models, WORKLOAD, LocalCPU(), Plan())
            apart.append(abs(measured.ratio / float(study.details["ratio_to_teacher"]) - 1))
    bar = "at most 0.03; random weights against the student's own"
    yield Figure("study against measure", max(apart), min(apart), max(apart), "", bar)
