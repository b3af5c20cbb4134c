"""A training in processes that accelerate starts, followed from the process that asked for it.

They are told everything at once, in a file, and go on from halt to halt without waiting: where they
stand at each is a file too. Whoever asked looks at one while they are on their way to the next, and
ends them when it has seen enough. A lock that it holds tells them that it is there.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from protege.objectives.distillation.sharding import configuration
from protege.objectives.parcel import hand_over
from protege.spaces import ProtegeError
from protege.spaces.files.cache import read_tensors
from protege.spaces.files.locks import locked

if TYPE_CHECKING:
    from protege.objectives.distillation.training import Training

TOLD, SAYS, ERROR, ALIVE = "training.pt", "says", "error", "alive"
"""Files of the folder that the processes share: the task, the step they are at, why they gave up,
and the lock of the one that asked."""

POLL_S = 0.1
ENDING_S = 10.0
"""They may take so long to end when they are told to."""

Process = subprocess.Popen[bytes]


def halt(folder: Path, step: int) -> Path:
    """Where a training stands after so many steps."""
    return folder / f"{step}.safetensors"


def launched(training: "Training", stops: Sequence[int]) -> Iterator[int]:
    """Train as `Training.run` does, in as many processes as its configuration asks for.

    Raises:
        BadInput: The training cannot be sent to another process.
        DiskFull: There is no room for it where temporary files are.
        ProtegeError: They gave up, or ended otherwise than they should.
    """
    with TemporaryDirectory(prefix="protege-") as name:
        folder = Path(name)
        with locked(folder / ALIVE):
            _tell(training, stops, folder)
            with _processes(str(training.settings.accelerate), folder) as process:
                for stop in stops:
                    _await(process, training, halt(folder, stop))
                    training.recall(read_tensors(halt(folder, stop), "") or {})
                    halt(folder, stop).unlink()
                    yield stop


def _tell(training: "Training", stops: Sequence[int], folder: Path) -> None:
    settings = replace(training.settings, accelerate=None)
    # the teacher has answered, and may be larger than all there is room for
    changed: dict[str, Any] = {"settings": settings, "teacher": None, "announce": print}
    told = replace(training, **changed)
    advice = "give losses that are made without open files, locks and connections, or leave out "
    hand_over((told, [*stops]), folder / TOLD, "the training", advice + "accelerate")


@contextmanager
def _processes(path: str, folder: Path) -> Iterator[Process]:
    """Them, under the launcher that accelerate has; ended with the block."""
    on_cpu = {"ACCELERATE_USE_CPU": "true"} if configuration(path).use_cpu else {}
    modules = os.pathsep.join(filter(None, sys.path))
    command = ["accelerate.commands.launch", "--config_file", str(Path(path).expanduser())]
    # a free port: another training may be under way
    command += ["--main_process_port", "0", "-m", "protege.objectives.distillation.rank"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, str(folder)],
            env=os.environ | on_cpu | {"PYTHONPATH": modules, "PYTHONSAFEPATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for the study, which ends them in order
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(ENDING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: Process, training: "Training", there: Path) -> None:
    """Wait until a file is there, and tell on the way what they say."""
    folder, said = there.parent, ""
    while True:
        # in this order, so that nothing they did on the way is overlooked
        ended, reached, says = process.poll() is not None, there.exists(), _text(folder / SAYS)
        if says != said:
            training.announce(says)
            said = says
        if reached:
            return
        if ended:
            raise ProtegeError(_reason(process, folder))
        time.sleep(POLL_S)


def _reason(process: Process, folder: Path) -> str:
    """Why they ended before they should."""
    lines = [line for line in _text(folder / "log").splitlines() if "Error" in line]
    words = lines[0].strip() if lines else "they said nothing of it"
    ended = f"accelerate's processes ended with exit code {process.returncode}: {words}"
    return _text(folder / ERROR) or ended


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
