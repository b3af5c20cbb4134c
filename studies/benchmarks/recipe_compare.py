"""Compare protege's search with the recipe written by hand, for the same time on the same machine.

Both get the demo's teacher, texts, sizes, call and objectives (latency and retention), one after
the other, each in a new process whose start counts. Students of both fronts are measured again by
`recipe_judge` on tweets, which neither search has seen. Three seeds of 8 minutes for
each search of MiniLM and 15 for SmolLM2 are 138 minutes, besides judging.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

from protege.search import Front
from protege.search.cli.main import guarded
from protege.search.storage.storage import read_study
from studies.benchmarks.figures import FOLDER, Figure, conclude, known
from studies.benchmarks.recipe_course import Course, Point, front_of
from studies.benchmarks.recipe_judge import Judged
from studies.benchmarks.recipe_picture import draw
from studies.benchmarks.recipe_protege import MODELS, task
from studies.snippets import snippets

MINUTES = {"minilm": 8.0, "smollm2": 15.0}
QUICK_MINUTES = 1.0

TEXTS, QUICK_TEXTS = 400, 60
"""Tweets that students are judged on."""

PAIRS = {"minilm": 60, "smollm2": 12}
"""Timed pairs of calls of student and teacher."""


def by_recipe(name: str, seed: int, folder: Path, *, minutes: float, quick: bool) -> Course:
    """Run the recipe, and judge its front."""
    given = task(name, folder, seed, seconds=60 * minutes)
    given = replace(given, steps=4, timed=5) if quick else given
    (folder / "task.json").write_text(json.dumps(asdict(given)), encoding="utf-8")
    began = time.time()
    _python("studies.benchmarks.recipe", str(folder / "task.json"))
    about = json.loads((folder / "trials.json").read_text(encoding="utf-8"))
    own = [
        Point(one["at"] - began, one["ms"] / about["teacher_ms"], one["quality"])
        for one in about["trials"]
    ]
    chosen = front_of(own)
    numbers = [about["trials"][at]["number"] for at in chosen]
    places = [folder / f"student-{number}" for number in numbers]
    return Course(own, judged(name, given.teacher, [own[at] for at in chosen], places, quick=quick))


def by_protege(name: str, seed: int, folder: Path, *, minutes: float, quick: bool) -> Course:
    """Run protege's search, and judge its front."""
    began = time.time()
    line = [name, str(folder), str(seed), str(minutes), "quick" if quick else "whole"]
    _python("studies.benchmarks.recipe_protege", *line)
    front = Front.read(folder / "run")
    ended = {
        one.number: one.datetime_complete.timestamp() - began
        for one in read_study(f"sqlite:///{(folder / 'run/study.db').resolve()}", None).trials
        if one.datetime_complete
    }
    assert front.teacher
    teacher_ms = front.teacher.measurements["latency_ms"].value

    def point(trial: Any) -> Point:
        found = trial.measurements
        share = found["latency_ms"].value / teacher_ms
        return Point(ended[trial.number], share, found["retention"].value)

    finished = [one for one in front.finished if one is not front.teacher]
    places = [front.export(one, folder / f"student-{one.number}") for one in front.students]
    teacher = json.loads((folder.parent / "recipe/task.json").read_text("utf-8"))["teacher"]
    points = [point(one) for one in front.students]
    return Course(
        [point(one) for one in finished], judged(name, teacher, points, places, quick=quick)
    )


def judged(
    name: str, teacher: str, points: Sequence[Point], places: Sequence[Path], *, quick: bool
) -> list[Point]:
    """Return students as an independent process measures each of them again."""
    texts = [one.text for one in snippets("tweets")][: QUICK_TEXTS if quick else TEXTS]
    call = MODELS[name].call
    found = []
    for own, place in zip(points, places, strict=True):
        asked = Judged(
            teacher=teacher,
            student=str(place),
            generates=MODELS[name].generates,
            texts=texts,
            max_tokens=128,
            prompt_tokens=call.prompt_tokens,
            new_tokens=call.new_tokens,
            pairs=3 if quick else PAIRS[name],
        )
        paths = place / "judged-task.json", place / "judged.json"
        paths[0].write_text(json.dumps(asdict(asked)), encoding="utf-8")
        _python("studies.benchmarks.recipe_judge", *map(str, paths))
        again = json.loads(paths[1].read_text(encoding="utf-8"))
        found.append(Point(own.at_s, again["latency"], again["quality"]))
    return found


