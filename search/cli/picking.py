"""The commands ``pick`` and ``export``."""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protege.search.progress import say
from protege.search.records.plain import printable, quoted
from protege.spaces.errors import BadInput

if TYPE_CHECKING:  # help is printed without pandas
    from protege.search.analysis.choosing import ChosenStudent
    from protege.search.front.front import Front

COMMANDS = ("pick", "export")
VALUED = ("--budget", "--study", "--to", "--trial")
PLAIN = ("--", "--debug", "--help")
"""Options of these commands; any other is a budget."""

BUDGETS = """Budgets are objectives of the study by name, such as --latency-ms 8 (at most) or
--retention 0.9 (at least), and --speedup 2 (times faster than the teacher). With budgets on
qualities alone the fastest student that meets them is picked, otherwise the best one within them.
Without any budget the knee of the front is picked. The teacher and the naive half never are."""


def add_picking(
    commands: Any, run: str, read: Callable[[argparse.Namespace], "Front"]
) -> tuple[argparse.ArgumentParser, ...]:
    """Add the commands ``pick`` and ``export``.

    Args:
        commands: The subparsers.
        run: Help text of the argument ``run``.
        read: Reads the front of the run that the options name.

    Returns:
        The parsers of both commands.
    """
    pick = commands.add_parser(
        "pick", help="name the best student within budgets", description=BUDGETS
    )
    pick.set_defaults(command=lambda options: _pick(read(options), options))
    export = commands.add_parser(
        "export", help="write a student as a Hugging Face checkpoint", description=BUDGETS
    )
    export.set_defaults(command=lambda options: _export(read(options), options))
    for command in (pick, export):
        command.add_argument("run", help=run)
        command.add_argument(
            "--budget",
            action="append",
            default=[],
            dest="budgets",
            metavar="OBJECTIVE=NUMBER",
            help="a budget; --latency-ms 8 and latency_ms=8 are short for --budget latency_ms=8",
        )
    export.add_argument("--trial", type=int, help="the trial's number, in place of budgets")
    export.add_argument("--to", type=Path, help="a new folder (default: students/<label>)")
    return pick, export


def with_budgets(arguments: Sequence[str]) -> list[str]:
    """Rewrite ``--latency-ms 8`` and ``latency_ms=8`` as ``--budget=latency_ms=8``.

    The parser is built before the objectives of the study are known.
    """
    words = list(arguments)
    at = next((place for place, word in enumerate(words) if not word.startswith("-")), len(words))
    if words[at : at + 1] not in [[name] for name in COMMANDS]:
        return words
    rewritten, left = words[: at + 1], words[at + 1 :]
    has_run = False
    while left:
        word = left.pop(0)
        option, given, value = word.partition("=")
        if option in VALUED and not given:
            rewritten += [word, *left[:1]]
            del left[:1]
        elif option in VALUED or option in PLAIN or re.fullmatch("-[a-z]", word):
            rewritten.append(word)
        elif word.startswith("--"):
            value = value if given else "".join(left[:1])
            del left[: not given]
            rewritten.append(f"--budget={option[2:]}={value}")
        elif has_run or _is_budget(word):
            rewritten.append(f"--budget={word}")
        else:
            rewritten.append(word)
            has_run = True
    return rewritten


def _is_budget(word: str) -> bool:
    """Return whether a word in front of the run is a budget rather than the run."""
    return bool(re.fullmatch(r"[^\W\d]\w*=[-+.\w]*", word)) and not Path(word).exists()


def _pick(front: "Front", options: argparse.Namespace) -> None:
    choice = _chosen(front, options)
    # a storage URL may hold a password
    run = "RUN" if "://" in options.run else quoted(options.run)
    say(f"{choice}\nTo export it: protege export {run} --trial {choice.trial.number}")


def _export(front: "Front", options: argparse.Namespace) -> None:
    choice = _chosen(front, options)
    say(f"{choice}\nStudent: {printable(choice.export(options.to))}")


def _chosen(front: "Front", options: argparse.Namespace) -> "ChosenStudent":
    """Return the trial that is named, or the best one within the budgets."""
    from protege.search.analysis.choosing import ChosenStudent

    trial = getattr(options, "trial", None)
    if trial is None:
        own = VALUED[1:] if hasattr(options, "trial") else ()
        return front.pick(**dict(_budget(front, word, own) for word in options.budgets))
    if options.budgets:
        given = " ".join(options.budgets)
        raise BadInput(f"--trial {trial} and {given}: name a trial or give budgets, not both")
    return ChosenStudent(front.trial(trial), front)


def _budget(front: "Front", word: str, options: Sequence[str]) -> tuple[str, float]:
    """Return the budget that a word such as ``latency_ms=8`` sets."""
    from protege.search.analysis.choosing import bounded, unknown

    given, sign, value = word.rpartition("=")
    name = given if sign else value
    plain = name.replace("-", "_")
    known = (goal.name for goal in bounded(front))
    found = next((goal for goal in known if name == goal or plain == goal.replace("-", "_")), None)
    if found is None:
        raise BadInput(unknown(front, plain, options))
    try:
        return found, float(value)
    except ValueError:
        expected = "an objective and a number, such as latency_ms=8 or --latency-ms 8"
        raise BadInput(f"budget {word!r}: expected {expected}") from None
