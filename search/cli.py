"""The command line: a thin edge over the Python interface."""

import argparse
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

from protege.objectives import Texts
from protege.objectives.distillation.questions import Questions
from protege.search.accounting import Accounting
from protege.search.engines import Engine, LocalEngine, RayEngine, SerialEngine
from protege.search.front import Choice, Front
from protege.search.heads import TOKENS, measure_heads, read_in
from protege.search.measuring import add_measuring, count
from protege.search.progress import complain, say, say_table, watching
from protege.search.reporting import least, write_heads
from protege.search.search import Search
from protege.search.stopping import ASKED_TO_LEAVE
from protege.spaces import BadInput, ProtegeError, Teacher
from protege.spaces.policies import HeadsBy

INTERRUPTED, REFUSED = 130, 2
RUN = "the run folder, its study.db, a storage URL, or the study file"
OPTIONS = ("--debug", "--help", "--to", "--trial")
"""Options of commands that take budgets; any other is a budget."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for what cannot be done, 130 for Ctrl-C."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(_budgets_as_words(words))
    return guarded(lambda: options.command(options), debug=options.debug)


def guarded(command: Callable[[], None], *, debug: bool = False) -> int:
    """Run a command; an error becomes one line on stderr and an exit code.

    Args:
        command: What to run.
        debug: Whether the traceback is printed too.
    """
    try:
        command()
    except KeyboardInterrupt:
        complain("protege: stopped; every finished trial is kept, the same line goes on")
        return INTERRUPTED
    except Exception as error:
        line = _one_line(error)
        if line is None:
            raise
        if debug:
            complain(traceback.format_exc())
        complain(f"protege: error: {line}")
        return REFUSED
    return 0


def finish(front: Front) -> None:
    """Print what a person wants to see when a study ends: front, report, time.

    Raises:
        KeyboardInterrupt: It ended because of Ctrl-C.
    """
    report = front.report()
    say(f"\n{front.name}: {len(front.members)} of {len(front.trials)} students are on the front")
    if front.about.get("ended"):
        say(f"It ended because {front.about['ended']}.")
    scale = "0 = the teacher alone, 1 = its quality at no cost"
    say(f"{front}\n\nHypervolume {front.hypervolume:.4f} ({scale})")
    say(f"{Accounting(front.about['seconds'])}\nReport: {report}")
    if front.about.get("ended") == ASKED_TO_LEAVE:
        raise KeyboardInterrupt  # nothing that would come after it is wanted


def _run(options: argparse.Namespace) -> None:
    search = _search_in(options.study)
    finish(
        search.run(
            options.trials,
            minutes=options.minutes,
            patience=options.patience,
            engine=_engine(options),
        )
    )


def _engine(options: argparse.Namespace) -> Engine:
    """Who does the work of a study."""
    synchronous = options.synchronous
    if options.ray is not None:
        return RayEngine(options.ray, options.jobs or 0, options.cpus, synchronous=synchronous)
    if (options.jobs or 1) == 1:
        return SerialEngine()
    return LocalEngine(options.jobs, synchronous=synchronous)


def _fidelity(options: argparse.Namespace) -> None:
    search = _search_in(options.study)
    found = search.fidelity(options.sample, options.times)
    say(f"{search.name}: {len(found.runs)} students, taught {found.times:g} times as long")
    say_table(found.rows())
    say(f"Report: {Front.read(search.storage, search.name).report()}")


def _report(options: argparse.Namespace) -> None:
    say(f"Report: {_front(options.run).report(options.folder)}")


def _pick(options: argparse.Namespace) -> None:
    say(str(_chosen(_front(options.run), options)))


def _export(options: argparse.Namespace) -> None:
    front = _front(options.run)
    choice = _chosen(front, options)
    say(f"{choice}\nStudent: {choice.export(options.to)}")


def _heads(options: argparse.Namespace) -> None:
    if options.to and options.to.exists() and not options.to.is_dir():
        raise BadInput(f"{options.to}: not a folder; the page and the table go into one")
    teacher, data, beside = _teacher_and_data(options.teacher, options.texts)
    with watching("heads") as announce:
        scores = measure_heads(teacher, data, options.by, options.tokens, announce, complain)
    page, table = write_heads(scores, teacher.source, (options.to or beside).expanduser())
    say(f"Least important by {options.by}:\n{least(scores).to_string(index=False)}")
    say(f"\nHeat-map: {page}\nTable: {table}")


def _teacher_and_data(given: str, file: Path | None) -> tuple[Teacher, Texts | Questions, Path]:
    """A teacher, what it reads, and where to put what is found; a study file has all three."""
    texts = Texts.from_file(file) if file else None
    if given.endswith(".py"):
        search = _search_in(Path(given))
        data = texts or read_in(search.objectives, search.teacher)
        return search.teacher, data, Path(search.folder)
    if texts is None:
        raise BadInput(
            f"{given}: a teacher alone says nothing of its heads; give --texts FILE, one text a "
            "line, or a study file"
        )
    return Teacher.load(given), texts, Path()


def _front(run: str) -> Front:
    """The front of a run folder, a study.db, a storage URL, or the study file that made them."""
    if run.endswith(".py"):
        search = _search_in(Path(run))
        return Front.read(search.storage, search.name)
    return Front.read(run)


def _chosen(front: Front, options: argparse.Namespace) -> Choice:
    """The trial that is named, or the best one within the budgets."""
    if getattr(options, "trial", None) is not None:
        return Choice(front.trial(options.trial), front)
    return front.pick(**_budgets(options.budgets))


def _budgets_as_words(arguments: Sequence[str]) -> list[str]:
    """``--latency-ms 8`` as ``latency_ms=8``: goals have names that no parser can know."""
    words = list(arguments)
    if not {"pick", "export"} & {*words[:2]}:  # the second, after --debug
        return words
    rewritten: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word.partition("=")[0] in OPTIONS:
            rewritten.append(word)
            continue
        name, _, value = word[2:].partition("=")
        value = value or (words.pop(0) if words else "")
        rewritten.append(f"{name.replace('-', '_')}={value}")
    return rewritten


def _budgets(words: Sequence[str]) -> dict[str, float]:
    """Budgets from words such as ``latency_ms=8``."""
    budgets = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            budgets[name] = float(value)
        except ValueError:
            expected = "a goal and a number, such as latency_ms=8 or --latency-ms 8"
            raise BadInput(f"budget {word!r}: expected {expected}") from None
    return budgets


def _search_in(path: Path) -> Search:
    """The search that a study file defines under the name ``search``.

    Raises:
        BadInput: The file is missing, or defines none.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; expected a Python file that defines a Search")
    # beside the study, and from the folder it is run in, its own modules can be imported
    sys.path[:0] = [str(path.resolve().parent), str(Path.cwd())]
    try:
        compile(path.read_bytes(), str(path), "exec")
    except (SyntaxError, ValueError) as error:
        raise BadInput(f"{path}: not a Python file that can be run ({error})") from error
    defined = runpy.run_path(str(path), run_name="study")
    searches = [value for value in defined.values() if isinstance(value, Search)]
    if len(searches) != 1:
        raise BadInput(
            f"{path}: expected one Search at the top level, such as search = Search(...), "
            f"found {len(searches)}"
        )
    return searches[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="protege", description="Find the student architectures worth distilling."
    )
    parser.add_argument("--debug", action="store_true", help="print the traceback of an error")
    commands = parser.add_subparsers(required=True, metavar="command")

    run = _add_run(commands)
    report = commands.add_parser("report", help="write the report of a run")
    report.set_defaults(command=_report)
    report.add_argument("run", help=RUN)
    report.add_argument("--folder", type=Path, help="where to (default: report in the run folder)")

    pick = commands.add_parser("pick", help="name the best student within budgets")
    pick.set_defaults(command=_pick)
    export = commands.add_parser("export", help="write a student as a Hugging Face checkpoint")
    export.set_defaults(command=_export)
    for command in (pick, export):
        command.add_argument("run", help=RUN)
        command.add_argument("budgets", nargs="*", help="such as latency_ms=8 memory_mb=50")
    export.add_argument("--trial", type=int, help="the trial's number, in place of budgets")
    export.add_argument("--to", type=Path, help="a new folder (default: students/<label>)")

    heads = commands.add_parser("heads", help="rank a teacher's attention heads")
    heads.set_defaults(command=_heads)
    heads.add_argument("teacher", help="a folder, a hub id, or a study file: its teacher and texts")
    heads.add_argument("--texts", type=Path, help="a file with one text a line, or .jsonl")
    heads.add_argument(
        "--by", choices=get_args(HeadsBy), default="ablation", help="criterion (default ablation)"
    )
    heads.add_argument(
        "--tokens",
        type=count,
        help=f"tokens to read, at most (default {TOKENS['ablation']}, "
        f"or {TOKENS['gradient']} where they are read but once)",
    )
    heads.add_argument(
        "--to", type=Path, help="a folder (default: the study's, else the current one)"
    )

    for command in (
        *(run, _add_fidelity(commands), report, pick, export, heads),
        *add_measuring(commands),
    ):
        # no default: it would undo the one before the command
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return parser


