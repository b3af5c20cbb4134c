"""The command line."""

import errno
import logging
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from cyclopts import App, CycloptsError, Parameter

from protege.search.cli.handing_over import confirm, train
from protege.search.cli.measuring import doctor, heads, measure
from protege.search.cli.serving import dashboard
from protege.search.cli.studying import export, fidelity, pick, report, run
from protege.search.display.output import Level, Output, showing
from protege.search.progress import complain
from protege.search.running.stopping import exit_code, interruptible
from protege.spaces.errors import ProtegeError
from protege.spaces.files.atomic import has_no_room

REFUSED = 2
FLAGS: Mapping[str, Level | str] = {
    "--quiet": Level.QUIET,
    "-q": Level.QUIET,
    "--verbose": Level.VERBOSE,
    "-v": Level.VERBOSE,
    "--json": "json",
    "--debug": "debug",
}
"""What may stand anywhere on the line of every command."""
ANYWHERE = """Anywhere on the line:
  --quiet, -q: Print the result and errors only.
  --verbose, -v: Print each phase and each rung too.
  --json: Print the result as one JSON object on stdout.
  --debug: Print the traceback of an error."""
ENDS = f"""Examples:
  protege run study.py --trials 40
  protege pick runs/minilm-cpu --latency-ms 15
  protege export runs/minilm-cpu --retention 0.9 --to students/fast

{ANYWHERE}

Exit codes: 0, 2 for what cannot be done, 130 after Ctrl-C, 143 after SIGTERM,
129 after SIGHUP. A signal ends a command in order: finished trials are
saved, and the same command resumes."""

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
    *(run, report, dashboard, pick, confirm, export, train),
    *(fidelity, heads, measure, doctor),
)
EXAMPLES = {
    "run": (
        "protege run study.py --trials 40",
        "protege run study.py --minutes 60 --jobs 2 --quiet",
    ),
    "report": (
        "protege report runs/minilm-cpu",
        "protege report runs/minilm-cpu --folder site",
    ),
    "pick": (
        "protege pick runs/minilm-cpu --latency-ms 15",
        "protege pick runs/minilm-cpu --retention 0.9 --parameters-m 20",
        "protege pick runs/minilm-cpu --speedup 2 --json",
    ),
    "dashboard": ("protege dashboard runs/minilm-cpu", "protege dashboard study.py --port 8081"),
    "confirm": (
        "protege confirm runs/minilm-cpu",
        "protege confirm studies/minilm_cpu.py --trial 7 --trial 12",
    ),
    "train": (
        "protege train runs/minilm-cpu --latency-ms 8 --data texts.jsonl --epochs 3",
        "protege train students/fast --teacher bert-base-uncased --data texts.jsonl --minutes 60",
    ),
    "export": (
        "protege export runs/minilm-cpu --retention 0.9",
        "protege export runs/minilm-cpu --trial 15 --to students/fast",
        "protege export students/fast --as onnx --precision int8",
        "protege export students/fast --for sentence-transformers --data texts.jsonl",
    ),
    "fidelity": ("protege fidelity study.py --sample 16 --times 8",),
    "heads": ("protege heads bert-base-uncased --texts corpus.txt --by gradient",),
    "measure": (
        "protege measure bert-base-uncased students/fast --tokens 64",
        "protege measure runs/minilm-cpu --target ssh:raspberry --runtime onnxruntime",
    ),
    "doctor": ("protege doctor", "protege doctor ssh:raspberry --runtime onnxruntime"),
}
"""Command lines in the help of each command."""


def _epilogue(name: str) -> str:
    lines = "\n".join(f"  {line}" for line in EXAMPLES[name])
    return f"{'Examples' if len(EXAMPLES[name]) > 1 else 'Example'}:\n{lines}\n\n{ANYWHERE}"


for order, command in enumerate(COMMANDS):
    app.command(command, sort_key=order, help_epilogue=_epilogue(command.__name__))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code, as `ENDS` lists them."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word not in FLAGS]
    flags = {FLAGS[word] for word in given if word in FLAGS}
    if {Level.QUIET, Level.VERBOSE} <= flags:
        complain("protege: error: --quiet and --verbose: give one of the two")
        return REFUSED
    debug = "debug" in flags
    level = next((one for one in flags if isinstance(one, Level)), Level.NORMAL)
    with showing(Output(level, is_json="json" in flags)), _logging(level, debug=debug):
        return guarded(lambda: app(words), debug=debug)


@contextmanager
def _logging(level: Level, *, debug: bool) -> Iterator[None]:
    """Log from the level on that the command line asks for."""
    logger = logging.getLogger("protege")
    before = logger.level
    if debug:
        logging.basicConfig(format="%(message)s")
        logger.setLevel(logging.DEBUG)
    elif level is Level.QUIET:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def guarded(command: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command; an error becomes one line on stderr, with a traceback to debug, and a code."""
    try:
        with interruptible():
            command()
    except KeyboardInterrupt as interruption:
        complain("protege: stopped. Finished trials are saved; run the same command to resume.")
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
