"""Weights of the front are in a store too: all of them, no others, whenever it can be reached."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from wsgiref.util import setup_testing_defaults

import pytest
from optuna.artifacts import download_artifact, get_all_artifact_meta
from optuna.study import Study

from protege.objectives import Candidate, Measurement, Memory
from protege.search import Front, Search
from protege.search.cli.main import main
from protege.search.records.results import SUMS, checksum, weights_folder, write_checksums
from protege.search.running.coordinator import Coordinator
from protege.search.running.stopping import Stopping, StopRequest
from protege.search.storage.storage import read_study
from protege.search.study.artifacts import DECLARED, Artifacts
from protege.search.study.store import PROBE, Store
from protege.search.study.study import StoredStudy
from protege.spaces import BadInput, Teacher
from tests import s3
from tests.search.running.test_resume import stored as files_of
from tests.search.toys import WIDE, coordinated, toy


@pytest.fixture
def search(server: s3.Server, folder: Path, teacher: Teacher) -> Callable[..., Search]:
    """What makes a search whose weights go to the store; each time as a process that starts."""

    def made(**changes: Any) -> Search:
        store = f"s3://{server.bucket}/runs/toy"
        given: dict[str, Any] = {
            "space": WIDE,
            "race": None,
            "folder": folder / "run",
            "artifacts": store,
        }
        return toy(folder, **{"teacher": teacher, **given, **changes})

    return made


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def declared(study: Study) -> set[str]:
    """The names of all artifacts that Optuna knows of."""
    attributes = study._storage.get_study_system_attrs(study._study_id)
    return {name for name in attributes if name.startswith(DECLARED)}


def assert_store_is(front: Front, server: s3.Server, scratch: Path) -> None:
    """The store holds the weights of the front as the run folder does, and nothing besides."""
    assert len(server.names()) == len(front.members)
    assert front.sent is not None
    for trial in front.members:
        stored, kept = (weights_folder(folder, trial.number) for folder in (scratch, front.folder))
        front.sent.fetch(stored, checksum(kept))
        assert contents(stored) == contents(kept)
    assert len([*(scratch / "artifacts").iterdir()]) == len(front.members)


def test_the_store_holds_the_front_and_nothing_besides(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    front = search().run(trials=5)
    ever = declared(read_study(search().place))
    assert len(ever) > len(front.members) > 1  # some have left the front
    assert_store_is(front, server, tmp_path)
    assert all(path.name.startswith("trial-") for path in (front.folder / "artifacts").iterdir())


def test_a_student_is_exported_on_a_machine_without_the_run(
    search: Callable[..., Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = search().run(trials=4)
    best = front.members[-1]
    here = contents(front.export(best, tmp_path / "here"))
    shutil.rmtree(front.folder)
    monkeypatch.chdir(tmp_path)
    words = ["export", str(search().place), "--trial", str(best.number), "--to", "there"]
    assert main(words) == 0
    assert contents(tmp_path / "there") == here
    assert [path.name for path in (tmp_path / "runs/toy/artifacts").iterdir()] == [
        f"trial-{best.number:05d}"
    ]


def test_a_folder_is_a_store_too(search: Callable[..., Search], tmp_path: Path) -> None:
    store = tmp_path / "shared" / "toy"
    front = search(artifacts=str(store)).run(trials=3)
    assert len([*store.iterdir()]) == len(front.members)
    best = front.members[-1]
    here = contents(front.export(best, tmp_path / "here"))
    shutil.rmtree(front.folder / "artifacts")
    again = Front.read(search().place)
    assert contents(again.export(best.number, tmp_path / "there")) == here


def die(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


DEATHS: dict[str, tuple[type, str, int]] = {
    "while it is sent": (Store, "writing", 2),
    "between sending and telling": (StoredStudy, "tell", 3),
    "between telling and removing": (Artifacts, "sync", 3),
}
"""Where a process dies at the third trial, which beats the second, and how many are then there."""


@pytest.mark.parametrize("when", DEATHS)
def test_a_process_that_dies_leaves_nothing_behind_and_nothing_twice(
    when: str,
    search: Callable[..., Search],
    server: s3.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, name, there = DEATHS[when]
    search().run(trials=2)
    dying = search()
    with coordinated(dying) as coordinator, monkeypatch.context() as patch:
        patch.setattr(kind, name, die)
        with pytest.raises(KeyboardInterrupt):
            next(coordinator.go_on(Stopping(3), StopRequest()))
    before = declared(read_study(dying.storage))
    assert (len(before), len(server.names())) == (3, there)
    front = search().run(trials=3)
    assert {trial.number for trial in front.members} == {0, 2}
    assert [trial.number for trial in front.trials] == [0, 1, 2]
    assert_store_is(front, server, tmp_path)
    assert declared(read_study(dying.storage)) == before


def test_run_again_nothing_is_sent_again(
    search: Callable[..., Search], server: s3.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search().run(trials=4)
    before = files_of(first.folder), server.names()
    write = Store.write

    def only_the_probe(self: Store, artifact_id: str, content: BinaryIO) -> None:
        assert artifact_id == PROBE
        write(self, artifact_id, content)

    monkeypatch.setattr(Store, "write", only_the_probe)
    assert search().run(trials=4).trials == first.trials
    assert (files_of(first.folder), server.names()) == before


def test_what_was_trained_again_to_another_end_takes_the_place_of_the_first(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    front = search().run(trials=1)
    weights = weights_folder(front.folder, 0)
    (weights / "model.safetensors").write_bytes(b"another end")
    (weights / SUMS).unlink()
    write_checksums(weights)
    again = Artifacts.of(read_study(search().place), search().artifacts)
    assert again is not None
    again.put(weights)
    assert len(server.names()) == 2
    again.sync([weights])
    assert_store_is(front, server, tmp_path)
    assert len(declared(again.study)) == 2


def test_a_study_waits_for_a_store_that_is_away(
    search: Callable[..., Search],
    server: s3.Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure, measured, away = Memory.measure, [], []

    def stopping(self: Memory, candidate: Candidate) -> Measurement:
        measured.append(candidate)
        if len(measured) == 3:
            server.stop()
        return measure(self, candidate)

    def starting(record: logging.LogRecord) -> bool:
        if "is away" in record.getMessage():
            away.append(record.getMessage())
            server.start()
        return True

    monkeypatch.setattr(Memory, "measure", stopping)
    logger = logging.getLogger("protege")
    logger.addFilter(starting)
    try:
        front = search().run(trials=4)
    finally:
        logger.removeFilter(starting)
    assert_store_is(front, server, tmp_path)
    assert away == ["protege: artifacts s3://students/runs/toy is away, trying again for 300 s"]


@pytest.fixture
def lost(
    search: Callable[..., Search], server: s3.Server, caplog: pytest.LogCaptureFixture
) -> Iterator[Coordinator]:
    """A study three trials of which were told while the store was away; it is back now."""
    one = search()
    with coordinated(one) as coordinator:
        study = coordinator.study.optuna_study
        coordinator.artifacts = Artifacts(study, Store.at(one.artifacts), patience_s=0.2)
        server.stop()
        began = time.monotonic()
        told = [*coordinator.go_on(Stopping(3), StopRequest())]
        server.start()
        assert [trial.number for trial in told] == [0, 1, 2]
        assert time.monotonic() - began < 60
        assert (
            caplog.text.count("the study goes on, weights are kept in the run folder and sent") == 1
        )
        assert server.names() == []
        yield coordinator


def test_what_could_not_be_sent_is_sent_after_the_next_trial(
    lost: Coordinator, search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    next(lost.go_on(Stopping(4), StopRequest()))
    assert_store_is(Front.read(search().place), server, tmp_path)


@pytest.mark.usefixtures("lost")
def test_what_could_not_be_sent_is_sent_by_the_next_run(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    lacking = Front.read(search().place)
    own = (lacking.name, tmp_path, lacking.objectives, lacking.trials)
    lacking = Front(*own, sent=lacking.sent)
    message = r"on the front, but its weights are not in s3://students/runs/toy; run the study"
    with pytest.raises(BadInput, match=message):
        lacking.export(0)
    assert_store_is(search().run(trials=3), server, tmp_path)


def test_a_study_that_had_no_store_sends_its_front_when_it_has_one(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    search(artifacts="").run(trials=4)
    assert server.names() == []
    assert_store_is(search().run(trials=4), server, tmp_path)


def test_a_study_takes_weights_over_from_one_that_has_them_in_the_store_alone(
    search: Callable[..., Search], server: s3.Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = search().run(trials=3)
    weights = {t.key: contents(weights_folder(front.folder, t.number)) for t in front.members}
    shutil.rmtree(front.folder)
    monkeypatch.chdir(folder)
    other = f"sqlite:///{folder}/other.db"
    changes = {"artifacts": f"s3://{server.bucket}/other", "folder": folder / "other"}
    heir = search(storage=other, earlier=[search().place], **changes).run(trials=3)
    assert {t.key: contents(weights_folder(heir.folder, t.number)) for t in heir.members} == weights
    names = server.names()
    assert len([name for name in names if name.startswith("other/")]) == len(heir.members)
    assert len([name for name in names if name.startswith("runs/")]) == len(front.members)


def asked(app: Any, method: str, path: str) -> bytes:
    """What Optuna Dashboard answers."""
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path}
    setup_testing_defaults(environ)
    answer = app(environ, lambda *_: None)
    try:
        return b"".join(answer)
    finally:
        getattr(answer, "close", lambda: None)()


def test_the_dashboard_shows_them_and_what_is_removed_there_is_sent_again(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    dashboard = pytest.importorskip("optuna_dashboard")
    front = search().run(trials=2)
    study, store = read_study(search().place), Store.at(search().artifacts)
    meta = next(m for m in get_all_artifact_meta(study) if m.filename.startswith("trial-00000-"))
    app = dashboard.wsgi(study._storage, artifact_store=store)
    shown = asked(app, "GET", f"/artifacts/{study._study_id}/{meta.artifact_id}")
    download_artifact(
        artifact_store=store, artifact_id=meta.artifact_id, file_path=str(tmp_path / "file")
    )
    assert (tmp_path / "file").read_bytes() == shown
    asked(app, "DELETE", f"/api/artifacts/{study._study_id}/{meta.artifact_id}")
    assert len(server.names()) == len(front.members) - 1
    assert_store_is(search().run(trials=2), server, tmp_path)


def test_what_was_altered_in_the_store_is_not_taken(
    search: Callable[..., Search], server: s3.Server, tmp_path: Path
) -> None:
    front = search().run(trials=1)
    assert front.sent is not None
    name = server.names()[0]
    server.client.put_object(Bucket=server.bucket, Key=name, Body=b"not what it was")
    with pytest.raises(BadInput, match="not what was sent; remove it"):
        front.sent.fetch(weights_folder(tmp_path, 0), front.trials[0].weights)
    assert [*(tmp_path / "artifacts").iterdir()] == []
