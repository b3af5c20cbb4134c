import fcntl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from protege.objectives.latency import Plan, Unmeasured, Workload
from protege.objectives.latency.models import Model
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.targets.ssh import SSH
from protege.objectives.latency.targets.target import Target
from protege.spaces.errors import BadInput, DiskFull
from protege.spaces.models.blueprint import Blueprint
from tests.objectives.latency.sshd import Board, free_port, missing, serving

pytest.importorskip("onnxruntime")

WORKLOAD = Workload(1, 4)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """One server for all tests; each has a folder of its own there."""
    if missing():
        pytest.skip(missing())
    with serving(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Where the one tiny model is exported once."""
    return Programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def target(board: Board, programs: Programs, request: pytest.FixtureRequest) -> SSH:
    """The device, tried once."""
    return SSH(
        "board",
        python=sys.executable,
        folder=str(board.folder / request.node.originalname),
        options=board.options,
        pauses_s=(),
        programs=programs,
    )


@pytest.fixture
def pair(encoder: Callable[[int], Blueprint]) -> list[Model]:
    """A model beside itself: one export serves both."""
    return [encoder(1), encoder(1)]


def wrapped(board: Board, name: str, script: str) -> str:
    """A command in place of the device's Python."""
    return str(board.stub(name, f"#!/bin/sh\n{script}\n"))


def taken(lock: IO[str]) -> bool:
    """Whether nobody else had the lock, which a process that is ending may have a moment longer."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def configured(board: Board, name: str, old: str, new: str) -> tuple[str, ...]:
    """The options of a client that is configured otherwise."""
    path = board.home / name
    text = board.config.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return ("-F", str(path))


def test_an_exported_model_is_timed_there_and_sent_once(
    target: SSH, pair: list[Model], brief: Plan
) -> None:
    trace = replace(target, cores=(0,)).trace(pair, WORKLOAD, brief)
    assert trace.arranged == "cores 0"
    assert len(trace.rounds) >= brief.least_pairs
    assert len(trace.cold_ms) == len(trace.rounds[0]) == 2
    sent = {path.name: path.stat().st_ino for path in Path(target.folder).iterdir()}
    assert {Path(name).suffix for name in sent} == {".tar", ".pyz", ""}  # the last is the lock

    target.trace(pair, WORKLOAD, brief)
    assert {path.name: path.stat().st_ino for path in Path(target.folder).iterdir()} == sent


def test_the_description_tells_of_the_device(target: SSH) -> None:
    device: Target = target
    description = device.description()
    assert description["host"] == "board"
    assert description["cpu"]
    assert description["versions there"]["python"] == sys.version.split()[0]
    assert description["versions there"].keys() == {"python", "numpy", "onnxruntime"}
    assert device.label == "onnxruntime on board, 1 thread"


def test_more_threads_than_cores_are_told_with_the_cores_of_the_device(target: SSH) -> None:
    with pytest.raises(BadInput, match=r"^threads=10000, .* board has the cores 0"):
        replace(target, threads=10_000).description()


def test_a_busy_device_is_tried_again(target: SSH, pair: list[Model], brief: Plan) -> None:
    folder = Path(target.folder)
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("4711")
        lock.flush()
        with pytest.raises(Unmeasured, match=r"in 2 tries: board is busy: process 4711 measures"):
            replace(target, pauses_s=(0.1,)).trace(pair, WORKLOAD, brief)
    assert target.trace(pair, WORKLOAD, brief).rounds


def test_an_unknown_host_key_is_told_with_what_to_compare(board: Board, target: SSH) -> None:
    options = configured(board, "unknown", "/known_hosts", "/nobody_known")
    says = r"^board has a host key that is not known here: .*\(ssh -F \S+ board\).* -lf /etc/"
    with pytest.raises(BadInput, match=says):
        replace(target, options=options).description()
    assert not (board.home / "nobody_known").exists()


def test_a_changed_host_key_is_never_accepted(board: Board, target: SSH) -> None:
    options = configured(board, "changed", "/known_hosts", "/others_known")
    key = (board.home / "client.pub").read_text()  # any key but the server's own
    others = board.home / "others_known"
    others.write_text(f"[127.0.0.1]:{board.port} {key}")
    with pytest.raises(BadInput, match=r"has another host key .*: ssh -F \S+ board$"):
        replace(target, options=options).description()
    loose = ("-o", "StrictHostKeyChecking=no", *options)  # ours comes first, and counts
    with pytest.raises(BadInput, match="has another host key"):
        replace(target, options=loose).description()
    assert others.read_text().endswith(key)


def test_a_device_that_knows_no_key_of_ours_is_told_at_once(board: Board, target: SSH) -> None:
    options = configured(board, "stranger", "/client", "/host")
    with pytest.raises(BadInput, match=r"^board refuses login .* ssh-copy-id board"):
        replace(target, options=options).description()


def test_a_host_out_of_reach_is_one_line(board: Board, target: SSH) -> None:
    options = configured(board, "closed", f"Port {board.port}", f"Port {free_port()}")
    with pytest.raises(BadInput, match=r"^board cannot be reached \(.*refused.*\); try: ssh board"):
        replace(target, options=options).description()


def test_a_lost_connection_costs_one_model(
    board: Board, target: SSH, pair: list[Model], brief: Plan
) -> None:
    options = configured(board, "lost", f"Port {board.port}", f"Port {free_port()}")
    away = replace(target, options=options, pauses_s=(0.0, 0.0))
    with pytest.raises(Unmeasured, match=r"on board in 3 tries: .*Connection refused"):
        away.trace(pair, WORKLOAD, brief)


def test_what_arrives_otherwise_than_it_was_sent_is_not_kept(
    board: Board, target: SSH, pair: list[Model], brief: Plan
) -> None:
    script = f'[ "$4" = keep ] && {{ cat; echo; }} | exec {sys.executable} "$@"'
    python = wrapped(board, "corrupting", f'{script}\n[ "$4" = keep ] || exec {target.python} "$@"')
    with pytest.raises(BadInput, match=r"^board received protege-runner-\w+\.pyz with the hash "):
        replace(target, python=python).trace(pair, WORKLOAD, brief)
    assert not list(Path(target.folder).iterdir())


def test_a_hanging_runner_leaves_no_process_and_no_lock(
    board: Board, target: SSH, pair: list[Model], endless: Plan
) -> None:
    with pytest.raises(Unmeasured, match=r"in 1 tries: no answer within 4 s"):
        target.trace(pair, WORKLOAD, replace(endless, deadline_s=4.0))
    with (Path(target.folder) / "lock").open("a") as lock:
        until_s = time.monotonic() + 10
        while board.measuring() or not taken(lock):
            assert time.monotonic() < until_s
            time.sleep(0.05)


def test_a_device_without_a_sign_of_life_is_given_up(
    board: Board, target: SSH, pair: list[Model], brief: Plan
) -> None:
    python = wrapped(board, "mute", f'[ "$1" = -c ] && exec {target.python} "$@"\ncat > /dev/null')
    with pytest.raises(Unmeasured, match=r"in 1 tries: no sign of life for 0\.5 s"):
        replace(target, python=python, stall_s=0.5).trace(pair, WORKLOAD, brief)


def test_a_connection_cut_in_mid_run_is_made_again(
    board: Board, target: SSH, pair: list[Model], brief: Plan
) -> None:
    seen = []

    def cut() -> None:
        until_s = time.monotonic() + 60
        while not (found := board.measuring()) and time.monotonic() < until_s:
            time.sleep(0.02)
        seen.extend(found)
        time.sleep(0.5)
        board.cut()

    lasting = replace(brief, sustained_s=3.0, candidate_s=60.0)
    cutter = threading.Thread(target=cut)
    cutter.start()
    trace = replace(target, pauses_s=(0.1,)).trace(pair, WORKLOAD, lasting)
    cutter.join()
    assert seen
    assert sum(sample.wall_ms for sample in trace.samples) > 1000  # a whole run, not what was left
    assert not set(seen) & set(board.measuring())


def test_a_full_disk_there_is_told(
    target: SSH, pair: list[Model], brief: Plan, tmp_path: Path
) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        with pytest.raises(DiskFull, match=r"^board: no room in .* there .*No space left"):
            replace(target, folder=str(tmp_path)).trace(pair, WORKLOAD, brief)
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_what_the_device_lacks_is_told_with_what_to_do(board: Board, target: SSH) -> None:
    bare = wrapped(board, "bare", f'exec {target.python} -I -S "$@"')
    with pytest.raises(BadInput, match=r"cannot import numpy .*: \S+ -m pip install onnxrun\w+ nu"):
        replace(target, python=bare).description()

    with pytest.raises(BadInput, match=r"^board has no nonesuch: install Python 3\.8"):
        replace(target, python="nonesuch").description()

    pretend = (
        "import platform, sys; platform.python_version = lambda: '3.6.9'; code = sys.argv[2]; "
        "del sys.argv[1:3]; exec(code)"
    )
    old = f"""exec {target.python} -c "{pretend}" "$@" """
    with pytest.raises(BadInput, match=r"is 3\.6\.9: install Python 3\.8 or later there"):
        replace(target, python=wrapped(board, "old", old)).description()

    older = wrapped(board, "older", "echo SyntaxError: future feature >&2; exit 1")
    with pytest.raises(BadInput, match=r"fails \(.*SyntaxError.*\): install Python 3\.8 or later"):
        replace(target, python=older).description()


def test_a_model_that_cannot_run_there_is_not_tried_again(
    target: SSH, pair: list[Model], brief: Plan
) -> None:
    target.trace(pair, WORKLOAD, brief)
    for path in Path(target.folder).glob("*.tar/*/*.onnx"):
        path.write_text("not a model")
    with pytest.raises(Unmeasured, match=r"^BertModel beside .* timed on board: \w+: "):
        replace(target, pauses_s=(60.0,)).trace(pair, WORKLOAD, brief)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"host": "-oProxyCommand=x"}, "expected a host as ssh takes it"),
        ({"host": ""}, "expected a host as ssh takes it"),
        ({"python": "python3; reboot"}, "^python=.* expected a path without"),
        ({"folder": "-rf"}, "^folder=.* expected a path without"),
        ({"threads": 0}, "no cores or as many as threads"),
        ({"threads": 2, "cores": (1,)}, "no cores or as many as threads"),
        ({"priority": "highest"}, "expected normal or high"),
        ({"runtime": "eager"}, "elsewhere, one of onnxruntime, openvino, executorch"),
        ({"precision": "bfloat16"}, "expected one of float32, int8"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        SSH(**{"host": "pi5", **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["me:hunter2@pi5", "ssh://me:hunter2@pi5:22", "me:hun hunter2@pi"])
def test_a_password_in_a_host_is_refused_and_not_shown(host: str) -> None:
    with pytest.raises(BadInput, match="with a password before it: ssh takes none") as error:
        SSH(host)
    assert "hun" not in str(error.value)


@pytest.mark.parametrize("host", ["me@pi5", "ssh://me@pi5:22", "me@[fe80::1]"])
def test_a_user_and_a_port_are_no_password(host: str) -> None:
    assert SSH(host).host == host