def _add_run(commands: Any) -> argparse.ArgumentParser:
    run: argparse.ArgumentParser = commands.add_parser("run", help="run a study, or go on with it")
    run.set_defaults(command=_run)
    run.add_argument("study", type=Path, help="a Python file that defines a Search")
    run.add_argument("--trials", type=count, default=40, help="trials in all (default 40)")
    run.add_argument("--minutes", type=float, help="no trial begins when the run has taken so long")
    run.add_argument(
        "--patience", type=count, help="end when so many trials in a row gained no hypervolume"
    )

    run.add_argument(
        "--jobs",
        type=count,
        help="trials at a time (default 1, or all that the cluster has room for)",
    )
    run.add_argument(
        "--ray", metavar="ADDRESS", help="of a Ray cluster, such as auto or host:6379: work there"
    )
    run.add_argument("--cpus", type=count, default=1, help="that a job takes on Ray (default 1)")
    run.add_argument(
        "--synchronous",
        action="store_true",
        help="go on when all of them have come to a halt: one seed gives one study",
    )
    return run


def _add_fidelity(commands: Any) -> argparse.ArgumentParser:
    fidelity: argparse.ArgumentParser = commands.add_parser(
        "fidelity", help="check that the short distillation ranks as a long one does"
    )
    fidelity.set_defaults(command=_fidelity)
    fidelity.add_argument("study", type=Path, help="the study file of a run")
    fidelity.add_argument(
        "--sample", type=count, default=16, help="students to teach for longer (default 16)"
    )
    fidelity.add_argument("--times", type=count, default=8, help="how many times (default 8)")
    return fidelity


def _one_line(error: Exception) -> str | None:
    """The error as one line, if it is one that a user can act on."""
    if isinstance(error, ProtegeError):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while cause is not None:  # Optuna speaks of a commit; SQLite, beneath it, of the disk
        if "No space left" in str(cause) or "disk is full" in str(cause):
            return "no space left on the device; make room, then run the same line again"
        cause = cause.__cause__ or cause.__context__
    return None


if __name__ == "__main__":
    sys.exit(main())
