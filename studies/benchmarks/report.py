"""Measure the report of a study of 300 trials: building, size, first view, accessibility.

Needs Chromium, and axe-core as the package ``axe-core-python`` carries it. The first view is the
time until the plot of the front is seen, from the start of the navigation, in a window of 1280 by
900 pixels; it is the picture that Plotly replaces. The work is that of the main thread until then:
the page is held before it reads Plotly. Another view measures the time until Plotly has drawn.
"""

import json
import random
import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from protege.objectives import Measurement
from protege.objectives.latency import ERROR_FLOOR
from protege.search import Front, State, Trial
from protege.search.analysis.confirmation import Confirmation
from protege.search.cli.main import guarded
from protege.search.records.baseline import BaselineRecord
from protege.search.records.objectives import ObjectiveRecord, ObjectiveRecords
from protege.search.report.page import write_report
from studies.benchmarks.chromium import Chromium
from studies.benchmarks.figures import Figure
from studies.benchmarks.parts import run_parts

TRIALS, EXAMPLES = 300, 200

TEACHER: dict[str, Any] = {
    "model_type": "bert",
    "num_hidden_layers": 12,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "head_dim": 32,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "layer_policy": "greedy",
    "width_policy": "surgeon",
    "healing": "sequential",
}

OBJECTIVES = (
    ObjectiveRecord("latency_ms", "ms", "minimize", 45.0),
    ObjectiveRecord("retention", "", "maximize"),
    ObjectiveRecord("sts", "", "maximize", 0.3),
)

FIRST_PLOT = """
new MutationObserver((_, observer) => {
  if (!document.querySelector(".static > svg")) return;
  observer.disconnect();
  // after the frame in which it is painted
  frame(() => setTimeout(() => { window.firstPlot = performance.now(); }));
}).observe(document, { childList: true, subtree: true });
"""

DRAWN = """
addEventListener("drawn", () => { window.drawnAt ??= performance.now(); }, true);
"""

HELD = """
const frame = requestAnimationFrame.bind(window);
window.requestAnimationFrame = (go) => { window.go = go; };
"""
"""Holds the page after its first paint, until `go` is called, so that it does not read Plotly."""


def large_front(folder: Path, count: int = TRIALS) -> Front:
    """Return a front made up at random: trials in every state, ties, a baseline, confirmations."""
    draw = random.Random(7)
    hard = [draw.gauss(0, 0.05) for _ in range(EXAMPLES)]
    trials = tuple(_trial(number, draw, hard) for number in range(count))
    baseline = BaselineRecord("static", "static.safetensors", "key-b", {}, _measured(2, 0.4, hard))
    about: dict[str, Any] = {
        "teacher": {"key": "key-0", "source": "org/teacher", "architecture": TEACHER},
        "naive": "key-1",
        "processor": "AMD EPYC",
        "students": 1728,
        "seconds": {"latency": 900.0, "distil": 9000.0, "evaluate": 700.0},
        "baselines": [baseline.record()],
    }
    front = Front("large", folder, ObjectiveRecords(OBJECTIVES), trials, about)
    for trial in front.students[::3]:
        again = {
            name: found.value * draw.uniform(0.96, 1.02)
            for name, found in trial.measurements.items()
        }
        Confirmation(trial.number, trial.weights, again).store(folder)
    return front


