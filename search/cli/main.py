"""The command line."""

import argparse
import errno
import logging
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from protege.search.cli.measuring import add_measuring, count
from protege.search.cli.picking import add_picking, with_budgets
from protege.search.progress import Accounting, complain, say, say_table, watching
from protege.search.records.heads import HEAD_TOKENS
from protege.search.records.plain import printable
from protege.search.running.stopping import (
    Interrupted,
    exit_code,
    interruptible,
    leaving,
    signal_behind,
)
from protege.spaces.architecture.policies import HeadsBy
from protege.spaces.errors import BadInput, ProtegeError
from protege.spaces.files.atomic import has_no_room

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.objectives import Texts
    from protege.objectives.distillation.inputs.batches import TaskInputs
    from protege.search.engines.engine import Engine
    from protege.search.front.front import Front
    from protege.search.search import Search
    from protege.spaces import Teacher

REFUSED = 2
RUN = "the run folder, its study.db, a storage URL, or the study file"
ENDS = (
    "Exit codes: 0, 2 for what cannot be done, 130 after Ctrl-C, 143 after SIGTERM, 129 after "
    "SIGHUP. Signals end a command in order: finished trials are kept, the same line goes on."
)
STUDY = "the study's name, where a storage has several"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as `ENDS` lists them."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(with_budgets(words))
    if options.debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("protege").setLevel(logging.DEBUG)
    return guarded(lambda: options.command(options), debug=options.debug)


def guarded(command: Callable[[], None], *, debug: bool = False) -> int:
    """Run a command; an error becomes one line on stderr and an exit code.

    Args:
        command: What to run.
        debug: Whether the traceback is printed too.
    """
    try:
        with interruptible():
            command()
    except KeyboardInterrupt as interruption:
        complain("protege: stopped; every finished trial is kept, the same line goes on")
        return exit_code(interruption)
    except Exception as error:
        line = _one_line(error)
        if line is None:
            raise
        if debug:
            complain(traceback.format_exc().rstrip())
        complain(f"protege: error: {line}")
        return REFUSED
    return 0


def finish(front: "Front") -> None:
    """Write the report of a study and print its front, hypervolume and time by phase.

    Raises:
        Interrupted: Ctrl-C or another signal ended the study.
    """
    from protege.search.records.trial import State
    from protege.search.records.wording import unimproved

    report = front.report()
    found, trials = len(front.students), len(front.trials)
    on_front = f"{found} student{'' if found == 1 else 's'} on the front after {trials} trials"
    say(f"\n{printable(front.name)}: {on_front}")
    if front.about.get("ended"):
        say(f"It ended because {printable(front.about['ended'])}.")
    if failed := [one for one in front.trials if one.state is State.FAILED]:
        last = failed[-1]
        say(f"{len(failed)} failed; the last, trial {last.number}: {printable(last.reason)}")
    scale = "0 = the teacher alone, 1 = its quality at no cost"
    say(f"{front}\n\nHypervolume {front.hypervolume:.4f} ({scale})")
    if note := unimproved(front.trials):
        say(note)
    say(f"{Accounting(front.about['seconds'])}\nReport: {printable(report)}")
    number = signal_behind(front.about.get("ended", ""))
    if number is not None:
        raise Interrupted(number)  # skip whatever the caller would do next


def _run(options: argparse.Namespace) -> None:
    search = _search_in(options.study)
    finish(
        search.run(
            options.trials,
            minutes=options.minutes,
            patience=options.patience,
            engine=_engine(options),
            leaving=leaving,
        )
    )


def _engine(options: argparse.Namespace) -> "Engine":
    """Return the engine that the options ask for."""
    from protege.search.engines.cluster import RayEngine
    from protege.search.engines.local import LocalEngine, SerialEngine

    synchronous = options.synchronous
    if options.ray is not None:
        return RayEngine(options.ray, options.jobs or 0, options.cpus, synchronous=synchronous)
    if (options.jobs or 1) == 1:
        return SerialEngine()
    return LocalEngine(options.jobs, synchronous=synchronous)


def _fidelity(options: argparse.Namespace) -> None:
    from protege.search.front.front import Front

    search = _search_in(options.study)
    found = search.fidelity(options.sample, options.times)
    count = f"{len(found.runs)} students, trained {found.times:g} times as long"
    say(f"{printable(search.name)}: {count}")
    say_table(found.rows())
    say(f"Report: {printable(Front.read(search.place, search.name).report())}")


def _report(options: argparse.Namespace) -> None:
    say(f"Report: {printable(_front(options).report(options.folder))}")


def _heads(options: argparse.Namespace) -> None:
    from protege.search.planning.heads import measure_heads
    from protege.search.report.heads import least, write_heads

    if options.to and options.to.exists() and not options.to.is_dir():
        raise BadInput(f"{options.to}: not a folder; the page and the table go into one")
    teacher, data, beside = _teacher_and_data(options.teacher, options.texts)
    with watching("heads") as announce:
        scores = measure_heads(teacher, data, options.by, options.tokens, announce, complain)
    page, table = write_heads(scores, teacher.source, (options.to or beside).expanduser())
    say(f"Least important by {options.by}:\n{least(scores).to_string(index=False)}")
    say(f"\nHeat-map: {printable(page)}\nTable: {printable(table)}")


