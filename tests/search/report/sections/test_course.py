"""How a study went: convergence, single calls, kept layers, time, and its record."""

import json
from pathlib import Path

import pytest

from protege.search import Front
from protege.search.records.results import weights_folder
from protege.search.report.parts import NotShown
from protege.search.report.sections import convergence, distributions, layers, provenance
from protege.search.session.about import versions
from protege.spaces.files.manifest import MANIFEST
from tests.search.report.drawn import LATENCY, RETENTION, classic
from tests.search.report.sections.made import GRID, made
from tests.search.toys import toy


def told(front: Front) -> str:
    """The sentence on the convergence of a study."""
    return convergence.convergence(front, convergence.progress(front)).sentence


def test_convergence_is_told_in_words() -> None:
    front = classic()
    volumes = convergence.progress(front)["hypervolume"].tolist()
    assert volumes[0] == 0
    assert told(front) == (
        "The last 4 trials added 100.0% to the hypervolume; 5 of 61 students were tried."
    )
    flat = made([(3, 24), *[(1, 8)] * 10])
    assert told(flat).startswith("The last 10 trials added ")
    found = convergence.convergence(flat, convergence.progress(flat))
    frame = convergence.progress(flat)["hypervolume"].tolist()
    assert found.added == pytest.approx((frame[-1] - frame[-11]) / frame[-1])
    assert told(classic(about={})) == "5 students were tried."


def test_calls_are_drawn_by_their_quantiles_the_fastest_first() -> None:
    front = made(GRID[:3])
    frame = distributions.distributions(front, LATENCY)
    assert frame["trial"].tolist() == [10, 11, 12, 0]
    ratio = 2 / 24  # of the first to the teacher; its samples are 0.9 to 1.1 of it
    assert frame["samples"].tolist() == [21] * 4
    expected = [0.91, 0.95, 1.0, 1.05, 1.09]
    first = frame[[*distributions.ENDS]].to_numpy()[0]
    assert first.tolist() == pytest.approx([ratio * share for share in expected])
    figure = front.plot_latency()
    assert list(figure.layout.yaxis.categoryarray) == ["t10", "t11", "t12", "t0"]


def test_of_many_students_those_of_the_front_are_drawn() -> None:
    frame = distributions.distributions(made(GRID * 6), LATENCY)
    rows = distributions.drawn_rows(frame)
    assert len(frame) > len(rows) == distributions.MOST
    assert rows["on_front"].sum() == frame["on_front"].sum()
    assert rows["middle"].is_monotonic_increasing


def test_an_objective_without_samples_has_no_calls_to_draw() -> None:
    with pytest.raises(NotShown, match="Retention was measured without samples"):
        distributions.distributions(made(), RETENTION)
    with pytest.raises(NotShown, match="No objective"):
        classic().plot_latency()


def test_layers_are_counted_by_the_students_that_keep_them(tmp_path: Path) -> None:
    front = made([(1, 8), (2, 16), (3, 24)], folder=tmp_path)
    for number, kept in ((10, [0]), (11, [0, 3]), (12, [0, 1, 3])):
        folder = weights_folder(tmp_path, number)
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_text(json.dumps({"kept": {"layers": {"encoder": kept}}}))
    frame = layers.layers(front)
    assert frame["kept"].tolist() == [3, 1, 0, 2]
    assert set(frame["students"]) == {3}
    assert list(front.plot_layers().data[0].y) == pytest.approx([1, 1 / 3, 0, 2 / 3])
    with pytest.raises(NotShown, match="dropped layers"):
        layers.layers(made(folder=tmp_path / "elsewhere"))


def test_the_record_of_a_study_is_enough_to_repeat_it(tmp_path: Path) -> None:
    search = toy(tmp_path)
    front = search.run(trials=3)
    frame = provenance.provenance(front)
    found = {(part, name): value for part, name, value in frame.to_numpy()}
    assert found["Study", "seed"] == str(search.seed)
    assert found["Teacher", "fingerprint"] == search.teacher.fingerprint
    for package, version in versions().items():
        assert found["Versions", package] == version
    assert {"python", "torch", "transformers", "optuna"} <= versions().keys()
    assert int(found["Host", "cores"]) >= 1
    assert found["Space", "layers.low"] == "0.25"
    assert found["Distillation", "steps"] == "2"
    assert ("Distillation", "data.fingerprint") in found
    assert {name for part, name in found if part == "Objectives"} == {"memory_mb", "retention"}
