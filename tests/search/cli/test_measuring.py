import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from protege.search import Front
from protege.search.cli.main import main


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Checkpoints of two encoders, one twice as deep as the other."""
    place = tmp_path_factory.mktemp("models")
    found = []
    for layers in (8, 4):
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=40,
            hidden_size=32,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=32,
        )
        found.append(str(place / f"{layers}-layers"))
        BertModel(config).save_pretrained(found[-1])
    return found


def test_models_are_timed_side_by_side_and_every_sample_kept(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw.json"
    assert main(["measure", *folders, "--tokens", "16", "--samples", str(raw)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("eager, 1 thread; 1 x 16 tokens\n")
    assert all(name in shown for name in (*folders, "speedup", "first call ms", str(raw)))
    stored = json.loads(raw.read_text())
    first, second = (stored["models"][folder] for folder in folders)
    assert first["speedup"] == 1
    assert second["speedup"] > 1.2
    assert second["ms"] == pytest.approx(first["ms"] / second["speedup"])
    rounds = second["traces"][0]["rounds"]
    assert all(len(row) == 2 and len(row[0]) == 5 for row in rounds)
    assert stored["target"]["runtime"] == "eager"


def test_one_model_alone_is_just_timed(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", folders[1], "--tokens", "8", "--percentile", "90"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("model")
    assert "p90 ms" in lines[1]
    assert lines[2].startswith(folders[1])
    assert all(line.startswith("grade ") for line in lines[3:])  # what other work did to it


def test_a_model_beside_itself_is_a_slip(
    folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", folders[0], folders[0]]) == 2
    assert "expected each of them once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--target", "toaster"], "target 'toaster': expected one of cpu, cuda, mps, ssh:HOST"),
        (["--target", "ssh"], "target 'ssh': expected one of"),
        (["--target", "cuda"], "no CUDA device here"),
        (["--target", "mps", "--threads", "2"], "--threads and --cores do not apply"),
        (["--cores", "a"], "--cores a: expected a list such as 2,3"),
        (["--cores", "1,1"], "--cores 1,1: expected each core once, in order"),
        (["--cores", "999"], "cores=(999,): expected 1 or more of"),
        (["--tokens", "64"], "BertModel has positions for 32 tokens"),
        (["--tokens", "8", "--new-tokens", "4"], "BertModel generates no tokens"),
        (["--tokens", "8", "--new-tokens", "-1"], "new_tokens must be a whole number"),
        (["--precision", "int8"], "precision='int8' on eager: expected one of float32"),
    ],
)
def test_what_cannot_be_measured_is_told_in_one_line(
    folders: list[str], words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", folders[0], *words]) == 2
    loading, said = capsys.readouterr().err.splitlines()
    assert loading == "loading models ..."
    assert said.startswith("protege: error: ")
    assert told in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "--tokens", "0"], 'Invalid value "0" for --tokens. Must be >= 1'),
        (["a", "--tokens", "1.5"], "Invalid value for --tokens: '1.5' is not a whole number"),
        (["a", "--percentile", "75"], 'Invalid value "75" for --percentile. Choose from: 50, 90'),
        (["a", "--runtime", "tvm"], 'Invalid value "tvm" for --runtime. Choose from: "eager"'),
        (["a", "--minutes", "x"], 'Invalid value for --minutes: unable to convert "x" into float'),
        (["a", "--new-tokens"], 'Command "measure" parameter --new-tokens requires an argument'),
        (["a", "--treads", "2"], "Unknown option: --treads. Did you mean --threads?"),
        ([], 'Command "measure" parameter MODELS requires an argument'),
    ],
)
def test_words_that_mean_nothing_are_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", *words]) == 2
    assert f"protege: error: {told}" in capsys.readouterr().err


def test_a_model_that_is_nowhere_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["measure", "nobody/nothing"]) == 2
    assert "nobody/nothing: no such folder, and no model of that id" in capsys.readouterr().err


def test_the_doctor_says_how_noisy_it_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for subject in ("target", "cores", "runtime eager", "a model against itself", "interrupted"):
        assert f"\n{subject}" in f"\n{shown}"


def test_a_run_is_measured_elsewhere_and_its_tables_tell(
    run_folder: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "run"
    shutil.copytree(run_folder, run)
    assert main(["measure", str(run), "--tokens", "8"]) == 0
    shown = capsys.readouterr().out
    front = Front.read(run)
    students = [trial for trial in front.members if trial is not front.teacher]
    assert students
    assert all(trial.label in shown for trial in students)
    (label, found) = next(iter(front.measured.items()))
    assert label == "eager, 1 thread; 1 x 8 tokens"
    assert set(found) == {"teacher", *(trial.label for trial in students)}
    assert list(front.table[f"{label}_ms"]) == [
        found["teacher" if trial is front.teacher else trial.label] for trial in front.members
    ]
    assert f"{label} ms" in str(front)
    assert f"{label} (ms)" in front.report().read_text(encoding="utf-8")


def test_a_run_is_not_measured_beside_a_model(
    run_folder: Path, folders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["measure", str(run_folder), folders[0]]) == 2
    assert "expected models, or one run alone" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_come_back_from_a_bundle(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    bundle, asked = tmp_path / "bundle", ["measure", *folders, "--tokens", "8"]
    assert main([*asked, "--bundle", str(bundle)]) == 0
    assert str(bundle) in capsys.readouterr().out
    subprocess.run([sys.executable, "run.py"], cwd=bundle, check=True, capture_output=True)
    results = bundle / "RESULTS.json"
    assert main([*asked, "--import", str(results)]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].endswith("from RESULTS.json; 1 x 8 tokens")
    record = json.loads(results.read_text())
    assert record["runs"]
    for run in record["runs"]:
        for one in run["models"].values():
            one["ms"] = [2.0] * len(one["ms"])
    results.write_text(json.dumps(record))
    assert main([*asked, "--import", str(results)]) == 0
    assert [line.split()[1:4] for line in capsys.readouterr().out.splitlines()[2:]] == [
        ["2", "0", "1"],
        ["2", "0.03", "1"],
    ]
    assert main(["measure", *folders, "--tokens", "9", "--import", str(results)]) == 2
    assert "RESULTS.json" in capsys.readouterr().err
