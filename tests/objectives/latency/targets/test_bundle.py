import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from protege.objectives.latency import Plan, SavedModel, Workload, compare
from protege.objectives.latency.targets.bundle import PROCESSES, RESULTS, call_name, write_bundle
from protege.objectives.latency.targets.imported import Imported, read_results
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint
from tests.objectives.latency.made import Made

pytest.importorskip("onnxruntime")

Encoder = Callable[[int], Blueprint]


def bundle(tmp_path: Path, models: list[Blueprint], workload: Workload) -> Path:
    folder = tmp_path / "bundle"
    return write_bundle(
        models, workload, "onnxruntime", "float32", folder, Made(tmp_path / "programs")
    )


def test_a_bundle_names_every_program_and_says_what_to_do(tmp_path: Path, encoder: Encoder) -> None:
    models, workload = [encoder(1), encoder(2), encoder(1)], Workload(1, 8)
    folder = bundle(tmp_path, models, workload)
    manifest = json.loads((folder / "manifest.json").read_text())

    assert manifest["workload"] == asdict(workload)
    names = [model["name"] for model in manifest["models"]]
    assert names == [call_name(model, workload) for model in models[:2]]  # each once
    for model in manifest["models"]:
        assert model["stages"]["prefill"]["inputs"] == {"x": {"shape": [32, 32], "type": "float32"}}
        assert model["stages"]["prefill"]["program"] in model["sha256"]
        for file, sha256 in model["sha256"].items():
            assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == sha256
    assert manifest["models"][1]["sizes"]["num_hidden_layers"] == 2
    assert manifest["run"]["processes"] == PROCESSES
    assert manifest["results"]["format"] == RESULTS
    assert "pip install numpy onnxruntime" in (folder / "README.md").read_text()


def test_its_script_measures_what_the_study_then_reads(tmp_path: Path, encoder: Encoder) -> None:
    models, workload = [encoder(1), encoder(2)], Workload(1, 8)
    folder = bundle(tmp_path, list(models), workload)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["run"]["processes"] = 2
    manifest["run"]["job"]["plan"] |= {"warm_up_s": 0.0, "usual_pairs": 5, "pairs_s": 0.01}
    (folder / "manifest.json").write_text(json.dumps(manifest))

    script = [sys.executable, "-I", str(folder / "run.py"), "a", "board"]
    subprocess.run(script, check=True, capture_output=True, timeout=100)
    results = read_results(folder / "RESULTS.json")
    assert (results["device"], results["runtime"]) == ("a board", "onnxruntime")
    assert len(results["runs"]) == 2
    first, second = compare(models, workload, Imported(folder / "RESULTS.json"), Plan())
    assert first.ratio == 1.0
    assert second.ratio > 0
    assert "before" in results["runs"][0]["environment"]


def test_its_script_tells_why_a_model_does_not_run(tmp_path: Path, encoder: Encoder) -> None:
    folder = bundle(tmp_path, [encoder(1)], Workload(1, 8))
    (program,) = folder.rglob("model.onnx")
    program.write_text("not a model")
    script = [sys.executable, "-I", str(folder / "run.py")]
    done = subprocess.run(script, check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    assert "'failed': " in done.stderr
    assert not (folder / "RESULTS.json").exists()


def test_a_call_is_named_by_its_model_and_its_size(tmp_path: Path, encoder: Encoder) -> None:
    assert call_name(encoder(1), Workload(1, 8)) == call_name(encoder(1), Workload(1, 8))
    assert call_name(encoder(1), Workload(1, 8)) != call_name(encoder(2), Workload(1, 8))
    assert call_name(encoder(1), Workload(1, 8)) != call_name(encoder(1), Workload(2, 8))

    names = set()
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "config.json").write_text('{"hidden_size": 8}')
        checkpoint = SavedModel("BertModel", str(tmp_path / place))
        names.add(call_name(checkpoint, Workload(1, 8)))
    assert len(names) == 1  # by its content, wherever it is
    (tmp_path / "here/config.json").write_text('{"hidden_size": 9}')
    assert call_name(SavedModel("BertModel", str(tmp_path / "here")), Workload(1, 8)) not in names


def test_what_cannot_be_bundled_is_refused_and_leaves_nothing(
    tmp_path: Path, encoder: Encoder
) -> None:
    with pytest.raises(BadInput, match=r"^models=\[\]: expected one or more"):
        bundle(tmp_path, [], Workload(1, 8))
    with pytest.raises(BadInput, match="has positions for 32 tokens"):
        bundle(tmp_path, [encoder(1)], Workload(1, 64))
    with pytest.raises(BadInput, match="elsewhere, one of onnxruntime"):
        write_bundle([encoder(1)], Workload(1, 8), "eager", "float32", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    (tmp_path / "bundle").mkdir()
    with pytest.raises(BadInput, match="exists already; name a folder that does not"):
        bundle(tmp_path, [encoder(1)], Workload(1, 8))
