"""Studies on a real Ray cluster of two nodes, all of it on this machine."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from protege.objectives import Candidate, Direction, Measurement, Memory, Retention, Score, Stage
from protege.search import Front, RayEngine, Search, State, Trial
from protege.search.engines.cluster import _signals_kept
from protege.spaces import BadInput, Student, Teacher
from tests.search.engines.mischief import OddError
from tests.search.toys import PLAIN, WIDE, distillation, toy

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that works on nothing, and a node of one processor that measures."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
        found: Any = Cluster(initialize_head=True, head_node_args=head)
        node = {"num_cpus": 1, "resources": {"device": 1}, "object_store_memory": 80 << 20}
        found.device = found.add_node(**node)
        yield found
        found.shutdown()


def made(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    given: dict[str, Any] = {"teacher": teacher, "space": WIDE}
    objectives = changes.get("objectives", [Retention()])
    if any(one.stage is Stage.STUDENT for one in objectives):
        given["distillation"] = distillation(steps=9)
    return toy(folder, **(given | changes))


@dataclass
class Place:
    """An objective that tells where it was measured."""

    name: ClassVar[str] = "place"
    unit: ClassVar[str] = ""
    direction: ClassVar[Direction] = "minimize"
    stage: ClassVar[Stage] = Stage.SHAPE
    limit: ClassVar[float | None] = None

    def measure(self, candidate: Candidate) -> Measurement:  # noqa: ARG002 - the protocol's
        return Measurement(1.0, details={"node": ray.get_runtime_context().get_node_id()})


@dataclass
class Refusing(Place):
    """An objective that cannot use what the user gave."""

    def measure(self, candidate: Candidate) -> Measurement:  # noqa: ARG002 - the protocol's
        raise BadInput("no such label")


def test_a_node_that_is_killed_costs_no_trial(cluster: Any, folder: Path, teacher: Teacher) -> None:
    second = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    killed = threading.Event()

    def kill() -> None:
        while len(told(folder)) < 3:
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        killed.set()

    threading.Thread(target=kill, daemon=True).start()
    engine = RayEngine(cluster.address, measures_on={"device": 1})
    search = made(folder, teacher, objectives=[Place(), Memory(), Retention()])
    front = search.run(trials=12, engine=engine)
    assert killed.is_set()
    assert len(engine._pool.workers) == 3  # a job on each node, and one that measures
    assert [trial.number for trial in front.trials] == [*range(12)]
    assert len({trial.key for trial in front.trials}) == 12
    assert {trial.state for trial in front.trials} <= {State.COMPLETE, State.STOPPED}
    assert all((folder / "artifacts" / f"trial-{m.number:05d}").is_dir() for m in front.members)
    assert not (folder / "workers" / "task.pt").exists()
    places = {trial.measurements["place"].details["node"] for trial in front.trials}
    (place,) = places
    assert place == cluster.device.node_id


def told(folder: Path) -> Sequence[Trial]:
    try:
        return Front.read(folder).trials
    except BadInput:  # not begun yet
        return []


def test_on_a_cluster_and_at_home_a_student_is_worth_the_same(
    cluster: Any, folder: Path, teacher: Teacher, tmp_path: Path
) -> None:
    there = made(folder, teacher).run(trials=4, engine=RayEngine(cluster.address))
    here = made(tmp_path / "here", teacher).run(trials=4)
    values = {trial.key: trial.curve for trial in here.trials}
    for trial in there.trials:
        both = trial.rungs.keys() & values[trial.key].keys()
        assert 0 in both
        for step in both:
            assert trial.curve[step] == pytest.approx(values[trial.key][step], rel=1e-4)


def test_what_nobody_can_use_ends_the_study_with_its_line(
    cluster: Any, folder: Path, teacher: Teacher
) -> None:
    search = made(folder, teacher, objectives=[Refusing(), Retention()])
    with pytest.raises(BadInput, match=r"^no such label$"):
        search.run(trials=3, engine=RayEngine(cluster.address))


@dataclass
class Odd(Place):
    """An objective that raises what cannot be sent or printed, of every student."""

    def measure(self, candidate: Candidate) -> Measurement:
        if candidate.is_teacher:
            return Measurement(1.0)
        raise OddError


def test_an_exception_that_ray_cannot_send_fails_its_trial_alone(
    cluster: Any, folder: Path, teacher: Teacher
) -> None:
    search = made(folder, teacher, space=PLAIN, objectives=[Memory(), Odd()])
    trials = search.run(trials=3, engine=RayEngine(cluster.address)).trials
    assert [trial.state for trial in trials] == [State.COMPLETE, State.FAILED, State.FAILED]
    assert trials[1].reason == "OddError: its message cannot be read: ValueError"
    assert "raise OddError" in trials[1].traceback


def hangs_on_narrow(student: Student) -> float:
    if student.architecture.hidden_size < 24:
        time.sleep(3600)
    return 1.0


def process(_: Student) -> float:
    return float(os.getpid())


def test_an_actor_in_which_a_score_hangs_is_replaced(
    cluster: Any, folder: Path, teacher: Teacher
) -> None:
    scores = [Score("own", hangs_on_narrow, timeout_s=1.0), Score("process", process)]
    search = made(folder, teacher, objectives=[Memory(), *scores])
    trials = search.run(trials=6, engine=RayEngine(cluster.address, jobs=1)).trials
    hung = [trial for trial in trials if trial.architecture["hidden_size"] < 24]
    assert 0 < len(hung) < 5
    assert [trial.number for trial in trials if trial.state is State.FAILED] == [
        trial.number for trial in hung
    ]
    assert all("not done after timeout_s=1, at test_cluster.py:" in one.reason for one in hung)
    done = [trial for trial in trials if trial.state is State.COMPLETE]
    actors = {trial.measurements["process"].value for trial in done}
    assert len(actors) > 1  # the first one is gone, and the call with it


def test_more_than_any_node_has_is_refused(cluster: Any, folder: Path, teacher: Teacher) -> None:
    engine = RayEngine(cluster.address, cpus=64)
    with pytest.raises(BadInput, match="no node of the cluster has 64 CPUs and 0 GPUs"):
        made(folder, teacher).run(trials=3, engine=engine)


def test_a_cluster_that_is_not_there_is_refused(folder: Path, teacher: Teacher) -> None:
    with pytest.raises(BadInput, match=r"Ray cluster 'nonsense': not reached"):
        made(folder, teacher).run(trials=3, engine=RayEngine("nonsense"))


@pytest.mark.parametrize("given", [{"jobs": -1}, {"cpus": 0}, {"gpus": -1.0}, {"silence_s": 0}])
def test_numbers_that_mean_nothing_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(given))}="):
        RayEngine(**given)


def test_ray_takes_no_signal_from_the_study() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda given, _: heard.append(given))
    try:
        with _signals_kept():
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as `ray.init` does
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
