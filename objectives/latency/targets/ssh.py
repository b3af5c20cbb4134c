"""Devices reached over SSH as targets: a Raspberry Pi, a Jetson, any Linux board with Python."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import IO, Any, Literal, NoReturn

from protege.objectives.latency.device.main import FRAME
from protege.objectives.latency.job import Trace
from protege.objectives.latency.models import Model
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import Name, Runtime, runtime_named
from protege.objectives.latency.targets.ssh_connection import (
    PAUSES_S,
    ConnectionLost,
    SshConnection,
    device_lock,
    retried,
)
from protege.objectives.latency.targets.target import (
    Unmeasured,
    check_threads,
    cores_for,
    label_of,
    names,
    program_job,
)
from protege.objectives.latency.targets.upload import Upload, program_upload, runner_upload
from protege.objectives.latency.workload import Plan, Workload
from protege.objectives.machine.precision import Precision
from protege.spaces.arguments import checks_fields
from protege.spaces.errors import BadInput, DiskFull, Unavailable

ASK_S = 60.0
"""Time limit in seconds of a request other than timing; a slow board takes long to import."""

_PYTHON_FAILED, _NO_COMMAND = 1, (126, 127)
"""Exit codes: Python raised an error, and the shell found no such command."""


@checks_fields
@dataclass(frozen=True)
class SSH:
    """A Linux device that ``ssh`` reaches without a password.

    Models are exported and checked on this machine. The device needs Python 3.8 or later and the
    runtime; ONNX Runtime and OpenVINO need neither torch nor transformers there. Programs and the
    runner are uploaded once, named by their hashes. Models are timed alternately in one fresh
    process, one user of the device at a time. Lost connections, a busy device and hung processes
    are retried; other errors are raised at once. Unknown host keys are never accepted.

    Attributes:
        host: The host as ``ssh`` takes it, with ``~/.ssh/config``, agents and jump hosts.
        runtime: The runtime on the device; one that models are exported for.
        precision: The precision; ``"int8"`` is ONNX Runtime's dynamic quantisation.
        threads: Threads that a model may use.
        cores: The cores to pin a model to, by the device's numbers; all cores if empty.
        priority: ``"high"`` asks the device for a raised priority, as far as it allows.
        python: The Python command on the device.
        folder: The cache on the device, relative to the home folder; may be deleted at any time.
        options: Further arguments for ``ssh``, such as ``("-p", "2222")``.
        exporter: The local interpreter of the runtime's own environment; the current one if empty.
        pauses_s: Pauses in seconds before each retry.
        stall_s: Seconds without the runner's heartbeat, one per second, until it counts as hung.
        programs: The cache of exported models on this machine.

    Raises:
        BadInput: A value is invalid, or the packages that export for the runtime are missing.
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
    stall_s: float = field(default=10.0, repr=False)
    programs: Programs = field(default_factory=Programs, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_host(self.host)
        for name, value in (("python", self.python), ("folder", self.folder)):
            # unquoted in the device's shell, so that ~ expands to its home
            if not re.fullmatch(r"[\w./~+-]+", value) or value.startswith("-"):
                raise BadInput(f"{name}={value!r}: expected a path without spaces or quotes")
        check_threads(self.threads, self.cores, self.priority)
        _ = self._runtime

    @property
    def label(self) -> str:
        return label_of(self.runtime, self.precision, f" on {self.host}", self.threads)

    def description(self) -> dict[str, Any]:
        """Return all that a latency depends on; the device is probed once per process.

        Raises:
            Unavailable: The device cannot be reached, or lacks what is needed.
        """
        try:
            there = self._probed()
        except ConnectionLost as lost:
            raise Unavailable(
                f"{self.host} cannot be reached ({lost}); try: ssh {self.host}"
            ) from lost
        return {
            **{name: getattr(self, name) for name in ("host", "runtime", "precision", "threads")},
            "cores": list(self.cores),
            "priority": self.priority,
            "cpu": there["cpu"],
            "machine": there["machine"],
            "versions": self._runtime.versions(),
            "versions there": {"python": there["python"], **there["versions"]},
        }

    def trace(self, models: Sequence[Model], workload: Workload, plan: Plan) -> Trace:
        """Time the models alternately in one fresh process on the device.

        Raises:
            Unavailable: The device refuses access or lacks what is needed; no retry would help.
            DiskFull: The device's disk is full.
            Unmeasured: A model cannot run there, or the device did not answer in any try.
        """
        exported = [self.programs.of(m, workload, self._runtime, self.precision) for m in models]
        uploads = [program_upload(folder) for folder in exported]
        job = program_job(workload, plan, self.threads, (), self.priority)
        what = f"{names(models)} could not be timed on {self.host}"
        answer = retried(lambda: self._answer(uploads, job, plan.deadline_s), self.pauses_s, what)
        if "trace" in answer:
            return Trace.of(answer["trace"])
        raise Unmeasured(f"{what}: {answer['failed']}")

    @property
    def _runtime(self) -> Runtime:
        return runtime_named(self.runtime, self.precision, self.exporter, exports=True)

    @property
    def _connection(self) -> SshConnection:
        return SshConnection(self.host, self.options)

    def _answer(
        self, uploads: Sequence[Upload], job: Mapping[str, Any], deadline_s: float
    ) -> dict[str, Any]:
        """Upload what is missing, run one job on the device, and return its answer."""
        with device_lock(repr(self._connection)):
            there = self._probed()
            place, runner = there["folder"], runner_upload()
            self._send([runner, *uploads], deadline_s)
            job = {
                **job,
                "cores": cores_for(self.runtime, self.cores, self.threads, there["cores"]),
                "programs": [f"{place}/{upload.name}" for upload in uploads],
                "lock": f"{place}/lock",
            }
            command = f"{self.python} {shlex.quote(f'{place}/{runner.name}')}"
            answer = self._connection.ask(command, deadline_s, job, self.stall_s)
        if "busy" in answer:
            raise ConnectionLost(f"{self.host} is busy: {answer['busy']} measures there")
        if "No space left" in answer.get("failed", ""):
            self._raise_full(answer["failed"])
        return answer

    def _probed(self) -> dict[str, Any]:
        there = _probed(self._connection, self.python, self.folder, self._runtime.needed)
        absent = set(self.cores) - set(there["cores"])
        if absent or self.threads > len(there["cores"]):
            raise BadInput(
                f"threads={self.threads}, cores={self.cores}: {self.host} has the cores "
                f"{', '.join(map(str, there['cores']))}"
            )
        return there

    def _send(self, uploads: Sequence[Upload], deadline_s: float) -> None:
        """Upload what is not on the device."""
        wanted = {upload.name: upload for upload in uploads}
        there = self._request("look", *wanted)["there"]
        for name in [name for name in wanted if name not in there]:
            sha256 = wanted[name].sha256
            with wanted[name].opened() as content:
                answer = self._request("keep", name, sha256, given=content, deadline_s=deadline_s)
            if "wrong" in answer:
                raise Unavailable(
                    f"{self.host} received {name} with the hash {answer['wrong'][:16]}, not "
                    f"{sha256[:16]}: check its memory and its disk, then go on"
                )

    def _request(
        self, *words: str, given: IO[bytes] | None = None, deadline_s: float = ASK_S
    ) -> dict[str, Any]:
        verb, *rest = words
        remote = _receiving(self.python, verb, self.folder, *rest)
        answer = self._connection.ask(remote, deadline_s, given)
        if "full" in answer:
            self._raise_full(answer["full"])
        if "failed" in answer:
            raise Unavailable(
                f"{self.host}: {self.folder} cannot be used there: {answer['failed']}"
            )
        return answer

    def _raise_full(self, cause: str) -> NoReturn:
        raise DiskFull(
            f"{self.host}: no room in {self.folder} there ({cause}); make room, then go on"
        )


@cache
def _probed(
    ssh: SshConnection, python: str, folder: str, needed: tuple[str, ...]
) -> dict[str, Any]:
    """Return the device's processor, cores and versions; answers are cached, failures are not."""
    wanted = "Python 3.8 or later there, or say python=PATH"
    try:
        there = ssh.ask(_receiving(python, "probe", folder, *needed), ASK_S)
    except ConnectionLost as lost:
        if lost.code in _NO_COMMAND:
            raise Unavailable(f"{ssh.host} has no {python}: install {wanted}") from None
        if lost.code == _PYTHON_FAILED:  # too old to read the script
            raise Unavailable(f"{ssh.host}: {python} fails ({lost}): install {wanted}") from None
        raise
    if tuple(map(int, there["python"].split(".")[:2])) < (3, 8):
        raise Unavailable(f"{ssh.host}: {python} is {there['python']}: install {wanted}")
    for module, cause in there["missing"].items():
        raise Unavailable(
            f"{ssh.host}: {python} cannot import {module} there ({cause}); run there: "
            f"{python} -m pip install {' '.join(sorted(needed, reverse=True))}"
        )
    return there


def _receiving(python: str, verb: str, folder: str, *rest: str) -> str:
    """Return the shell command of a request; it carries its own source, as nothing is there yet."""
    source = files("protege.objectives.latency.device").joinpath("receiving.py").read_text("utf-8")
    return f"{python} -c {shlex.quote(source)} {FRAME} {verb} {folder} {shlex.join(rest)}"


def _check_host(host: str) -> None:
    """Check a host; an error does not show a password in it."""
    user, _, machine = host.rpartition("@")
    if ":" in user.removeprefix("ssh://"):
        raise BadInput(
            f"host={machine!r} with a password before it: ssh takes none, and it would be stored "
            "with the study; set up a key, and give user@host"
        )
    if not host or host.startswith("-") or re.search(r"\s", host):
        raise BadInput(f"host={host!r}: expected a host as ssh takes it, such as pi5")
