import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from protege.objectives.latency import Grade, Plan, Unmeasured, Workload, compare
from protege.objectives.latency.targets.bundle import call_name
from protege.objectives.latency.targets.imported import Imported, read_results
from protege.objectives.latency.targets.target import Target
from protege.spaces.errors import BadInput
from protege.spaces.models.blueprint import Blueprint

Encoder = Callable[[int], Blueprint]
WORKLOAD = Workload(1, 8)


def results(path: Path, *runs: dict[str, Any], **changes: Any) -> Path:
    record = {
        "format": "protege-results-1",
        "device": "a phone",
        "runtime": "executorch",
        "precision": "float32",
        "threads": 1,
        "runs": [{"models": models} for models in runs],
        **changes,
    }
    path.write_text(json.dumps(record))
    return path


def timed(*ms: float, **more: Any) -> dict[str, Any]:
    return {"first_ms": 9.0, "ms": list(ms), **more}


def test_figures_typed_in_by_hand_are_compared_run_by_run(tmp_path: Path, encoder: Encoder) -> None:
    one, two = (call_name(encoder(layers), WORKLOAD) for layers in (1, 2))
    path = results(
        tmp_path / "RESULTS.json",
        {one: timed(10, 10, 10, 10), two: timed(20, 20, 99)},
        {one: timed(10, 10, 10), two: timed(22, 22, 22)},
        {one: timed(10, 10, 10), two: timed(21, 21, 21)},
    )
    target: Target = Imported(path)
    first, second = compare([encoder(1), encoder(2)], WORKLOAD, target, Plan())
    assert first.latency_ms == 10
    assert second.ratio == pytest.approx(2.1)
    assert second.spread_ms / second.latency_ms > 0.05  # the runs differ, and it is told
    assert second.grade is Grade.A
    assert target.label == "executorch on a phone, from RESULTS.json"


def test_what_a_device_tells_beside_the_clock_is_kept(tmp_path: Path, encoder: Encoder) -> None:
    name = call_name(encoder(1), WORKLOAD)
    columns = {"cpu_ms": [1, 2, 3], "preemptions": [0, 0, 4], "prefill_ms": [1, 1, 1]}
    path = results(tmp_path / "RESULTS.json", {name: timed(4, 5, 6, **columns)})
    trace = Imported(path).trace([encoder(1)], WORKLOAD, Plan())
    assert trace.cold_ms == (9.0,)
    assert trace.rounds[2] == ((6.0, 3.0, 4, 1.0, 3.0),)


def test_other_content_is_another_description(tmp_path: Path, encoder: Encoder) -> None:
    name = call_name(encoder(1), WORKLOAD)
    before = Imported(results(tmp_path / "a", {name: timed(1, 1, 1)})).description()
    after = Imported(results(tmp_path / "a", {name: timed(1, 1, 2)})).description()
    assert before["device"] == after["device"] == "a phone"
    assert before != after


def test_a_model_that_is_missing_costs_its_trial_and_says_how_to_add_it(
    tmp_path: Path, encoder: Encoder
) -> None:
    one, two = (call_name(encoder(layers), WORKLOAD) for layers in (1, 2))
    path = results(tmp_path / "a", {one: timed(1, 1, 1)}, {two: timed(1, 1, 1)})
    missing = call_name(encoder(3), WORKLOAD)
    with pytest.raises(Unmeasured, match=f"no figures of BertModel {missing} .*write_bundle"):
        Imported(path).trace([encoder(1), encoder(3)], WORKLOAD, Plan())
    with pytest.raises(Unmeasured, match=r"no run with both models .*write_bundle.* on a phone"):
        Imported(path).trace([encoder(1), encoder(2)], WORKLOAD, Plan())


def test_generated_tokens_need_the_part_of_the_prompt(
    tmp_path: Path, decoder: Callable[[int], Blueprint]
) -> None:
    workload = Workload(1, 8, 4)
    name = call_name(decoder(1), workload)
    path = results(tmp_path / "a", {name: timed(9, 9, 9)})
    with pytest.raises(BadInput, match="lacks prefill_ms"):
        Imported(path).trace([decoder(1)], workload, Plan())
    path = results(tmp_path / "b", {name: timed(9, 9, 9, prefill_ms=[5, 5, 5])})
    (only,) = compare([decoder(1)], workload, Imported(path))
    assert only.parts_ms == {"prefill": 5, "per_token": 1}


@pytest.mark.parametrize(
    ("model", "changes", "says"),
    [
        (timed(1, 1, 1), {"format": "csv"}, "format is 'csv', expected 'protege-results-1'"),
        (timed(1, 1, 1), {"device": " "}, "device is ' ', expected a text"),
        (timed(1, 1, 1), {"threads": 0}, "threads is 0, expected 1 or more"),
        (timed(1, 1, 1), {"runs": []}, r"runs is \[\], expected a list"),
        (timed(1, 1, 1), {"runs": [7]}, r"runs\[0\] is int, expected an object"),
        (timed(1, 1), {}, r"runs\[0\]\.m\.ms has 2 calls, expected 3 or more"),
        (timed(1, 0, 1), {}, r"m\.ms has 0, expected milliseconds above 0"),
        (timed(1, 1, float("nan")), {}, r"m\.ms has nan, expected milliseconds above 0"),
        ({"ms": [1, 1, 1]}, {}, r"m\.first_ms has None, expected milliseconds above 0"),
        ({"first_ms": 1}, {}, r"m\.ms has None, expected milliseconds above 0"),
        (timed(1, 1, 1, cpu_ms=[1]), {}, r"m\.cpu_ms has 1 calls, expected 3"),
        (timed(1, 1, 1, preemptions=[0, -1, 0]), {}, r"has -1, expected numbers of at least 0"),
        (timed("1", 1, 1), {}, r"m\.ms has '1', expected milliseconds above 0"),  # type: ignore[arg-type]
        ([1], {}, r"m is list, expected an object"),
    ],
)
def test_a_file_in_another_form_is_one_line(
    tmp_path: Path, model: Any, changes: dict[str, Any], says: str
) -> None:
    path = results(tmp_path / "RESULTS.json", {"m": model}, **changes)
    with pytest.raises(BadInput, match=rf"^\S*RESULTS\.json: .*{says}"):
        read_results(path)


def test_a_file_that_is_not_there_or_no_json_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none cannot be read as JSON: .*No such file"):
        Imported(tmp_path / "none")
    (tmp_path / "text").write_text("milliseconds: 5")
    with pytest.raises(BadInput, match=r"text cannot be read as JSON: Expecting value"):
        Imported(tmp_path / "text")
