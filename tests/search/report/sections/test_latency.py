import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protege.objectives import Measurement
from protege.objectives.latency.predictor.model import ENOUGH, LatencyModel, recorded
from protege.search import Front, State, Trial
from protege.search.report.page import page, write_report
from protege.search.report.sections import latency as report
from protege.search.report.style import FRONT
from protege.spaces import Architecture
from tests.objectives.latency.laws import encoder, law_ms, students
from tests.search.report.drawn import ABOUT, LATENCY, RETENTION, drawn, objective
from tests.search.report.pages import Browser, Page, printed

TEACHER = encoder(12, 512, 2048)
RECORD = {"batch_size": 1, "prompt_tokens": 128, "new_tokens": 0}
MEMORY = objective("memory_mb")


def measured(number: int, own: Architecture, share: float = 1.0) -> Trial:
    """A student whose latency follows the law, but for a share, and whose quality is its size."""
    found = {
        "latency_ms": Measurement(law_ms(own) * share, 0.01),
        "retention": Measurement(min(1.0, (law_ms(own) / law_ms(TEACHER)) ** 0.2), 0.01),
    }
    return Trial(number, own.key(), own.fields(), State.COMPLETE, found)


def study(count: int = 25, noise: float = 0.0, **about: Any) -> Front:
    """The teacher and so many students but one."""
    off = 1 + noise * np.random.default_rng(2).standard_normal(count)
    architectures = [TEACHER, *students(count - 1, seed=4)]
    trials = [measured(at, one, float(off[at])) for at, one in enumerate(architectures)]
    teacher = {
        "key": TEACHER.key(),
        "source": "org/teacher",
        "task": "feature-extraction",
        "architecture": TEACHER.fields(),
    }
    known = ABOUT | {"teacher": teacher, "naive": None, "workloads": {"latency_ms": RECORD}}
    return drawn([LATENCY, RETENTION], [], *trials, about=known | about)


def learned(front: Front) -> LatencyModel:
    return front.estimates.latency_models[LATENCY.name]


def test_students_of_other_families_are_left_out() -> None:
    front = study()
    static = {**front.trials[1].architecture, "model_type": "static"}
    gone = ("num_attention_heads", "num_key_value_heads", "head_dim")
    own = {size: value for size, value in static.items() if size not in gone}
    found = front.trials[1].measurements
    other = Trial(99, "static", own, State.COMPLETE, found)
    assert other.other_family
    more = replace(front, trials=(*front.trials, other))
    assert 99 not in set(report.held_out(more, learned(more))["trial"])
    assert len(page(more)) > len(page(front))


def test_every_student_is_shown_as_the_others_predict_it() -> None:
    front = study(noise=0.03)
    model = learned(front)
    frame = report.held_out(front, model)
    assert set(frame["trial"]) == set(range(25))
    assert frame["measured"].is_monotonic_increasing
    for row in frame.itertuples():
        value = front.trial(int(str(row.trial))).measurements["latency_ms"].value
        assert row.measured == value
        assert row.predicted == pytest.approx(value * (1 + float(str(row.error))))
    assert np.sort(frame["error"]) == pytest.approx(np.sort(model.leave_one_out()))
    on_front = set(frame.loc[frame["on_front"], "trial"])
    assert on_front == {member.number for member in front.members}


def test_students_of_one_set_of_sizes_are_one_point_under_the_first_of_them() -> None:
    front = study()
    twin = replace(front.trials[3], number=99, key="twin")
    twin = replace(twin, architecture={**twin.architecture, "healing": "one-shot"})
    frame = report.held_out(replace(front, trials=(*front.trials, twin)), learned(front))
    assert len(frame) == 25
    assert 99 not in set(frame["trial"])


def test_a_hover_tells_label_figures_and_error() -> None:
    front = study(noise=0.03)
    row = report.held_out(front, learned(front)).iloc[0]
    label = front.trial(int(row["trial"])).label
    assert row["hover"] == (
        f"<b>{label}</b><br>measured {row['measured']:.3g}, predicted {row['predicted']:.3g} "
        f"({row['error']:+.1%})"
    )


def test_the_caption_tells_the_mean_error() -> None:
    front = study(noise=0.03)
    off = np.abs(learned(front).leave_one_out())
    assert report.caption(report.held_out(front, learned(front))) == (
        f"Each student is predicted from the 24 others. The mean error is {off.mean():.1%}; "
        f"90% are within {np.quantile(off, 0.9):.1%}."
    )


