"""A device that is reached over SSH: a Raspberry Pi, a Jetson, any board with Linux and Python."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NoReturn

from protege.objectives.latency.device.main import FRAME
from protege.objectives.latency.job import Trace
from protege.objectives.latency.local.messages import Broken, converse
from protege.objectives.latency.models import Model
from protege.objectives.latency.plan import Plan
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import RUNTIMES, Name, Runtime, runtime_named
from protege.objectives.latency.targets.ssh_connection import PAUSES_S, Line, LostError, retried
from protege.objectives.latency.targets.target import Unmeasured, names, program_job
from protege.objectives.latency.targets.upload import Parcel, program_parcel, runner_parcel
from protege.objectives.latency.workload import Workload
from protege.objectives.precision import Precision
from protege.spaces.errors import BadInput, DiskFull, Unavailable

STALL_S = 10.0
"""Seconds without a heart-beat, of which the runner gives one a second, until it counts as gone."""

ASK_S = 60.0
"""Seconds that a small question may take: a slow board imports its runtime for some of them."""

_TOO_OLD = 90
_NO_COMMAND = (126, 127)
_CHECK = (
    "import sys; old = sys.version_info < (3, 8); "
    'old and sys.stderr.write("Python %d.%d" % sys.version_info[:2]); sys.exit(90 if old else 0)'
)
"""Any Python reads it; what follows takes a new one to be read at all."""


@dataclass(frozen=True)
class SSH:
    """A device with Linux that the user's own ``ssh`` reaches without a password.

    Models are exported and checked here; the device needs Python 3.8 or later and the runtime, and
    neither torch nor transformers for ONNX Runtime and OpenVINO. Programs and the runner are sent
    once, under their hashes, and timed by turns in one fresh process there, one user at a time.
    What may go better the next time (the connection, a busy device, a hanging process) is tried
    again; the rest is told at once. No host key is ever accepted here.

    Attributes:
        host: As ``ssh`` takes it; ``~/.ssh/config``, agents and jump hosts are honoured.
        runtime: What runs the model there: one that models are exported for.
        precision: What is calculated in; ``"int8"`` is ONNX Runtime's dynamic quantisation.
        threads: Threads that a model may use.
        cores: The cores that a model keeps to, by the device's numbers; all of them if empty.
        priority: ``"high"`` asks the device for more than is usual, as far as it allows.
        python: The command that runs Python there.
        folder: Where things are kept there, from the home folder; safe to delete at any time.
        options: More arguments for ``ssh``, such as ``("-p", "2222")``.
        exporter: The interpreter here that exports, of a runtime that lives in an environment of
            its own; this one's if empty.
        pauses_s: Seconds to wait before each further try.

    Raises:
        BadInput: A value is none of those, or what exports for the runtime is not installed here.
    """

    host: str
    runtime: Name = "onnxruntime"
    precision: Precision = "float32"
    threads: int = 1
    cores: tuple[int, ...] = ()
    priority: Literal["normal", "high"] = "normal"
    python: str = "python3"
    folder: str = ".cache/protege"
    options: tuple[str, ...] = ()
    exporter: str = ""
    pauses_s: tuple[float, ...] = field(default=PAUSES_S, repr=False)
    programs: Programs = field(default_factory=Programs, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_host(self.host)
        for name, value in (("python", self.python), ("folder", self.folder)):
            # the device's shell reads them as they are, so that ~ means its home
            if not re.fullmatch(r"[\w./~+-]+", value) or value.startswith("-"):
                raise BadInput(f"{name}={value!r}: expected a path without spaces or quotes")
        if self.threads < 1 or (self.cores and len(self.cores) < self.threads):
            raise BadInput(f"threads={self.threads}, cores={self.cores}: expected a core a thread")
        if self.priority not in {"normal", "high"}:
            raise BadInput(f"priority={self.priority!r}: expected normal or high")
        _ = self._runtime

    @property
    def label(self) -> str:
        precision = "" if self.precision == "float32" else f" {self.precision}"
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.runtime}{precision} on {self.host}, {threads}"

    def description(self) -> dict[str, Any]:
        """All that a time depends on besides model and workload; asks the device once a process.

        Raises:
            BadInput: It cannot be reached, or lacks what is needed.
        """
        try:
            there = self._probed()
        except LostError as lost:
            raise Unavailable(
                f"{self.host} cannot be reached ({lost}); try: ssh {self.host}"
            ) from lost
        return {
            "host": self.host,
            "runtime": self.runtime,
            "precision": self.precision,
            "threads": self.threads,
            "cores": list(self.cores),
            "priority": self.priority,
            "cpu": there["cpu"],
            "machine": there["machine"],
            "versions": self._runtime.versions(),
            "versions there": {"python": there["python"], **there["versions"]},
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models by turns in one fresh process there.

        Raises:
            BadInput: The device does not let us in, or lacks what is needed; another try, or
                another model, would fare no better.
            DiskFull: There is no room on the device.
            Unmeasured: A model cannot run there, or the device did not answer in any try.
        """
        exported = [self.programs.of(m, workload, self._runtime, self.precision) for m in models]
        parcels = [program_parcel(folder) for folder in exported]
        job = program_job(workload, plan, self.threads, (), self.priority)
        what = f"{names(models)} could not be timed on {self.host}"
        answer = retried(lambda: self._answer(parcels, job, plan.deadline_s), self.pauses_s, what)
        if "trace" in answer:
            return Trace.of(answer["trace"])
        raise Unmeasured(f"{what}: {answer['failed']}")

    @property
    def _runtime(self) -> Runtime:
        return exporting_runtime(self.runtime, self.precision, self.exporter)

    @property
    def _line(self) -> Line:
        return Line(self.host, self.options)

    def _answer(
        self, parcels: Sequence[Parcel], job: Mapping[str, Any], deadline_s: float
    ) -> dict[str, Any]:
        """What the device says to one job; sends what it has not got."""
        with self._line.turn():
            there = self._probed()
            place, runner = there["folder"], runner_parcel()
            self._send([runner, *parcels], deadline_s)
            job = {
                **job,
                "cores": self._kept_cores(there["cores"]),
                "programs": [f"{place}/{parcel.name}" for parcel in parcels],
                "lock": f"{place}/lock",
            }
            command = self._line.command(f"{self.python} {shlex.quote(f'{place}/{runner.name}')}")
            answer = self._line.heard(converse(command, job, deadline_s, STALL_S))
        if "busy" in answer:
            raise LostError(f"{self.host} is busy: {answer['busy']} measures there")
        if "No space left" in answer.get("failed", ""):
            self._no_room(answer["failed"])
        return answer

    def _kept_cores(self, there: Sequence[int]) -> list[int]:
        # ExecuTorch has no setting for threads in Python: it takes as many as it may run on
        if self.runtime == "executorch" and not self.cores:
            return list(there[: self.threads])
        return list(self.cores)

    def _probed(self) -> dict[str, Any]:
        there = _probed(self._line, self.python, self.folder, self._runtime.needed)
        absent = set(self.cores) - set(there["cores"])
        if absent or self.threads > len(there["cores"]):
            raise BadInput(
                f"threads={self.threads}, cores={self.cores}: {self.host} has the cores "
                f"{', '.join(map(str, there['cores']))}"
            )
        return there

    def _send(self, parcels: Sequence[Parcel], patience_s: float) -> None:
        """Send what is not there; once it is, only looks."""
        wanted = {parcel.name: parcel for parcel in parcels}
        there = self._asked("look", *wanted)["there"]
        for parcel in [parcel for name, parcel in wanted.items() if name not in there]:
            remote = _receiving(self.python, "keep", self.folder, parcel.name, parcel.sha256)
            with parcel.opened() as content:
                answer = self._line.ask(remote, patience_s, content)
            self._check(answer)
            if "wrong" in answer:
                raise Unavailable(
                    f"{self.host} received {parcel.name} with the hash {answer['wrong'][:16]}, not "
                    f"{parcel.sha256[:16]}: check its memory and its disk, then go on"
                )

    def _asked(self, verb: str, *rest: str) -> dict[str, Any]:
        answer = self._line.ask(_receiving(self.python, verb, self.folder, *rest), ASK_S)
        self._check(answer)
        return answer

    def _check(self, answer: Mapping[str, Any]) -> None:
        if "full" in answer:
            self._no_room(answer["full"])
        if "failed" in answer:
            raise Unavailable(
                f"{self.host}: {self.folder} cannot be used there: {answer['failed']}"
            )

    def _no_room(self, cause: str) -> NoReturn:
        raise DiskFull(
            f"{self.host}: no room in {self.folder} there ({cause}); make room, then go on"
        )


