"""A study whose objective misbehaves; run as a script, as a user would run one.

Its one argument is the run folder, where `ARGUMENTS` is a JSON file: ``teacher`` and ``data`` say
where these are, ``deeds`` what happens by a student's key, ``trains`` whether students are trained,
``trials`` how many there are, ``grace_s`` how long they have after SIGTERM, and ``engine`` what a
`LocalEngine` is given.
"""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Lock
from typing import Any

from protege.objectives import (
    Candidate,
    Distillation,
    Measurement,
    Memory,
    Objective,
    Retention,
    Stage,
    Texts,
)
from protege.objectives.measurement import Direction
from protege.search import LocalEngine, Search
from protege.search.running.stopping import GRACE_S, stop_requests
from protege.spaces import BadInput, Choice, Ends, First, Range, SearchSpace, Teacher
from protege.spaces.files.cache import tensor_bytes
from protege.spaces.files.hashing import digest

ARGUMENTS = "given.json"


@dataclass(frozen=True)
class Mischief:
    """An objective over which some students' processes come to grief.

    Attributes:
        folder: Where the arguments are, and every call is noted.
    """

    folder: Path
    name: str = field(default="mischief", init=False)
    unit: str = field(default="", init=False)
    direction: Direction = field(default="minimize", init=False)
    stage: Stage = field(default=Stage.SHAPE, init=False)
    limit: float | None = field(default=None, init=False)

    def measure(self, candidate: Candidate) -> Measurement:
        """The number of layers, if it comes to that."""
        key = candidate.architecture.key()
        told = (self.folder / ARGUMENTS).read_text(encoding="utf-8")
        done(self.folder, key, json.loads(told).get("deeds", {}).get(key, ""))
        return Measurement(float(candidate.architecture.num_hidden_layers))


def calls(folder: Path) -> list[str]:
    """The key of every student whose measurement was begun, in order."""
    path = folder / "calls"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def done(folder: Path, key: str, deed: str) -> None:
    """Note the call, and do what is done every time, or was not done yet."""
    is_first = key not in calls(folder)
    with (folder / "calls").open("a", encoding="utf-8") as file:
        file.write(f"{key}\n")
    if is_first or not deed.endswith(" once"):
        DEEDS[deed.removesuffix(" once")]()


def jump() -> None:
    """From now on the clock on the wall is a day ahead, or decades behind, or right."""
    now, jumps = time.time, cycle([0.0, 86_400.0, -1e9])
    time.time = lambda: now() + next(jumps)


def refuse() -> None:
    """Find that what the user gave cannot be used."""
    raise BadInput("no such thing; give another")


def miss() -> None:
    """Find that something is not installed."""
    raise ModuleNotFoundError("no such module")


class OddError(Exception):
    """An exception that cannot be pickled, and whose message cannot be made."""

    def __init__(self) -> None:
        super().__init__(Lock())

    def __str__(self) -> str:
        raise ValueError("no message")


def raise_oddly() -> None:
    """Raise what cannot be sent or printed."""
    raise OddError


def fill() -> None:
    """Take memory until there is no more of it; a limit keeps others from harm."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + (256 << 20)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    taken: list[bytearray] = []
    try:
        while True:
            taken.append(bytearray(32 << 20))
    finally:
        taken.clear()
        resource.setrlimit(resource.RLIMIT_AS, before)


DEEDS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hangs": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "sleeps": lambda: time.sleep(3600),
    "rests": lambda: time.sleep(0.3),
    "takes all memory": fill,
    "has a clock that jumps": jump,
    "is missing something": miss,
    "cannot be used": refuse,
    "raises oddly": raise_oddly,
}
"""What becomes of a process."""


@dataclass(frozen=True)
class Loads:
    """Part of a study that does something to every process that loads it."""

    folder: Path
    deed: str

    def __reduce__(self) -> tuple[Any, ...]:
        return loaded, (self.folder, self.deed)


def loaded(folder: Path, deed: str) -> Loads:
    """Do what it does, now that it is loaded."""
    done(folder, "loaded", deed)
    return Loads(folder, deed)


def made(run: Path, given: Mapping[str, Any]) -> Search:
    """The search that the arguments describe."""
    space = SearchSpace(layers=Range(0.25, 1.0), intermediate=Choice(0.4, 1.0))
    objectives: list[Objective] = [Memory(), Mischief(run)]
    if "loads" in given:
        object.__setattr__(objectives[0], "loads", Loads(run, given["loads"]))
    distillation = None
    if given.get("trains"):
        brief: dict[str, Any] = {"steps": 9, "batch_size": 8, "max_tokens": 16, "selection": 16}
        texts = Texts.from_file(given["data"])
        distillation = Distillation(texts, learning_rate=1e-2, **brief)
        objectives.append(Retention())
    else:
        space = replace(space, layer_policy=Ends(), width_policy=First(), healing="none")
    teacher = Teacher.load(given["teacher"])
    teacher.model.register_forward_hook(partial(overheard, run / "forwards"), with_kwargs=True)
    return Search(
        "mischief",
        teacher,
        space,
        objectives,
        distillation,
        storage=f"sqlite:///{run}/study.db",
        folder=run / "run",
    )


def overheard(path: Path, _module: Any, _given: Any, named: Mapping[str, Any], _: Any) -> None:
    """Note what the teacher reads, and in which process."""
    read = digest(tensor_bytes(named["input_ids"]))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {read}\n")


def main() -> None:
    """Run it."""
    run = Path(sys.argv[1])
    given = json.loads((run / ARGUMENTS).read_text(encoding="utf-8"))
    if given.get("loads") == "has a clock that jumps":
        jump()  # here, as in its workers
    made(run, given).run(
        given.get("trials", 9),
        engine=LocalEngine(**given.get("engine", {})),
        stop_requests=partial(stop_requests, given.get("grace_s", GRACE_S)),
    )


if __name__ == "__main__":
    main()
