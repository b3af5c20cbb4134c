import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, Workload
from protege.objectives.latency.job import MeasuringJob, TorchSettings
from protege.objectives.latency.local.fork_server import INDUCTOR, SERVER, ForkServer
from protege.spaces.files.private import private_folder
from protege.spaces.models.blueprint import Blueprint


def test_threads_share_one_runner_and_each_gets_its_own_answer(
    encoder: Callable[[int], Blueprint], brief: Plan
) -> None:
    alone = MeasuringJob((encoder(1),), Workload(1, 4), TorchSettings(), brief)
    beside = MeasuringJob((encoder(1), encoder(2)), Workload(1, 4), TorchSettings(), brief)
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(SERVER.exchange, [alone, beside, alone, beside]))
    assert [len(each["trace"]["cold_ms"]) for each in answers] == [1, 2, 1, 2]


@pytest.mark.slow
def test_a_runner_that_died_is_replaced(encoder: Callable[[int], Blueprint], brief: Plan) -> None:
    job = MeasuringJob((encoder(1),), Workload(1, 4), TorchSettings(), brief)
    assert "trace" in SERVER.exchange(job)
    assert SERVER.pid
    os.kill(SERVER.pid, signal.SIGKILL)
    assert SERVER.exchange(job) == {"interrupted": "the fork server ended"}
    assert "trace" in SERVER.exchange(job)


@pytest.mark.slow
def test_a_script_without_a_main_guard_measures_once_and_leaves_nothing_behind(
    encoder: Callable[[int], Blueprint],
) -> None:
    script = f"""
        print("the script runs")
        from protege.objectives.latency import LocalCPU, Plan, Workload
        from protege.objectives.latency.local.fork_server import SERVER
        from protege.spaces.models.blueprint import Blueprint
        plan = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01)
        LocalCPU().trace([Blueprint(**{vars(encoder(1))!r})], Workload(1, 4), plan)
        print(SERVER.pid)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    first, runner = ended.stdout.split("\n", 1)
    assert first == "the script runs"
    assert not ended.stderr
    assert not os.path.exists(f"/proc/{int(runner)}")  # noqa: PTH110


@pytest.mark.slow
@pytest.mark.parametrize("own", ["", "/somewhere/of/mine"])
def test_what_is_compiled_is_kept_where_no_other_user_can_write(
    own: str, encoder: Callable[[int], Blueprint], brief: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(INDUCTOR, raising=False)
    if own:
        monkeypatch.setenv(INDUCTOR, own)
    server = ForkServer()
    server.exchange(MeasuringJob((encoder(1),), Workload(1, 4), TorchSettings(), brief))
    given = Path(f"/proc/{server.pid}/environ").read_text().split("\0")
    server.close()
    (place,) = [one.partition("=")[2] for one in given if one.startswith(f"{INDUCTOR}=")]
    if own:
        assert place == own
    else:
        assert Path(place).parent == private_folder()
        assert Path(place).stat().st_mode & 0o777 == 0o700