def _python(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


def compared(name: str, seeds: int, *, minutes: float, quick: bool) -> Iterator[Figure]:
    """Yield the figures of a model, and draw the courses."""
    courses = list[tuple[Course, Course]]()
    for seed in range(seeds):
        place = FOLDER / f"recipe/{name}{'-quick' if quick else ''}-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        recipe, protege = place / "recipe", place / "protege"
        recipe.mkdir(parents=True)
        protege.mkdir()
        theirs = by_recipe(name, seed, recipe, minutes=minutes, quick=quick)
        ours = by_protege(name, seed, protege, minutes=minutes, quick=quick)
        courses.append((theirs, ours))
        text = json.dumps({"recipe": asdict(theirs), "protege": asdict(ours)})
        (place / "courses.json").write_text(text, encoding="utf-8")
    draw(name, courses, FOLDER / f"recipe-{name}{'-quick' if quick else ''}.png")
    yield from figures(name, courses, minutes)


def figures(
    name: str, courses: Sequence[tuple[Course, Course]], minutes: float
) -> Iterator[Figure]:
    """Yield the hypervolumes over time, and the ratios of time and of hypervolume."""
    budget = f"{minutes:g} minutes a search"
    for at, who in enumerate(("recipe", "protege")):
        mine = [both[at] for both in courses]
        trials = [len(one.own) for one in mine]
        yield Figure.of(f"{name}: trials ({who})", trials, "", budget)
        for share in (0.05, 0.1, 0.25, 0.5, 1.0):
            then = 60 * minutes * share
            values = [one.after(then) for one in mine]
            what = f"{name}: hypervolume after {then:.0f} s ({who})"
            yield Figure.of(what, values, "", "judged on tweets")
        ends = [one.final for one in mine]
        yield Figure.of(f"{name}: final hypervolume ({who})", ends, "", "judged on tweets")
        believed = [one.believed for one in mine]
        yield Figure.of(
            f"{name}: own final hypervolume ({who})", believed, "", "by its own figures"
        )
    times = [ours.reached(theirs.final) for theirs, ours in courses]
    reached = [isfinite(one) for one in times]
    yield Figure.of(f"{name}: seeds that reach recipe hypervolume", [sum(reached)], "", "all")
    if all(reached):
        yield Figure.of(f"{name}: time to recipe hypervolume", times, "s", "start-up included")
        last = [max(one.at_s for one in theirs.own) for theirs, _ in courses]
        shares = [one / end for one, end in zip(times, last, strict=True)]
        what = f"{name}: time to recipe hypervolume over recipe's"
        yield Figure.of(what, shares, "", "at most 0.05")
    ratios = [ours.final / theirs.final for theirs, ours in courses if theirs.final]
    if ratios:
        wanted = {"minilm": "at least 1.4", "smollm2": "at least 1.25"}[name]
        yield Figure.of(f"{name}: final hypervolume ratio", ratios, "", wanted)


def main() -> None:
    """Compare, then print and store the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=MODELS, help="compare on a single teacher")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each kind (default 3)")
    parser.add_argument("--minutes", type=float, help="minutes of each search")
    parser.add_argument("--quick", action="store_true", help="one seed and a minute, to check it")
    given = parser.parse_args()
    topic = "recipe-quick" if given.quick else "recipe"
    found = known(topic) if given.only else {}
    for name in [given.only] if given.only else MODELS:
        minutes = given.minutes or (QUICK_MINUTES if given.quick else MINUTES[name])
        seeds = 1 if given.quick else given.seeds
        found |= {
            one.figure: one for one in compared(name, seeds, minutes=minutes, quick=given.quick)
        }
    conclude(topic, list(found.values()))


if __name__ == "__main__":
    sys.exit(guarded(main))