def exporting_runtime(name: str, precision: str, python: str = "") -> Runtime:
    """The runtime of that name, which models can be exported for on this machine.

    Raises:
        BadInput: There is none, or it runs models as PyTorch has them.
    """
    if name in RUNTIMES and not RUNTIMES[name].exports:
        able = ", ".join(one.name for one in RUNTIMES.values() if one.exports)
        raise BadInput(f"runtime={name!r} needs protege where it runs: elsewhere, one of {able}")
    return runtime_named(name, precision, python)


@cache
def _probed(line: Line, python: str, folder: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """What the device is and has; an answer holds for this process, a failure does not.

    Raises:
        BadInput: It lacks what is needed.
        LostError: It does not answer.
    """
    remote = f"{python} -c {shlex.quote(_CHECK)} && {_receiving(python, 'probe', folder, *needed)}"
    answer = line.said(remote, ASK_S)
    if isinstance(answer, Broken) and answer.code in _NO_COMMAND:
        raise Unavailable(
            f"{line.host} has no {python}: install Python 3.8 or later there, or say python=PATH"
        )
    if isinstance(answer, Broken) and answer.code == _TOO_OLD:
        raise Unavailable(
            f"{line.host}: {python} is {answer.said.split('Python')[-1].strip()} there; expected "
            f"Python 3.8 or later: say python=PATH"
        )
    there = line.heard(answer)
    for module, cause in there["missing"].items():
        raise Unavailable(
            f"{line.host}: {python} cannot import {module} there ({cause}); run there: "
            f"{python} -m pip install {' '.join(sorted(needed, reverse=True))}"
        )
    return there


def _receiving(python: str, verb: str, folder: str, *rest: str) -> str:
    """The shell command that asks something of a device that has nothing of ours yet."""
    source = files("protege.objectives.latency.device").joinpath("receiving.py").read_text("utf-8")
    return f"{python} -c {shlex.quote(source)} {FRAME} {verb} {folder} {shlex.join(rest)}"


def _check_host(host: str) -> None:
    """Refuse what is no host.

    Raises:
        BadInput: It is none, or a password is in it, which the message does not show.
    """
    user, _, machine = host.rpartition("@")
    if ":" in user.removeprefix("ssh://"):
        raise BadInput(
            f"host={machine!r} with a password before it: ssh takes none, and it would be stored "
            "with the study; set up a key, and give user@host"
        )
    if not host or host.startswith("-") or re.search(r"\s", host):
        raise BadInput(f"host={host!r}: expected a host as ssh takes it, such as pi5")
