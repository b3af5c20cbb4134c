import json
import os
import shutil
import stat
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
import yaml  # type: ignore[import-untyped]
from sentence_transformers import SentenceTransformer

from protege.objectives import Measurement
from protege.search import Front, State, Trial
from protege.search.handover.checkpoint import published
from protege.search.records.objectives import ObjectiveRecords
from protege.search.records.plain import code
from protege.search.report.captions import plot_notes
from protege.search.session.about import about
from protege.spaces import BadInput, Teacher
from tests.search.toys import WIDE, teacher, toy
from tests.tiny import CASES, texts
from tests.zoo import head, marked


@pytest.fixture
def student(front: Front, folder: Path) -> Path:
    """The smallest student of the front, exported."""
    return front.export(front.members[0], folder / "student")


def front_matter(folder: Path) -> dict[str, object]:
    """What the Hugging Face hub reads of the card."""
    _, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(matter)
    return found


def test_the_record_says_all_that_is_needed_to_make_the_student_again(
    front: Front, teacher: Teacher, student: Path
) -> None:
    trial = front.members[0]
    record = json.loads((student / "protege.json").read_text(encoding="utf-8"))
    assert record["architecture"] == trial.architecture
    assert record["teacher"]["fingerprint"] == teacher.fingerprint
    assert record["study"] == {"name": "toy", "seed": 0, "trial": trial.number}
    assert len(record["kept"]["layers"]["encoder"]) == trial.architecture["num_hidden_layers"]
    assert record["measurements"]["retention"]["value"] == trial.measurements["retention"].value
    assert record["training"]["steps"] == 2
    assert record["training"]["best_step"] in {0, 2}
    assert [objective["name"] for objective in record["goals"]] == ["memory_mb", "retention"]
    assert record["versions"]["torch"] == torch.__version__


def test_the_card_is_one_the_hub_can_read(front: Front, student: Path) -> None:
    matter = front_matter(student)
    assert matter["library_name"] == "sentence-transformers"
    assert matter["pipeline_tag"] == "sentence-similarity"
    assert "base_model" not in matter  # the teacher is a folder, not an id on the hub
    card = (student / "README.md").read_text(encoding="utf-8")
    trial = front.members[0]
    assert f"# {trial.label}" in card
    assert f"| `retention` | {trial.measurements['retention'].value:.4g} |" in card
    assert "SentenceTransformer(" in card
    assert f"For the full training of t{trial.number} plan" in card
    assert "`protege train path/to/this/folder --data FILE --epochs 3`" in card


NAMES = ["a`b|c", "<script>alert(1)</script>", "x\n---\nevil: yes\n", "\u202egnp", "](http://x)"]
"""Names that would be Markdown, HTML or YAML of their own."""


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_card_are_text(front: Front, folder: Path, name: str) -> None:
    trial = front.members[0]
    details = {"grade": "C", "error_floor": "1.5%"}
    odd = replace(
        trial,
        measurements={**trial.measurements, name: Measurement(8.0, 0.12, (), details)},
    )
    teacher = {**front.about["teacher"], "source": name, "is_hub_id": True}
    about = {**front.about, "name": name, "teacher": teacher}
    replace(front, about=about).export(odd, folder / "student")
    assert "base_model" not in front_matter(folder / "student")  # it is no id on the hub
    assert "evil" not in front_matter(folder / "student")
    card = (folder / "student" / "README.md").read_text(encoding="utf-8")
    body = card.split("---\n", 2)[2]
    assert body.count(code(name)) >= 2  # study and measurement
    assert f"| {code(name)} | 8 | 0.12 (floor) |" in body
    assert "An error marked (floor) is 1.5% of the value" in body
    assert f"The figure of {code(name)} has the grade C" in body
    assert all(line.isprintable() for line in body.splitlines())


def test_every_student_on_the_front_loads_as_a_sentence_transformer(
    front: Front, folder: Path
) -> None:
    for trial in front.members:
        path = front.export(trial, folder / trial.label)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vectors = SentenceTransformer(str(path), device="cpu").encode(texts(3))
        assert vectors.shape == (3, 24)


