"""Start runs of a command in milliseconds by forking, so that hundreds can be killed in a test.

Imports take seconds. A fork server imports once and forks a process for each run before anything is
computed. The run's own subprocesses, its workers and latency runners, are forked too: they execute
their usual code as children of the process that starts them, and can be killed one by one.
"""

import ctypes
import json
import os
import runpy
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

ROLES = {
    "protege.search.engines.remote": "worker",
    "protege.objectives.latency.local.fork_worker": "runner",
}
"""The process names of these modules; a run itself is named ``study``."""

SPARES = {"study": 8, "worker": 2, "runner": 0}
"""The number of forked subprocesses of each; further ones start the usual way, in seconds."""

_PR_SET_NAME = 15
_POPEN = subprocess.Popen


class ForkServer:
    """A fork server that runs one command at a time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._last: Iterator[str] = iter(())

    def live(self, words: list[str]) -> Iterator[str]:
        """Start a run and return its output, line by line.

        Args:
            words: The arguments of ``protege``, or ``python`` with a script and its arguments.

        Returns:
            ``child PID``, then its output and the name of every phase at entry and exit, then
            ``exit CODE`` unless it was killed.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the fork server is closed")
        for _ in self._last:
            pass  # skip unread output of the previous run
        print(*words, file=self._process.stdin, flush=True)
        said = map(str.strip, self._process.stdout)
        self._last = iter(partial(next, said), "gone")
        return self._last


@contextmanager
def fork_server(folder: Path) -> Iterator[ForkServer]:
    """Start a fork server whose runs have that working folder; stop it after the block."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", __file__]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=pipe, stdout=pipe, text=True
    ) as process:
        if process.stdout is None or process.stdout.readline() != "ready\n":
            raise RuntimeError("the fork server could not start")
        yield ForkServer(process)
        if process.stdin is not None:
            process.stdin.close()


def family(pid: int) -> dict[int, str]:
    """Return the names of a process and its descendants by pid, without unused spare processes."""
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            named, _, rest = stat.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            if state not in "ZX":
                number = int(stat.parent.name)
                parents[number], names[number] = int(parent), named.partition("(")[2]
    found, grown = set[int](), {pid} & names.keys()
    while grown:
        found |= grown
        grown = {one for one, parent in parents.items() if parent in found} - found
    return {one: names[one] for one in found if names[one] != "spare"}


def alive(pids: Iterable[int]) -> set[int]:
    """Return the processes that still exist."""
    return {pid for pid in pids if family(pid)}


def serve() -> None:
    """Fork a run for every line of arguments on standard input."""
    # package imports are lazy: import what every run needs before forking
    study = ("protege.search.cli.main", "protege.search.search", "protege.search.front.front")
    for name in (*ROLES, *study, "optuna.samplers", "transformers.models.bert.modeling_bert"):
        import_module(name)
    _say("ready")
    for line in iter(sys.stdin.buffer.readline, b""):
        child = os.fork()
        if child == 0:
            os.dup2(1, 2)
            _say(f"child {os.getpid()}")
            _be("study")
            _tell_phases()
            _say(f"exit {_lived(line.decode().split())}")
            os._exit(0)
        os.waitpid(child, 0)
        _say("gone")


def _lived(words: list[str]) -> int:
    """Run a script if the first word is ``python``, else ``protege``; return the exit code."""
    from protege.search.cli.main import guarded, main

    if words[0] != "python":
        return main(words)
    sys.argv = words[1:]

    def run() -> None:
        runpy.run_path(words[1], run_name="__main__")

    return guarded(run)


def _say(what: str) -> None:
    os.write(1, f"{what}\n".encode())


def _tell_phases() -> None:
    """Print the name of every phase at its entry and exit."""
    from protege.objectives import Stopwatch

    enter = Stopwatch.phase

    @contextmanager
    def phase(self: Stopwatch, name: str) -> Iterator[None]:
        with enter(self, name):
            _say(name)
            yield
            _say(name)

    Stopwatch.phase = phase  # type: ignore[method-assign]


def _be(role: str) -> None:
    """Name this process after its role, and fork spare processes for its subprocesses."""
    _call(role)
    spares = _spares(SPARES[role])

    def started(command: list[str], **options: Any) -> Any:
        module = _module(command)
        if module is None or not spares:
            return _POPEN(command, **options)
        return Forked(*spares.pop(), module, options)

    subprocess.Popen = started  # type: ignore[assignment, misc]


def _call(role: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, role.encode())


def _module(command: list[str]) -> str | None:
    """Return the module that a command runs; None if it is not in `ROLES`."""
    words = [*map(str, command)]
    if any(word.endswith("engines/remote.py") for word in words):
        return "protege.search.engines.remote"
    return next((name for name in ROLES if name in words), None)


def _spares(count: int) -> list[tuple[int, socket.socket]]:
    """Fork spare processes; return their pids and sockets."""
    found: list[tuple[int, socket.socket]] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            for line in [ours, *(line for _, line in found)]:
                line.close()
            _become(theirs)
        theirs.close()
        found.append((pid, ours))
    return found


def _become(line: socket.socket) -> None:
    """In a spare process: receive a module and its streams, run it, and exit."""
    code = 1
    _call("spare")
    try:
        told, descriptors, _, _ = socket.recv_fds(line, 1 << 20, 8)
        if not told:
            os._exit(0)  # the parent ended without using this process
        module, environment = json.loads(told)
        os.setsid()
        os.environ.update(environment)
        for standard, descriptor in enumerate(descriptors[:3]):
            os.dup2(descriptor, standard)
            os.close(descriptor)
        # new stream objects: the old ones hold data read ahead, and would close the descriptors
        sys.stdin = os.fdopen(0, closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.argv = [module, *map(str, descriptors[3:])]
        _be(ROLES[module])
        import_module(module).main()
        code = 0
    except BaseException:  # noqa: BLE001 - printed, as Python does at the end of a process
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


class Forked:
    """A spare process that runs a module, with the interface of `subprocess.Popen`."""

    def __init__(self, pid: int, line: socket.socket, module: str, options: dict[str, Any]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdin, reading = self._piped(options["stdin"], writes=True)
        self.stdout, writing = self._piped(options["stdout"], writes=False)
        errors = options.get("stderr")
        given = [reading, writing, 2 if errors is None else errors.fileno()]
        told = json.dumps([module, dict(options.get("env") or os.environ)])
        socket.send_fds(line, [told.encode()], [*given, *options.get("pass_fds", ())])
        line.close()
        for name, descriptor in (("stdin", reading), ("stdout", writing)):
            if options[name] in {subprocess.PIPE, subprocess.DEVNULL}:
                os.close(descriptor)

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        if self.returncode is None:
            found, status = os.waitpid(self.pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; return the exit code."""
        until = time.monotonic() + (3600.0 if timeout is None else timeout)
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired([], timeout or 0.0)
            time.sleep(0.002)
        return self.returncode or 0

    def kill(self) -> None:
        """Kill the process if it runs."""
        if self.poll() is None:
            os.kill(self.pid, 9)

    @staticmethod
    def _piped(given: Any, *, writes: bool) -> tuple[Any, int]:
        """Return this process's end of a standard stream if it is a pipe, and the other's."""
        if given == subprocess.DEVNULL:
            return None, os.open(os.devnull, os.O_RDWR)
        if given != subprocess.PIPE:
            return None, given.fileno()
        reading, writing = os.pipe()
        ours, theirs = (writing, reading) if writes else (reading, writing)
        return os.fdopen(ours, "w" if writes else "r", encoding="utf-8"), theirs


if __name__ == "__main__":
    serve()
