"""A search starts from a finished student, and the first teacher answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from protege.objectives import HiddenMSE
from protege.search import State
from protege.search.handover.exported import ExportedStudent
from protege.search.handover.plan import TrainingPlan
from protege.spaces import BadInput, Mismatch, Teacher
from tests.search.toys import distillation, toy
from tests.tiny import CASES, texts


def test_students_of_a_student_learn_from_the_first_teacher(
    tmp_path: Path, teacher: Teacher
) -> None:
    first = toy(tmp_path / "first", teacher=teacher).run(trials=5)
    middle = Teacher.load(first.export(first.students[0], tmp_path / "middle"))
    search = toy(tmp_path / "second", name="second", teacher=middle, answers_from=teacher)
    front = search.run(trials=3)
    start = front.teacher
    assert start is not None
    # the start is judged by the first teacher, which it does not equal
    known = first.students[0].measurements["retention"].value
    assert start.measurements["retention"].value == pytest.approx(known, rel=1e-5)
    assert {trial.state for trial in front.trials} <= {State.COMPLETE, State.STOPPED}
    student = front.export(front.members[0], tmp_path / "small")
    manifest = json.loads((student / "protege.json").read_text(encoding="utf-8"))
    assert manifest["teacher"]["fingerprint"] == middle.fingerprint
    assert manifest["answers_from"]["fingerprint"] == teacher.fingerprint
    assert ExportedStudent.read(student).teacher["fingerprint"] == teacher.fingerprint
    plan = TrainingPlan(steps=3, batch_size=8)
    trained = front.train(front.members[0], folder=tmp_path / "trained", plan=plan)
    own = Teacher.load(trained).embedder()
    asked = teacher.embedder()
    assert own is not None
    assert asked is not None
    given = dict(teacher.tokenizer(texts(2), return_tensors="pt", padding=True))
    given.pop("token_type_ids", None)
    with torch.no_grad():
        assert own(**given).shape == asked(**given).shape


def test_another_answering_teacher_is_another_study(tmp_path: Path, teacher: Teacher) -> None:
    search = toy(tmp_path, teacher=teacher)
    search.run(trials=2)
    other = CASES["bert-sentences"].teacher(1)
    with pytest.raises(Mismatch, match="answers_from: recorded nothing"):
        replace(search, answers_from=other).run(trials=3)


def test_a_teacher_that_cannot_answer_is_refused(tmp_path: Path, teacher: Teacher) -> None:
    with pytest.raises(BadInput, match=r"answers_from .*: text-classification"):
        toy(tmp_path, teacher=teacher, answers_from=CASES["bert-texts"].teacher())
    with pytest.raises(BadInput, match=r"with 10 outputs; expected .* with 24"):
        toy(tmp_path, teacher=teacher, answers_from=CASES["bert-sentences-dense"].teacher())
    own = distillation(losses=(HiddenMSE(),))
    with pytest.raises(BadInput, match="leave out one of the two"):
        toy(tmp_path, teacher=teacher, answers_from=teacher, distillation=own)