def test_the_figure_has_a_line_where_both_agree_and_a_trace_for_the_front() -> None:
    front = study(noise=0.03)
    frame = report.held_out(front, learned(front))
    line, others, best = json.loads(report.figure(frame, LATENCY).to_json())["data"]
    assert line["x"] == line["y"]
    assert line["x"][0] <= frame[["measured", "predicted"]].to_numpy().min()
    assert (others["name"], best["name"]) == ("Other trials", FRONT)
    assert len(others["x"]) + len(best["x"]) == 25
    assert len(best["x"]) == len(front.members)


def test_costs_are_those_of_the_law_at_the_teacher_and_at_the_fastest_student() -> None:
    front = study()
    table = report.costs(front, LATENCY, learned(front))
    fastest = front.members[0]
    assert [column.title for column in table.columns] == [
        "One more",
        "At the teacher (ms)",
        f"At {fastest.label}, the fastest on the front (ms)",
    ]
    assert [row[0].text for row in table.rows] == [
        "layer",
        "64 channels of the hidden size",
        "256 feed-forward neurons",
    ]
    for at, own in enumerate((TEACHER, recorded(fastest.architecture)), start=1):
        deeper = replace(own, num_hidden_layers=own.num_hidden_layers + 1)
        cost = law_ms(deeper) - law_ms(own)
        figure, share = re.fullmatch(r"([\d.]+) \(([\d.]+)%\)", table.rows[0][at].text).groups()  # type: ignore[union-attr]
        assert float(figure) == pytest.approx(cost, rel=0.01)
        assert float(share) == pytest.approx(100 * cost / law_ms(own), abs=0.06)


def test_with_the_teacher_alone_on_the_front_costs_are_told_there_alone() -> None:
    front = study()
    worse = [
        replace(t, measurements={**t.measurements, "latency_ms": Measurement(1e6 + t.number)})
        for t in front.trials[1:]
    ]
    alone = replace(front, trials=(front.trials[0], *worse))
    titles = [column.title for column in report.costs(alone, LATENCY, learned(front)).columns]
    assert titles == ["One more", "At the teacher (ms)"]


@pytest.mark.parametrize(
    "front",
    [study(count=ENOUGH - 1), study(workloads={"memory_mb": RECORD})],
    ids=["too few", "no latency"],
)
def test_a_study_that_has_not_measured_enough_has_no_such_section(front: Front) -> None:
    assert report.latency_breakdowns(front) == []
    assert "What latency is made of" not in Page(page(front)).text


def test_each_latency_has_a_figure_and_a_table_of_its_own() -> None:
    front = study()
    second = objective("latency_pi5_ms")
    trials = [
        replace(trial, measurements={**trial.measurements, second.name: Measurement(9 * value)})
        for trial in front.trials
        for value in [trial.measurements["latency_ms"].value]
    ]
    about = {**front.about, "workloads": {"latency_ms": RECORD, second.name: RECORD}}
    both = drawn([LATENCY, second, RETENTION], [], *trials, about=about)
    shown = Page(page(both))
    assert {"made-of-latency_ms", "made-of-latency_pi5_ms"} <= set(shown.plots)
    assert shown.left_open == []
    one, other = report.latency_breakdowns(both)
    assert (one.plot.title, other.plot.title) == (
        "Latency (ms), predicted and measured",
        "Latency pi5 (ms), predicted and measured",
    )
    first, ninefold = (float(made.costs.rows[0][1].text.split()[0]) for made in (one, other))
    assert ninefold == pytest.approx(9 * first, rel=0.02)


def test_the_plot_says_in_words_what_it_shows() -> None:
    (made,) = report.latency_breakdowns(study())
    assert made.plot.says == f"Scatter plot of 25 students. {made.caption}"
    assert "The mean error is 0.0%" in made.caption


def test_a_browser_draws_the_section_and_has_nothing_to_say(
    tmp_path: Path, browser: Browser
) -> None:
    path = write_report(study(noise=0.02), tmp_path / "index.html")
    document, console = browser(printed(path))
    drawn_plots = re.findall(r'class="plot js-plotly-plot" id="([\w-]+)"', document)
    assert "made-of-latency_ms" in drawn_plots
    assert "64 channels of the hidden size" in document
    assert "CONSOLE" not in console
