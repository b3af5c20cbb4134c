"""The command line: a thin edge over the Python interface."""

import argparse
import runpy
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from protege.search.accounting import Accounting
from protege.search.front import Choice, Front
from protege.search.search import Search
from protege.spaces import BadInput, ProtegeError

INTERRUPTED, REFUSED = 130, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for what cannot be done, 130 for Ctrl-C."""
    options = _parser().parse_args(arguments)
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
        _complain("protege: stopped; every finished trial is kept, the same line goes on")
        return INTERRUPTED
    except Exception as error:
        line = _one_line(error)
        if debug or line is None:
            traceback.print_exc()
        if line is None:
            raise
        _complain(f"protege: error: {line}")
        return REFUSED
    return 0


def finish(front: Front) -> None:
    """Print what a person wants to see when a study ends: front, report, time."""
    report = front.report()
    _say(f"\n{front.name}: {len(front.members)} of {len(front.trials)} students are on the front")
    _say(f"{front}\n\nHypervolume {front.hypervolume:.4f} (0 = the teacher alone, 1 = ideal)")
    _say(f"{Accounting(front.about['seconds'])}\nReport: {report}")


def _run(options: argparse.Namespace) -> None:
    search = _search_in(options.study)
    finish(search.run(trials=options.trials))


def _report(options: argparse.Namespace) -> None:
    _say(f"Report: {Front.read(options.run).report(options.folder)}")


def _pick(options: argparse.Namespace) -> None:
    _say(str(_chosen(Front.read(options.run), options)))


def _export(options: argparse.Namespace) -> None:
    front = Front.read(options.run)
    choice = _chosen(front, options)
    _say(f"{choice}\nStudent: {choice.export(options.to)}")


def _chosen(front: Front, options: argparse.Namespace) -> Choice:
    """The trial that is named, or the best one within the budgets."""
    if getattr(options, "trial", None) is not None:
        return Choice(front.trial(options.trial), front)
    return front.pick(**_budgets(options.budgets))


def _budgets(words: Sequence[str]) -> dict[str, float]:
    """Budgets from words such as ``latency_ms=8``."""
    budgets = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            budgets[name.lstrip("-").replace("-", "_")] = float(value)
        except ValueError:
            raise BadInput(f"budget {word!r}: expected a goal and a number, latency_ms=8") from None
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
        defined = runpy.run_path(str(path), run_name="study")
    except (SyntaxError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ProtegeError):
            raise
        raise BadInput(f"{path}: not a Python file that can be run ({error})") from error
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

    run = commands.add_parser("run", help="run a study, or go on with it")
    run.set_defaults(command=_run)
    run.add_argument("study", type=Path, help="a Python file that defines a Search")
    run.add_argument("--trials", type=_count, default=40, help="trials in all (default 40)")

    report = commands.add_parser("report", help="write the report of a run")
    report.set_defaults(command=_report)
    report.add_argument("run", help="the run folder, its study.db, or a storage URL")
    report.add_argument("--folder", type=Path, help="where to (default: report in the run folder)")

    pick = commands.add_parser("pick", help="name the best student within budgets")
    pick.set_defaults(command=_pick)
    export = commands.add_parser("export", help="write a student as a Hugging Face checkpoint")
    export.set_defaults(command=_export)
    for command in (pick, export):
        command.add_argument("run", help="the run folder, its study.db, or a storage URL")
        command.add_argument("budgets", nargs="*", help="such as latency_ms=8 memory_mb=50")
    export.add_argument("--trial", type=int, help="the trial's number, in place of budgets")
    export.add_argument("--to", type=Path, help="a new folder (default: students/<label>)")

    for command in (run, report, pick, export):
        command.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    return parser


def _count(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0")
    return int(word)


def _one_line(error: Exception) -> str | None:
    """The error as one line, if it is one that a user can act on."""
    if isinstance(error, ProtegeError):
        return " ".join(str(error).split())
    if "No space left" in str(error) or "disk is full" in str(error):
        return "no space left on the device; make room, then run the same line again"
    return None


def _complain(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - beside `_say`, the one place that does


def _say(text: str) -> None:
    print(text)  # noqa: T201 - the one place that talks to a person


if __name__ == "__main__":
    sys.exit(main())
