"""Models timed side by side, as the command line asks for it."""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from protege.objectives import LocalCPU, Workload
from protege.objectives.latency import Accelerator, Checkpoint, Compared, Plan, Target, compare
from protege.objectives.latency.doctor import examine
from protege.objectives.latency.plan import SAMPLES
from protege.objectives.latency.runtimes import Name, Precision
from protege.objectives.latency.ssh import SSH
from protege.search.progress import say, say_table, watching
from protege.spaces import BadInput
from protege.spaces.cache import write_text

TARGETS = "cpu, cuda, mps, ssh:HOST, android or android:SERIAL"


def add_measuring(commands: Any) -> tuple[argparse.ArgumentParser, ...]:
    """The commands ``measure`` and ``doctor``."""
    measure = commands.add_parser("measure", help="time models side by side")
    measure.set_defaults(command=_measure)
    measure.add_argument("models", nargs="+", help="folders or hub ids; the first is the reference")
    _add_workload(measure)
    measure.add_argument("--target", default="cpu", help=f"{TARGETS} (default cpu)")
    _add_runtime(measure)
    measure.add_argument("--json", type=Path, help="a file for the raw samples")
    doctor = commands.add_parser("doctor", help="look a place to measure over")
    doctor.set_defaults(command=_doctor)
    doctor.add_argument("target", nargs="?", default="cpu", help=f"{TARGETS} (default cpu)")
    _add_runtime(doctor)
    return measure, doctor


def _measure(options: argparse.Namespace) -> None:
    target, workload = target_of(options.target, options), _workload_of(options)
    with watching("measure") as announce:
        found = measured(options.models, target, workload, _plan_of(options), announce)
    say(f"{target.label}; {workload}")
    say_table([{"model": source, **_row(one)} for source, one in found.items()])
    if options.json:
        write_measured(found, target, workload, options.json)
        say(f"Raw samples: {options.json}")


def _doctor(options: argparse.Namespace) -> None:
    with watching("doctor") as announce:
        found = list(examine(target_of(options.target, options), announce))
    width = max(len(one.subject) for one in found)
    for one in found:
        say(f"{one.subject:<{width}}  {one.found}")
        if one.advice:
            say(f"{'':<{width}}  -> {one.advice}")


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    """The options that say through what models are run, and how."""
    parser.add_argument(
        "--runtime",
        choices=get_args(Name),
        help="what runs them (default eager here, onnxruntime elsewhere)",
    )
    parser.add_argument("--precision", choices=get_args(Precision), default="float32")
    parser.add_argument("--threads", type=count, default=1, help="threads a model (default 1)")
    parser.add_argument("--cores", type=_cores, default=(), help="such as 2,3: what it keeps to")
    parser.add_argument("--priority", choices=["normal", "high"], default="normal")
    parser.add_argument("--python", default="", help="the interpreter that has the runtime")


def _add_workload(parser: argparse.ArgumentParser) -> None:
    """The options that say what a call is, and how well it is to be known."""
    parser.add_argument("--batch", type=count, default=1, help="sequences a call (default 1)")
    parser.add_argument("--tokens", type=count, default=128, help="of a prompt (default 128)")
    parser.add_argument("--new-tokens", type=int, default=0, help="to be generated (default 0)")
    parser.add_argument(
        "--percentile", type=int, choices=list(SAMPLES), default=50, help="call until it is known"
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="of load: what heat does")


def target_of(place: str, options: argparse.Namespace) -> Target:
    """The target of that name, with what the options say of it.

    Raises:
        BadInput: There is none, or the options are not for it.
    """
    kind, _, where = place.partition(":")
    own: dict[str, Any] = {"threads": options.threads, "cores": options.cores}
    own |= {"precision": options.precision, "priority": options.priority}
    if kind == "cpu" and not where:
        return LocalCPU(runtime=options.runtime or "eager", python=options.python, **own)
    if kind == "ssh" and where:
        python = {"python": options.python} if options.python else {}
        return SSH(where, options.runtime or "onnxruntime", **own, **python)
    if kind in {"cuda", "mps"} and not where:
        return _accelerator(kind, options)
    if kind == "android":
        from protege.objectives.latency.android import Android

        return Android(serial=where)
    raise BadInput(f"target {place!r}: expected one of {TARGETS}")


def _accelerator(kind: str, options: argparse.Namespace) -> Target:
    if options.cores or options.threads != 1:
        raise BadInput(f"target {kind}: it has no --threads or --cores to choose")
    device: Any = kind
    target: Target = Accelerator(device, options.runtime or "eager", options.precision)
    return target


def _workload_of(options: argparse.Namespace) -> Workload:
    """What a call is."""
    return Workload(options.batch, options.tokens, options.new_tokens)


def _plan_of(options: argparse.Namespace) -> Plan:
    """How long to measure."""
    seconds = options.minutes * 60 / 2  # two processes make a measurement
    plan = Plan(sustained_s=seconds, candidate_s=max(30.0, 4 * seconds))
    return plan.with_samples(options.percentile)


def measured(
    sources: Sequence[str],
    target: Target,
    workload: Workload,
    plan: Plan,
    announce: Callable[[str], None],
) -> dict[str, Compared]:
    """Each model beside the first of them.

    Raises:
        BadInput: A source is no model, or is given twice, or a workload is not one for it.
        Unmeasured: A model cannot run on the target.
    """
    if len(set(sources)) < len(sources):
        raise BadInput(f"models {' '.join(sources)}: expected each of them once")
    models = [Checkpoint.at(source) for source in sources]
    found = compare(models, workload, target, plan, lambda place: announce(sources[place]))
    return dict(zip(sources, found, strict=True))


def _row(one: Compared) -> dict[str, Any]:
    """A model's figures under the names of the table's columns."""
    return {
        "ms": one.latency_ms,
        "±": one.spread_ms,
        "speedup": 1 / one.ratio,
        "prefill ms": one.parts_ms.get("prefill"),
        "ms a token": one.parts_ms.get("per_token"),
        **{f"p{percentile} ms": value for percentile, value in one.tails_ms.items()},
        "first call ms": one.timing.cold_ms,
        "grade": str(one.grade),
        "throttled": one.timing.throttled or None,
    }


def write_measured(
    found: Mapping[str, Compared], target: Target, workload: Workload, path: Path
) -> None:
    """Write the figures and all that they were read from, as JSON."""
    models = {
        source: {**_row(one), "traces": [trace.record() for trace in one.timing.traces]}
        for source, one in found.items()
    }
    record = {
        "target": dict(target.description()),
        "workload": asdict(workload),
        "models": models,
    }
    write_text(path, json.dumps(record, indent=1))


def _cores(word: str) -> tuple[int, ...]:
    try:
        found = tuple(int(part) for part in word.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is not a list such as 2,3") from None
    if any(one >= other for one, other in pairwise(found)):
        raise argparse.ArgumentTypeError(f"{word!r}: expected each core once, in order")
    return found


def count(word: str) -> int:
    """A whole number above 0, from the command line."""
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)
