import json
import warnings
from pathlib import Path

import pytest
import torch
import transformers
import yaml  # type: ignore[import-untyped]
from sentence_transformers import SentenceTransformer

from protege.objectives import Memory
from protege.search import Front, Trial
from protege.spaces import BadInput, Teacher
from tests.search.toys import WIDE, retention, teacher, toy
from tests.tiny import CASES, texts


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
    assert record["measurements"]["retention"]["steps"] == 2
    assert [goal["name"] for goal in record["goals"]] == ["memory_mb", "retention"]
    assert record["versions"]["torch"] == torch.__version__


def test_the_card_is_one_the_hub_can_read(front: Front, student: Path) -> None:
    matter = front_matter(student)
    assert matter["library_name"] == "sentence-transformers"
    assert matter["pipeline_tag"] == "sentence-similarity"
    assert "base_model" not in matter  # the teacher is a folder, not an id on the hub
    card = (student / "README.md").read_text(encoding="utf-8")
    trial = front.members[0]
    assert f"# {trial.label}" in card
    assert f"| retention | {trial.measurements['retention'].value:.4g} |" in card
    assert "SentenceTransformer(" in card


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


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "bert-sentences"])
def test_what_is_exported_retains_what_the_study_measured(folder: Path, kind: str) -> None:
    search = toy(
        folder / "run", teacher=teacher(kind), space=WIDE, objectives=[Memory(), retention()]
    )
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
    message = (
        rf"trial {trial.number} \({trial.label}\): its weights were not kept, for it is not on"
    )
    with pytest.raises(BadInput, match=message):
        front.export(trial.number, folder / "none")
    assert list(folder.iterdir()) == []
