"""The commands ``measure``, ``doctor`` and ``heads``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from protege.objectives.latency.workload import Workload
from protege.search.cli.arguments import RuntimeOptions, WorkloadOptions, search_in
from protege.search.cli.whole import Count
from protege.search.progress import complain, loading, say, say_json, say_table, watching
from protege.search.records.plain import printable
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.errors import BadInput
from protege.spaces.files.atomic import write_text

if TYPE_CHECKING:  # help is printed without torch
    from protege.objectives import Texts
    from protege.objectives.distillation.inputs.batches import TaskInputs
    from protege.objectives.latency import Compared, SavedModel, Target
    from protege.search.front.front import Front
    from protege.spaces import Teacher


def measure(
    *models: Annotated[str, Parameter(required=True)],
    target: str = "cpu",
    samples: Path | None = None,
    bundle: Path | None = None,
    results: Annotated[Path | None, Parameter("--import")] = None,
    timed: WorkloadOptions = WorkloadOptions(),
    runtime: RuntimeOptions = RuntimeOptions(),
) -> None:
    """Time models side by side.

    Args:
        models: Folders or hub ids, reference first; or a run folder, for its teacher and front.
        target: A place: cpu, cuda, mps, ssh:HOST, android or android:SERIAL.
        samples: Write the raw samples to this file, as JSON.
        bundle: Write a folder to run on a device instead.
        results: The RESULTS.json that came back from a bundle.
        timed: What is timed, and how long.
        runtime: The runtime and its settings.
    """
    _check_models(models)
    with loading("models"):
        from protege.objectives.latency import Grade, Imported, SavedModel, compare, write_bundle

    workload, front = timed.workload(), _front(models)
    every = _of_front(front) if front else {one: SavedModel.at(one) for one in models}
    if bundle:
        name = runtime.runtime or "onnxruntime"
        folder = write_bundle([*every.values()], workload, name, runtime.precision, bundle)
        say(f"Bundle: {printable(folder)}")
        say("Its README.md says how to run it and what to bring back.")
        say_json({"bundle": folder})
        return
    there = Imported(results) if results else runtime.target(target)
    with watching("measure") as announce:
        names = [*every]
        times = compare(
            [*every.values()], workload, there, timed.plan(), lambda at: announce(names[at])
        )
    found = dict(zip(names, times, strict=True))
    label, record = f"{there.label}; {workload}", record_of(found, there, workload)
    say(printable(label))
    say_table([{"model": name, **_row(one)} for name, one in found.items()])
    for grade in sorted({one.grade for one in found.values()} - {Grade.A}):
        say(f"grade {grade}: {grade.meaning}")
    if samples:
        write_text(samples, dumps(record, indent=1))
        say(f"Raw samples: {printable(samples)}")
    if front:
        say(f"Selection with the run: {printable(front.keep(label, record))}")
    say_json(record | {"models": {name: _row(one) for name, one in found.items()}})


def doctor(target: str = "cpu", /, *, runtime: RuntimeOptions = RuntimeOptions()) -> None:
    """Check a target for what disturbs measurements.

    Args:
        target: A place: cpu, cuda, mps, ssh:HOST, android or android:SERIAL.
        runtime: The runtime and its settings.
    """
    with loading("runtimes"):
        from protege.objectives.latency.timing.doctor import examine

    with watching("doctor") as announce:
        found = list(examine(runtime.target(target), announce))
    width = max(len(printable(one.subject)) for one in found)
    for one in found:
        say(f"{printable(one.subject):<{width}}  {printable(one.found)}")
        if one.advice:
            say(f"{'':<{width}}  -> {printable(one.advice)}")
    say_json({"target": target, "findings": [asdict(one) for one in found]})


def heads(
    teacher: str,
    /,
    *,
    texts: Path | None = None,
    by: HeadsBy = "ablation",
    tokens: Count | None = None,
    to: Path | None = None,
) -> None:
    """Rank a teacher's attention heads.

    Args:
        teacher: A folder, a hub id, or a study file.
        texts: A file with one text a line, or .jsonl.
        by: Criterion of importance.
        tokens: Tokens to read, at most (default 2048 for ablation, 16384 for other criteria).
        to: Output folder (default: the run folder, or the current one).
    """
    with loading(teacher):
        from protege.search.planning.heads import measure_heads
        from protege.search.report.heads import least, write_heads

    if to and to.exists() and not to.is_dir():
        raise BadInput(f"{to}: not a folder; the page and the table go into one")
    model, data, beside = _teacher_and_data(teacher, texts)
    with watching("heads") as announce:
        scores = measure_heads(model, data, by, tokens, announce, complain)
    page, table = write_heads(scores, model.source, (to or beside()).expanduser())
    say(f"Least important by {by}:\n{least(scores).to_string(index=False)}")
    say(f"\nHeat-map: {printable(page)}\nTable: {printable(table)}")
    say_json({"page": page, "table": table, "least": least(scores).to_dict("records")})


def _check_models(models: Sequence[str]) -> None:
    if len(set(models)) < len(models):
        raise BadInput(f"models {' '.join(models)}: expected each of them once")
    if any(one.endswith(".json") for one in models):
        raise BadInput(
            f"models {' '.join(models)}: a .json file is no model; --samples FILE writes the raw "
            "samples, --import FILE reads those of a bundle"
        )


def _teacher_and_data(
    given: str, file: Path | None
) -> "tuple[Teacher, Texts | TaskInputs, Callable[[], Path]]":
    """Return a teacher, its data, and a function that returns the folder for the results."""
    from protege.objectives import Texts
    from protege.search.session.session import claimed_folder, prepared_for
    from protege.spaces import Teacher

    texts = Texts.from_file(file) if file else None
    if given.endswith(".py"):
        search = search_in(Path(given))
        if texts is None and search.distillation is None:
            raise BadInput(f"{given}: the study has no data; give --texts FILE, one text a line")
        data = texts or prepared_for(search).data.learnt
        return search.teacher, data, partial(claimed_folder, search)
    if texts is None:
        raise BadInput(
            f"{given}: no data to measure its heads on; give --texts FILE, one text a line, or a "
            "study file"
        )
    return Teacher.load(given), texts, Path


def _front(words: Sequence[str]) -> "Front | None":
    """Return the front of the run that is named, or None if the words are models."""
    from protege.search.front.front import Front
    from protege.search.storage.run_folder import is_run

    runs = [word for word in words if is_run(word)]
    if not runs:
        return None
    if len(words) > 1:
        raise BadInput(f"models {' '.join(words)}: expected models, or one run alone")
    return Front.read(runs[0])


def _of_front(front: "Front") -> "dict[str, SavedModel]":
    """Return a study's teacher and the students on its front, by label."""
    from protege.objectives.latency import SavedModel
    from protege.search.analysis.result import TEACHER

    source = str(front.about["teacher"]["source"])
    places = {TEACHER: source} | {
        TEACHER if trial is front.teacher else trial.label: str(front.weights(trial))
        for trial in front.members
    }
    return {name: SavedModel.at(place) for name, place in places.items()}


def _row(one: "Compared") -> dict[str, Any]:
    """Return a model's row of the table, by column."""
    from protege.objectives.latency.timing.timing import LEAST_SPREAD

    return {
        "ms": one.latency_ms,
        "±": one.spread_ms,
        "floor of ±": f"{LEAST_SPREAD:.1%}" if one.floor else None,
        "speedup": 1 / one.ratio,
        "prefill ms": one.parts_ms.get("prefill"),
        "ms a token": one.parts_ms.get("per_token"),
        **{f"p{percentile} ms": value for percentile, value in one.tails_ms.items()},
        "first call ms": one.timing.cold_ms,
        "grade": str(one.grade),
        "throttled": one.timing.throttled or None,
    }


def record_of(
    found: "Mapping[str, Compared]", target: "Target", workload: Workload
) -> dict[str, Any]:
    """Return the figures and the raw samples as JSON values."""
    models = {
        name: {**_row(one), "traces": [trace.record() for trace in one.timing.traces]}
        for name, one in found.items()
    }
    return {
        "target": dict(target.description()),
        "workload": asdict(workload),
        "models": models,
    }