def test_a_student_loads_with_the_class_its_card_names(front: Front, student: Path) -> None:
    model = transformers.AutoModel.from_pretrained(student)
    architecture = front.members[0].architecture
    assert model.config.num_hidden_layers == architecture["num_hidden_layers"]
    assert model.config.intermediate_size == architecture["intermediate_size"]


@pytest.mark.parametrize(
    "kind", marked((kind for kind in CASES if kind != "bert-sentences"), by=head)
)
def test_what_is_exported_retains_what_the_study_measured(folder: Path, kind: str) -> None:
    search = toy(folder / "run", teacher=teacher(kind), space=WIDE)
    front = search.run(trials=4)
    for trial in front.members:
        again = search.confirm(front.export(trial, folder / trial.label))
        assert again["retention"] == pytest.approx(trial.measurements["retention"].value, abs=1e-6)
        class_name = front_matter(folder / trial.label)["pipeline_tag"]
        assert class_name == str(search.teacher.task)
    auto_class = getattr(transformers, search.teacher.task.auto_class)
    auto_class.from_pretrained(folder / front.members[0].label)


def test_nothing_is_written_over(front: Front, student: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in student.rglob("*")}
    with pytest.raises(BadInput, match="student: not empty; export into a new folder"):
        front.export(front.members[-1], student)
    assert {path: path.stat().st_mtime_ns for path in student.rglob("*")} == before


def test_a_file_in_the_way_is_no_place_to_export_to(front: Front, folder: Path) -> None:
    (folder / "taken").write_text("mine")
    with pytest.raises(BadInput, match="taken: not empty"):
        front.export(front.members[0], folder / "taken")
    assert (folder / "taken").read_text() == "mine"


def test_an_empty_folder_is_filled(front: Front, folder: Path) -> None:
    (folder / "empty").mkdir()
    assert (front.pick().export(folder / "empty") / "model.safetensors").exists()
    assert [path.name for path in folder.iterdir()] == ["empty"]


def off_front(front: Front) -> Trial:
    numbers = {trial.number for trial in front.members}
    return next(trial for trial in front.trials if trial.number not in numbers)


def test_a_trial_off_the_front_has_no_weights_to_export(front: Front, folder: Path) -> None:
    trial = off_front(front)
    why = "not on" if trial.state is State.COMPLETE else trial.state
    message = (
        rf"trial {trial.number} \({trial.label}\): weights are kept only for the front, "
        f"and this one is {why}"
    )
    with pytest.raises(BadInput, match=message):
        front.export(trial.number, folder / "none")
    assert list(folder.iterdir()) == []


PRIVATE = ("me@pi.lan", "/home/me", "id_rsa", "secret-host", "hunter2", "Turing-7")
"""What a study may know, and an export does not tell."""


def told_much(front: Front) -> Front:
    """The front as a study leaves it that measured elsewhere, with a teacher from a folder."""
    declared = "SSH(host='me@pi.lan', options=('-i', '/home/me/.ssh/id_rsa'))"
    own = front.about
    teller = dict(own) | {
        "folder": "/home/me/runs/toy",
        "artifacts": "s3://hunter2/prefix",
        "processor": "Turing-7",
        "teacher": {**own["teacher"], "source": "/home/me/secret-host/teacher"},
        "goals": [{**objective, "declared": declared} for objective in own["goals"]],
    }
    details: dict[str, Any] = {
        "speedup": 2.0,
        "grade": "B",
        "target": "onnxruntime on me@pi.lan, 1 thread",
        "throttled": "throttled during the measurement on secret-host",
        "meter": "/home/me/meter",
        "/home/me/count": 3.0,
    }
    latency = {"latency_ms": Measurement(3.0, 0.1, details=details)}
    trials = [replace(t, measurements={**t.measurements, **latency}) for t in front.trials]
    return replace(front, trials=tuple(trials), about=teller)


