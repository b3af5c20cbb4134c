"""The commands ``measure`` and ``doctor``."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from protege.objectives.latency.plan import SAMPLES, Plan
from protege.objectives.latency.runtimes.runtimes import Name
from protege.objectives.latency.workload import Workload
from protege.objectives.precision import Precision
from protege.search.progress import say, say_table, watching
from protege.search.records.plain import printable
from protege.spaces.errors import BadInput
from protege.spaces.files.atomic import write_text

if TYPE_CHECKING:  # help is printed without torch
    from protege.objectives.latency import Compared, SavedModel, Target
    from protege.search.front.front import Front

TARGETS = "cpu, cuda, mps, ssh:HOST, android or android:SERIAL"


def add_measuring(commands: Any) -> tuple[argparse.ArgumentParser, ...]:
    """Add the commands ``measure`` and ``doctor``."""
    measure = commands.add_parser("measure", help="time models side by side")
    measure.set_defaults(command=_measure)
    measure.add_argument(
        "models",
        nargs="+",
        help="folders or hub ids, reference first; or a run folder, for its teacher and front",
    )
    _add_workload(measure)
    measure.add_argument("--target", default="cpu", help=f"{TARGETS} (default cpu)")
    _add_runtime(measure)
    measure.add_argument("--json", type=Path, help="write the raw samples to this file")
    measure.add_argument("--bundle", type=Path, help="write a folder to run on a device instead")
    measure.add_argument(
        "--import", type=Path, dest="results", help="the RESULTS.json that came back from a bundle"
    )
    doctor = commands.add_parser("doctor", help="check a target for what disturbs measurements")
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("target", nargs="?", default="cpu", help=f"{TARGETS} (default cpu)")
    _add_runtime(doctor)
    return measure, doctor


def _measure(options: argparse.Namespace) -> None:
    from protege.objectives.latency import Grade, Imported, SavedModel, write_bundle

    workload, front = _workload_of(options), _front(options.models)
    models = _of_front(front) if front else {one: SavedModel.at(one) for one in options.models}
    if len(models) < len(options.models):
        raise BadInput(f"models {' '.join(options.models)}: expected each of them once")
    if options.bundle:
        runtime, every = options.runtime or "onnxruntime", [*models.values()]
        folder = write_bundle(every, workload, runtime, options.precision, options.bundle)
        say(f"Bundle: {printable(folder)}")
        say("Its README.md says how to run it and what to bring back.")
        return
    target = Imported(options.results) if options.results else target_of(options.target, options)
    with watching("measure") as announce:
        found = measured(models, target, workload, _plan_of(options), announce)
    label = f"{target.label}; {workload}"
    say(printable(label))
    say_table([{"model": name, **_row(one)} for name, one in found.items()])
    for grade in sorted({one.grade for one in found.values()} - {Grade.A}):
        say(f"grade {grade}: {grade.meaning}")
    if options.json:
        write_text(options.json, json.dumps(record_of(found, target, workload), indent=1))
        say(f"Raw samples: {printable(options.json)}")
    if front:
        kept = front.keep(label, record_of(found, target, workload))
        say(f"Kept with the run: {printable(kept)}")


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


def _doctor(options: argparse.Namespace) -> None:
    from protege.objectives.latency.timing.doctor import examine

    with watching("doctor") as announce:
        found = list(examine(target_of(options.target, options), announce))
    width = max(len(printable(one.subject)) for one in found)
    for one in found:
        say(f"{printable(one.subject):<{width}}  {printable(one.found)}")
        if one.advice:
            say(f"{'':<{width}}  -> {printable(one.advice)}")


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    """Add the options for the runtime and its settings."""
    parser.add_argument(
        "--runtime",
        choices=get_args(Name),
        help="runtime (default eager on this machine, onnxruntime elsewhere)",
    )
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--threads", type=count, default=1, help="threads per model (default 1)")
    parser.add_argument("--cores", type=_cores, default=(), help="cores to pin to, such as 2,3")
    parser.add_argument("--priority", choices=["normal", "high"], default="normal")
    parser.add_argument("--python", default="", help="Python interpreter that has the runtime")


def _add_workload(parser: argparse.ArgumentParser) -> None:
    """Add the options for the workload and the precision of the measurement."""
    parser.add_argument("--batch", type=count, default=1, help="sequences per call (default 1)")
    parser.add_argument("--tokens", type=count, default=128, help="tokens per prompt (default 128)")
    parser.add_argument("--new-tokens", type=int, default=0, help="tokens to generate (default 0)")
    parser.add_argument(
        "--percentile",
        type=int,
        choices=list(SAMPLES),
        default=50,
        help="percentile (default 50)",
    )
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="sustained load, to see throttling"
    )


def target_of(place: str, options: argparse.Namespace) -> "Target":
    """Return the target of that name with the settings in the options.

    Raises:
        BadInput: The name is unknown, or the options do not apply to the target.
    """
    from protege.objectives.latency import SSH, Android, LocalCPU

    kind, _, where = place.partition(":")
    own: dict[str, Any] = {"threads": options.threads, "cores": options.cores}
    own |= {"precision": options.precision, "priority": options.priority}
    if kind == "cpu" and not where:
        return LocalCPU(runtime=options.runtime or "eager", python=options.python, **own)
    if kind == "ssh" and where:
        there = {"python": options.python} if options.python else {}
        return SSH(where, options.runtime or "onnxruntime", **own, **there)
    if kind in {"cuda", "mps"} and not where:
        return _accelerator(kind, options)
    if kind == "android":
        phone: Target = Android(
            where, threads=options.threads, cores=options.cores, python=options.python
        )
        return phone
    raise BadInput(f"target {place!r}: expected one of {TARGETS}")


def _accelerator(kind: str, options: argparse.Namespace) -> "Target":
    from protege.objectives.latency import Accelerator

    if options.cores or options.threads != 1:
        raise BadInput(f"target {kind}: --threads and --cores do not apply")
    device: Any = kind
    target: Target = Accelerator(device, options.runtime or "eager", options.precision)
    return target


def _workload_of(options: argparse.Namespace) -> Workload:
    return Workload(options.batch, options.tokens, options.new_tokens)


def _plan_of(options: argparse.Namespace) -> Plan:
    seconds = options.minutes * 60 / 2  # a measurement takes two processes
    plan = Plan(sustained_s=seconds, candidate_s=max(30.0, 4 * seconds))
    return plan.with_samples(options.percentile)


def measured(
    models: "Mapping[str, SavedModel]",
    target: "Target",
    workload: Workload,
    plan: Plan,
    announce: Callable[[str], None],
) -> "dict[str, Compared]":
    """Time each model against the first one.

    Raises:
        BadInput: A model cannot run the workload.
        Unmeasured: A model cannot run on the target.
    """
    from protege.objectives.latency import compare

    names = [*models]
    found = compare([*models.values()], workload, target, plan, lambda at: announce(names[at]))
    return dict(zip(names, found, strict=True))


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


def _cores(word: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a list such as 2,3") from None
    if any(one >= other for one, other in pairwise(found)):
        raise argparse.ArgumentTypeError(f"{word!r}: expected each core once, in order")
    return found


def count(word: str) -> int:
    """Parse a whole number above 0."""
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)
