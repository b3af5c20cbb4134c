"""A study of four jobs whose storage is a server: killed, gone on with, and looked at meanwhile."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest

from protege.search import Front, Trial
from protege.search.storage.storage import read_study
from protege.spaces import BadInput
from tests import postgres
from tests.study_files import write_study

pytestmark = pytest.mark.slow

TRIALS = 16


@pytest.fixture
def storage() -> Iterator[str]:
    pytest.importorskip("psycopg")
    # its user may enter, which it may not where pytest puts its folders
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with postgres.server(Path(folder) / "postgres") as found:
            yield found.url


def run(study: Path) -> "subprocess.Popen[bytes]":
    """The study of that file, four trials at a time."""
    command = [sys.executable, "-m", "protege.search.cli.main", "run", str(study)]
    return subprocess.Popen(
        [*command, "--trials", str(TRIALS), "--jobs", "4"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        cwd=study.parent,
    )


def told(storage: str) -> dict[int, Trial]:
    try:
        return {trial.number: trial for trial in Front.read(storage, "toy").trials}
    except BadInput:  # not begun yet
        return {}


def at_work(pid: int) -> list[int]:
    """The processes that the process has started and that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            after = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(after[1]) == pid:
            found.append(int(path.parent.name))
    return found


def shown(storage: str) -> int:
    """How many finished trials Optuna Dashboard tells of."""
    dashboard = pytest.importorskip("optuna_dashboard")
    study = read_study(storage, "toy")
    environ = {"PATH_INFO": f"/api/studies/{study._study_id}", "QUERY_STRING": "after=0"}
    setup_testing_defaults(environ)
    body = b"".join(dashboard.wsgi(study._storage)(environ, lambda *_: None))
    return sum(trial["state"] in {"Complete", "Pruned"} for trial in json.loads(body)["trials"])


@pytest.mark.filterwarnings("ignore")  # the dashboard's own
def test_four_jobs_killed_and_gone_on_with_while_the_dashboard_reads(
    storage: str, folder: Path
) -> None:
    study = write_study(folder, steps=9)
    text = study.read_text(encoding="utf-8").replace(
        f'folder="{folder}/run"', f'storage="{storage}", folder="{folder}/run"'
    )
    study.write_text(text, encoding="utf-8")
    first = run(study)
    while len(told(storage)) < 5:
        assert first.poll() is None
        time.sleep(0.2)
    workers = at_work(first.pid)
    assert len(workers) == 4
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = told(storage)
    gone = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < gone
        time.sleep(0.1)

    second, seen = run(study), list[int]()
    while second.poll() is None:
        seen.append(shown(storage))
        time.sleep(0.2)
    assert second.returncode == 0
    after = told(storage)
    assert sorted(after) == [*range(TRIALS)]
    assert {number: after[number] for number in before} == before
    assert len({trial.key for trial in after.values()}) == TRIALS
    assert seen == sorted(seen)
    assert len(before) <= seen[0] <= seen[-1] <= TRIALS
