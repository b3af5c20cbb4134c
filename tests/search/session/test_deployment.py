"""A study judges its students in the precision of its target, and says so."""

from pathlib import Path
from typing import Any

import pytest

from protege.objectives import Latency, LocalCPU, Memory, Retention, Workload
from protege.objectives.latency import Plan
from protege.objectives.machine.precision import Deployment
from protege.objectives.measurement import JUDGED_IN
from protege.search import Search
from protege.search.handover.exported import ExportedStudent
from protege.search.session.deployment import deployment_of
from protege.spaces import BadInput, Mismatch, Teacher
from tests.search.toys import toy

pytest.importorskip("onnxruntime")

INT8 = Deployment("onnxruntime", "int8")
QUICK = Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


def latency(label: str = "", **target: Any) -> Latency:
    return Latency(
        LocalCPU(**target), Workload(batch_size=1, prompt_tokens=8), plan=QUICK, label=label
    )


def searched(folder: Path, teacher: Teacher, **changes: Any) -> Search:
    objectives = [latency(runtime="onnxruntime", precision="int8"), Retention()]
    return toy(folder, **({"teacher": teacher, "objectives": objectives} | changes))


@pytest.mark.slow
def test_the_figures_of_finished_students_are_those_of_the_int8_graph(
    folder: Path, teacher: Teacher, tmp_path: Path
) -> None:
    search = searched(folder, teacher)
    front = search.run(trials=3)
    done = [one for one in front.trials if "retention" in one.measurements and not one.stopped_at]
    assert done
    for one in done:
        found = one.measurements["retention"]
        assert found.details[JUDGED_IN] == "int8 on onnxruntime"
        assert found.value != one.curve[max(one.curve)]
    assert "retention was judged in int8 on onnxruntime, other qualities in float32" in str(front)
    folder = front.export(front.students[0], tmp_path / "student")
    assert "judged in int8 on onnxruntime" in (folder / "README.md").read_text()
    published = ExportedStudent.read(folder).manifest["measurements"]["retention"]
    assert published["judged_in"] == "int8 on onnxruntime"
    again = search.confirm(folder)
    assert again["retention"] == pytest.approx(published["value"], abs=1e-3)


def test_float32_may_be_asked_for(folder: Path, teacher: Teacher) -> None:
    front = searched(folder, teacher, judged_as="float32").run(trials=3)
    done = [one for one in front.trials if "retention" in one.measurements]
    assert all(JUDGED_IN not in one.measurements["retention"].details for one in done)
    assert "qualities were judged in float32" in str(front)
    with pytest.raises(Mismatch, match=r"\(it judged in float32: judged_as='float32'\)"):
        searched(folder, teacher).run(trials=4)


def test_the_deployment_follows_the_targets() -> None:
    assert deployment_of([Memory(), latency()], None) is None
    one = latency(runtime="onnxruntime", precision="int8")
    assert deployment_of([one, latency("plain")], None) == INT8
    assert deployment_of([one], "float32") is None
    assert deployment_of([latency()], INT8) == INT8


@pytest.mark.parametrize(
    ("judged_as", "says"),
    [
        (None, "bfloat16 on eager and in int8 on onnxruntime"),
        ("int8", "expected 'float32', or a runtime"),
        (Deployment("tensorrt", "int8"), "judged on eager, compile, onnxruntime, openvino"),
        (Deployment("openvino", "int8"), "precision='int8' on openvino"),
        (Deployment("onnxruntime", "bfloat16"), "precision='bfloat16' on onnxruntime"),
        (Deployment("eager", "int8"), "precision='int8' on eager"),
    ],
)
def test_what_is_not_clear_is_refused(judged_as: Any, says: str) -> None:
    objectives = [latency(runtime="onnxruntime", precision="int8")]
    if judged_as is None:
        objectives.append(latency("half", precision="bfloat16"))
    with pytest.raises(BadInput, match=says):
        deployment_of(objectives, judged_as)