def test_an_export_tells_nothing_of_this_machine_its_users_and_its_network(
    front: Front, folder: Path
) -> None:
    own = told_much(front)
    exported = own.export(own.members[0], folder / "student")
    files = [path for path in exported.rglob("*") if path.is_file()]
    assert {"README.md", "protege.json"} < {path.name for path in files}
    private = [*PRIVATE, str(front.folder), str(front.about["teacher"]["source"]), str(Path.home())]
    for path in files:
        content = path.read_bytes()
        assert [one for one in private if one.encode() in content] == [], path
    measured = json.loads((exported / "protege.json").read_text())["measurements"]["latency_ms"]
    assert measured == {"value": 3.0, "spread": 0.1, "speedup": 2.0, "grade": "B"}


def test_what_is_published_is_on_a_list(front: Front) -> None:
    teacher = {**front.about["teacher"], "new": "me"}
    more = {**front.about, "anything": "/home/me", "teacher": teacher}
    told = published(front.members[0], more)
    assert told == published(front.members[0], front.about)
    assert set(told) == {
        *("teacher", "label", "study", "measurements", "training", "goals", "workloads"),
        *("precisions", "versions"),
    }


def test_card_and_table_say_that_quality_was_judged_in_another_precision(
    front: Front, folder: Path
) -> None:
    declared = {"memory_mb": {"target": {"precision": "int8"}}, "retention": {}}
    own = replace(front, identity={**front.identity, "objectives": declared})
    assert "memory_mb was measured in int8; qualities were judged in float32" in str(own)
    assert "Memory_mb was measured in int8; qualities were judged in float32." in plot_notes(own)
    assert "judged in" not in str(front)
    exported = own.export(own.members[0], folder / "student")
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "`memory_mb` was measured in int8; qualities were judged in float32" in card


@pytest.fixture
def hub(teacher_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub with a model that was downloaded earlier; the folder that it is in."""
    repository = tmp_path / "hub" / "models--org--tiny-encoder"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(teacher_folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return repository / "snapshots" / commit


def base_model(front: Front, teacher: Teacher, target: Path) -> Any:
    """What the card of a student of that teacher says of it."""
    search = toy(front.folder, teacher=teacher)
    known: Mapping[str, Any] = about(search, ObjectiveRecords.of(search.objectives))
    told = replace(front, about=json.loads(json.dumps(known)))
    return front_matter(told.export(front.members[0], target)).get("base_model")


def test_the_base_model_is_the_teachers_id_on_the_hub(
    hub: Path, front: Front, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Teacher.load("org/tiny-encoder")
    assert base_model(front, named, folder / "named") == "org/tiny-encoder"
    assert "A student of `org/tiny-encoder`" in (folder / "named" / "README.md").read_text()
    assert base_model(front, Teacher.load(hub), folder / "snapshot") == "org/tiny-encoder"
    # a folder of that name that comes later is another model
    (folder / "org" / "tiny-encoder").mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert base_model(front, named, folder / "later") == "org/tiny-encoder"


@pytest.mark.parametrize("place", ["org/tiny", "tiny", "models--org--tiny"])
def test_a_teacher_from_a_folder_is_never_a_base_model(
    place: str,
    front: Front,
    folder: Path,
    teacher_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(teacher_folder, folder / place)
    monkeypatch.chdir(folder)
    local = Teacher.load(place)
    shutil.rmtree(folder / place)  # moved away while the study ran
    assert base_model(front, local, folder / "student") is None
    card = (folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "A student of a model that is not on the hub" in card


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_all_that_is_exported_has_the_mode_of_any_new_file(
    umask: int, front: Front, teacher: Teacher, folder: Path
) -> None:
    exported = front.export(front.members[0], folder / "student")
    wide = teacher.architecture.scaled(hidden=0.5)
    saved = teacher.fresh(replace(wide, healing="none")).save(folder / "saved")
    for path in (exported, *exported.rglob("*"), saved, *saved.rglob("*")):
        usual = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == usual & ~umask, path
