"""The command line."""

import errno
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version

from cyclopts import App, CycloptsError, Parameter

from protege.search.cli.handing_over import confirm, train
from protege.search.cli.measuring import doctor, heads, measure
from protege.search.cli.studying import export, fidelity, pick, report, run
from protege.search.progress import complain
from protege.search.running.stopping import exit_code, interruptible
from protege.spaces.errors import ProtegeError
from protege.spaces.files.atomic import has_no_room

REFUSED = 2
ENDS = """--debug, anywhere on the line, prints the traceback of an error.

Exit codes: 0, 2 for what cannot be done, 130 after Ctrl-C, 143 after SIGTERM,
129 after SIGHUP. A signal ends a command in order: finished trials are kept,
and the same line resumes."""

app = App(
    "protege",
    help="Find the student architectures worth distilling.",
    help_epilogue=ENDS,
    help_format="plaintext",
    help_formatter="plain",
    version=lambda: version("protege"),
    version_flags=("--version", "-V"),
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    exit_on_error=False,
    print_error=False,
)
COMMANDS: Sequence[Callable[..., None]] = (
    *(run, report, pick, confirm, export, train),
    *(fidelity, heads, measure, doctor),
)
for order, command in enumerate(COMMANDS):
    app.command(command, sort_key=order)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as `ENDS` lists them."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    if debug:
        logging.basicConfig(format="%(message)s")
        logging.getLogger("protege").setLevel(logging.DEBUG)
    return guarded(lambda: app([word for word in words if word != "--debug"]), debug=debug)


def guarded(command: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command; an error becomes one line on stderr, with a traceback to debug, and a code."""
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


def _one_line(error: Exception) -> str | None:
    """Return the error as one line if a user can act on it, else None."""
    if isinstance(error, CycloptsError):
        help_line = " ".join(["protege", *(error.command_chain or ()), "--help"])
        return f"{' '.join(str(error).split()).rstrip('.')}; see {help_line}"
    if isinstance(error, ProtegeError):
        return " ".join(str(error).split())
    if has_no_room(error):  # wrapped by Optuna and SQLite
        return "no space left on the device; make room, then run the same line again"
    if isinstance(error, OSError) and error.filename is not None and error.errno != errno.ENOSPC:
        return f"{error.filename}: {error.strerror}; fix that, then run the same line again"
    return None


if __name__ == "__main__":
    sys.exit(main())
