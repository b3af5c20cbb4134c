"""What a run has in its cache is cut short or altered between two runs: it is computed again."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Latency, LocalCPU, Memory, Retention, Workload
from protege.objectives.latency import Plan
from protege.search import Search
from protege.spaces import Teacher
from tests.search.conftest import emptied
from tests.search.toys import distillation, toy

QUICK = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())
KINDS = {"calibration", "latency", "layers", "reference", "streams", "targets", "wiring"}
"""What is cached."""


def made(folder: Path, teacher: Teacher) -> Search:
    latency = Latency(LocalCPU(threads=1), Workload(prompt_tokens=4), plan=QUICK)
    # without a race, which noise of the latencies would decide
    given: dict[str, Any] = {
        "objectives": [Memory(), latency, Retention()],
        "distillation": distillation(steps=3),
    }
    return toy(folder, teacher=teacher, race=None, **given)


@pytest.fixture(scope="module")
def begun(teacher: Teacher) -> Iterator[Path]:
    """The run folder of a study of four trials."""
    with emptied() as folder:
        made(folder, teacher).run(trials=4)
        yield folder


@pytest.fixture(scope="module")
def whole(begun: Path, teacher: Teacher) -> Iterator[list[Any]]:
    """What it finds in two trials more."""
    with emptied() as folder:
        yield found(shutil.copytree(begun, folder / "run"), teacher)


def found(folder: Path, teacher: Teacher) -> list[Any]:
    """What two trials more find, times apart."""
    trials = made(folder, teacher).run(trials=6).trials
    return [(t.number, t.key, t.state, t.rungs, t.measurements["retention"]) for t in trials]


def flipped(content: bytearray, chance: random.Random) -> bytearray:
    """One bit another one."""
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def cut(content: bytearray, _: random.Random) -> bytearray:
    """Its first half alone."""
    return content[: len(content) // 2]


@pytest.mark.parametrize("harm", [flipped, cut])
def test_a_cache_that_was_harmed_changes_nothing_that_is_found(
    begun: Path,
    whole: list[Any],
    folder: Path,
    teacher: Teacher,
    harm: Callable[[bytearray, random.Random], bytearray],
) -> None:
    run = shutil.copytree(begun, folder / "run")
    chance = random.Random(0)
    files = [p for p in sorted((run / "cache").rglob("*")) if p.is_file() and p.stat().st_size]
    assert {str(p.relative_to(run / "cache")).partition("-")[0] for p in files} == KINDS
    for path in files:
        path.write_bytes(harm(bytearray(path.read_bytes()), chance))
    assert found(run, teacher) == whole