def _teacher_and_data(given: str, file: Path | None) -> "tuple[Teacher, Texts | TaskInputs, Path]":
    """Return a teacher, its data, and the folder for the results."""
    from protege.objectives import Texts
    from protege.search.session.session import claimed_folder, prepared_for
    from protege.spaces import Teacher

    texts = Texts.from_file(file) if file else None
    if given.endswith(".py"):
        search = _search_in(Path(given))
        if texts is None and search.distillation is None:
            raise BadInput("the study has no data; give --texts FILE, one text a line")
        return search.teacher, texts or prepared_for(search).data.learnt, claimed_folder(search)
    if texts is None:
        raise BadInput(
            f"{given}: no data to measure its heads on; give --texts FILE, one text a line, or a "
            "study file"
        )
    return Teacher.load(given), texts, Path()


def _front(options: argparse.Namespace) -> "Front":
    """Read the front of a run folder, a study.db, a storage URL, or a study file."""
    from protege.search.front.front import Front

    if options.run.endswith(".py"):
        search = _search_in(Path(options.run))
        return Front.read(search.place, search.name)
    return Front.read(options.run, options.study)


def _search_in(path: Path) -> "Search":
    """Run a study file and return the `Search` that it defines at the top level.

    Raises:
        BadInput: The file is missing or no Python, or defines not exactly one `Search`.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a Python file that defines a Search")
    # a study may import modules beside it and in the working directory
    sys.path[:0] = [str(path.resolve().parent), str(Path.cwd())]
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: not a Python file that can be run ({error})") from error
    defined = runpy.run_path(str(path), run_name="study")
    from protege.search.search import Search

    searches = [value for value in defined.values() if isinstance(value, Search)]
    if len(searches) != 1:
        raise BadInput(
            f"{path}: expected one Search at the top level, such as search = Search(...), "
            f"found {len(searches)}"
        )
    return searches[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="protege",
        description="Find the student architectures worth distilling.",
        epilog=ENDS,
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = _add_run(commands)
    report = commands.add_parser("report", help="write the report of a run")
    report.set_defaults(command=_report)
    report.add_argument("run", help=RUN)
    report.add_argument("--study", help=STUDY)
    report.add_argument("--folder", type=Path, help="default: report in the run folder")

    pick, export = add_picking(commands, RUN, _front)
    for command in (pick, export):
        command.add_argument("--study", help=STUDY)
    heads = commands.add_parser("heads", help="rank a teacher's attention heads")
    heads.set_defaults(command=_heads)
    heads.add_argument("teacher", help="a folder, a hub id, or a study file")
    heads.add_argument("--texts", type=Path, help="a file with one text a line, or .jsonl")
    heads.add_argument(
        "--by", choices=get_args(HeadsBy), default="ablation", help="criterion (default ablation)"
    )
    heads.add_argument(
        "--tokens",
        type=count,
        help=f"tokens to read, at most (default {HEAD_TOKENS['ablation']}, "
        f"{HEAD_TOKENS['gradient']} for other criteria)",
    )
    heads.add_argument(
        "--to",
        type=Path,
        help="output folder (default: the run folder, or the current one)",
    )

    for command in (
        *(run, _add_fidelity(commands), report, pick, export, heads),
        *add_measuring(commands),
    ):
        # without SUPPRESS the default would override a --debug before the command
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def _add_run(commands: Any) -> argparse.ArgumentParser:
    run: argparse.ArgumentParser = commands.add_parser("run", help="run or resume a study")
    run.set_defaults(command=_run)
    run.add_argument("study", type=Path, help="a Python file that defines a Search")
    run.add_argument("--trials", type=count, default=40, help="total number of trials (default 40)")
    run.add_argument("--minutes", type=float, help="start no trial after so many minutes")
    run.add_argument(
        "--patience",
        type=count,
        help="end after so many trials without a gain in hypervolume",
    )

    run.add_argument(
        "--jobs",
        type=count,
        help="parallel trials (default 1, or as many as the Ray cluster has room for)",
    )
    run.add_argument(
        "--ray", metavar="ADDRESS", help="run on a Ray cluster, such as auto or host:6379"
    )
    run.add_argument("--cpus", type=count, default=1, help="CPUs per trial on Ray (default 1)")
    run.add_argument(
        "--synchronous",
        action="store_true",
        help="wait for all parallel trials before each decision: reproducible for a fixed seed",
    )
    return run


def _add_fidelity(commands: Any) -> argparse.ArgumentParser:
    fidelity: argparse.ArgumentParser = commands.add_parser(
        "fidelity", help="check that the short distillation ranks students as a longer one does"
    )
    fidelity.set_defaults(command=_fidelity)
    fidelity.add_argument("study", type=Path, help="the study file of a run")
    fidelity.add_argument(
        "--sample", type=count, default=16, help="students to train for longer (default 16)"
    )
    fidelity.add_argument(
        "--times",
        type=count,
        default=8,
        help="how much longer (default 8)",
    )
    return fidelity


def _one_line(error: Exception) -> str | None:
    """Return the error as one line if a user can act on it, else None."""
    if isinstance(error, ProtegeError):
        return " ".join(str(error).split())
    if has_no_room(error):  # wrapped by Optuna and SQLite
        return "no space left on the device; make room, then run the same line again"
    if isinstance(error, OSError) and error.filename is not None and error.errno != errno.ENOSPC:
        return f"{error.filename}: {error.strerror}; fix that, then run the same line again"
    return None


if __name__ == "__main__":
    sys.exit(main())