def _trial(number: int, draw: random.Random, hard: list[float]) -> Trial:
    sizes = TEACHER | {
        "num_hidden_layers": draw.randint(2, 12),
        "hidden_size": 32 * draw.randint(4, 12),
        "intermediate_size": 128 * draw.randint(2, 12),
    }
    sizes = {0: TEACHER, 1: TEACHER | {"num_hidden_layers": 6}}.get(number, sizes)
    layers, hidden = sizes["num_hidden_layers"], sizes["hidden_size"]
    weights = layers * (4 * hidden**2 + 2 * hidden * sizes["intermediate_size"])
    share = weights / (12 * (4 * 384**2 + 2 * 384 * 1536))
    quality = 1 - 0.5 * (1 - share**0.4) ** 1.5 - draw.uniform(0, 0.1) * (number > 0)
    quality *= 0.6 if number == 1 else 1
    state = State.STOPPED if number > 20 and draw.random() < 0.3 else State.COMPLETE
    rungs = {step: {"retention": quality * (1 - 0.2 / (1 + step / 10))} for step in (0, 7, 20)}
    return Trial(
        number,
        f"key-{number}",
        sizes,
        state,
        _measured(1 + 49 * (0.2 * layers / 12 + 0.8 * share), quality, hard),
        reason="dominated by a third of the trials" if state is State.STOPPED else "",
        rungs=rungs if number else {},
        parameters=weights + hidden * 30522,
    )


def _measured(ms: float, quality: float, hard: list[float]) -> dict[str, Measurement]:
    details: dict[str, float | str] = {"speedup": 50 / ms, "grade": "A", ERROR_FLOOR: "1.5%"}
    examples = tuple(quality + one for one in hard)
    return {
        "latency_ms": Measurement(ms, 0.015 * ms, (), details),
        "retention": Measurement(quality, 0.05 / EXAMPLES**0.5, (), {}, examples),
        "sts": Measurement(0.8 * quality, 0.03, (), {}, examples),
    }


def figures(*, quick: bool) -> Iterator[Figure]:
    """Build reports, and view them in fresh browsers."""
    repeats = 1 if quick else 5
    with TemporaryDirectory() as name:
        folder = Path(name)
        page = folder / "index.html"
        built = []
        for _ in range(repeats):
            begin = time.perf_counter()
            write_report(large_front(folder), page)
            built.append(time.perf_counter() - begin)
        yield Figure.of("build seconds", built, "s", "at most 5")
        yield Figure.of("megabytes", [page.stat().st_size / 1e6], "MB", "at most 2.5")
        views = [first_view(page, folder / f"view-{number}") for number in range(repeats)]
        whole = [drawn_at(page, folder / f"drawn-{number}") for number in range(repeats)]
        yield Figure.of("first view seconds", [at for at, _ in views], "s", "at most 1")
        yield Figure.of("main thread seconds", [work for _, work in views], "s", "at most 0.7")
        yield Figure.of("drawn by Plotly seconds", whole, "s")
        yield Figure.of("axe serious", [float(len(serious(page, folder / "axe")))])


def first_view(page: Path, profile: Path) -> tuple[float, float]:
    """Return the seconds until the first plot is seen, and those that the main thread worked."""
    with Chromium(profile) as browser:
        tab = browser.tab()
        tab.send("Page.addScriptToEvaluateOnNewDocument", source=HELD + FIRST_PLOT)
        before = tab.work_s()
        tab.open(page)
        tab.wait("window.firstPlot")
        time.sleep(1)
        return tab.evaluate("window.firstPlot") / 1000, tab.work_s() - before


def drawn_at(page: Path, profile: Path) -> float:
    """Return the seconds until Plotly has drawn the first plot."""
    with Chromium(profile) as browser:
        tab = browser.tab()
        tab.send("Page.addScriptToEvaluateOnNewDocument", source=DRAWN)
        tab.open(page)
        tab.wait("window.drawnAt")
        return float(tab.evaluate("window.drawnAt")) / 1000


def serious(page: Path, profile: Path) -> list[dict[str, Any]]:
    """Return what axe-core finds of serious or critical impact, with all folds open."""
    with Chromium(profile) as browser:
        tab = browser.tab()
        tab.open(page)
        tab.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        found = violations(tab)
    return [one for one in found if one["impact"] in {"serious", "critical"}]


def violations(tab: Any) -> list[dict[str, Any]]:
    """Return the violations that axe-core finds in an open page."""
    tab.evaluate(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = json.loads(
        tab.evaluate("axe.run().then((found) => JSON.stringify(found.violations))")
    )
    return found


if __name__ == "__main__":
    sys.exit(guarded(lambda: run_parts("report", __doc__ or "", {"report": figures})))
