"""Students are judged as their target runs them: in int8 or half precision, on its runtime."""

import pytest
import torch
from torch.nn.functional import cosine_similarity

from protege.objectives import Candidate, Retention, Score, Texts
from protege.objectives.candidate import Prepared
from protege.objectives.distillation.distillation import Distillation
from protege.objectives.latency.runtimes.deployed import deployed
from protege.objectives.machine.precision import Deployment
from protege.objectives.objective import judges_deployed
from protege.spaces import Cache, Student, Teacher
from tests.tiny import CASES, texts

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

pytestmark = pytest.mark.slow

HOWS = [
    Deployment("eager", "bfloat16"),
    Deployment("onnxruntime", "int8"),
    Deployment("openvino", "float32"),
]
CLOSE = {"bfloat16": 0.1, "int8": 0.3, "float32": 1e-4}


def candidate_of(teacher: Teacher, cache: Cache) -> Candidate:
    settings = Distillation(Texts.of(texts()), steps=0, selection=16, max_tokens=16)
    sizes = teacher.architecture.scaled(layers=0.5)
    return Candidate(Prepared(teacher, cache, settings), sizes).holding(teacher.student(sizes))


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("case", ["bert-sentences", "bert-texts", "bert-tokens", "bert-masked"])
def test_a_deployed_student_answers_nearly_the_same(
    case: str, how: Deployment, cache: Cache
) -> None:
    own = candidate_of(CASES[case].teacher(), cache)
    found = deployed(own, how)
    batch = own.prepared.data.selected.batch([0, 1, 2])
    task = own.prepared.data.task
    with torch.no_grad():
        expected = task.answer(own.student.module, batch)
        answer = task.answer(found.student.module, batch)
    assert answer.shape == expected.shape
    assert answer.dtype == torch.float32
    difference = float((answer - expected).norm() / expected.norm())
    assert difference < CLOSE[how.precision]
    if how.precision != "float32":
        assert difference > 1e-5


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_decoders_are_judged_too(how: Deployment, cache: Cache) -> None:
    own = candidate_of(CASES["llama-causal-grouped"].teacher(), cache)
    plain, found = (Retention().measure(one).value for one in (own, deployed(own, how)))
    assert found == pytest.approx(plain, abs=0.5)
    if how.precision == "float32":
        assert found == pytest.approx(plain, abs=1e-3)


def test_an_int8_retention_is_that_of_the_exported_graph(cache: Cache) -> None:
    own = candidate_of(CASES["bert-sentences"].teacher(), cache)
    found = deployed(own, Deployment("onnxruntime", "int8"))
    data = own.prepared.data
    with torch.no_grad():
        vectors = torch.cat([found.student.module(**b.inputs) for b in data.selected.in_order(4)])
        theirs = own.teacher.embedder()
        assert theirs is not None
        wanted = torch.cat([theirs(**b.inputs) for b in data.selected.in_order(4)])
    value = float(cosine_similarity(vectors, wanted).mean())
    assert Retention().measure(found).value == pytest.approx(value, abs=1e-3)
    assert Retention().measure(found).value != Retention().measure(own).value


def test_scores_read_a_deployed_encoder(cache: Cache) -> None:
    own = candidate_of(CASES["bert-sentences"].teacher(), cache)
    found = deployed(own, Deployment("onnxruntime", "int8"))

    def norm(student: Student) -> float:
        return float(student.encode(texts(4)).norm())

    assert Score("norm", norm).measure(found).value == pytest.approx(2.0, abs=1e-3)


def test_what_lets_students_write_is_judged_in_float32() -> None:
    encoder, decoder = (CASES[one].teacher() for one in ("bert-sentences", "llama-causal-grouped"))
    score = Score("anything", lambda _: 1.0)
    assert judges_deployed(score, encoder)
    assert not judges_deployed(score, decoder)
    assert judges_deployed(Retention(), decoder)
