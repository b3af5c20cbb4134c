"""The command ``dashboard``."""

import signal
import threading
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from protege.search.cli.arguments import named_run
from protege.search.cli.whole import Whole
from protege.search.progress import say
from protege.search.records.plain import printable
from protege.search.running.stopping import Interrupted, handling

if TYPE_CHECKING:  # each command imports what it runs: help is printed at once
    from protege.search.front.live import LiveDashboard

Port = Annotated[Whole, Parameter(validator=validators.Number(gte=1, lte=65535))]

LOOKS_S = 10.0
"""Seconds between two looks for trials that have ended, as often as the dashboard's own page."""


def dashboard(run: str, /, *, study: str | None = None, port: Port | None = None) -> None:
    """Show a run in Optuna Dashboard, on this machine; the study may be running.

    Args:
        run: The run folder, its study.db, a storage URL, or the study file.
        study: The study's name, where a storage has several.
        port: Port to serve on (default 8080, or the next free one).
    """
    from protege.search.front.live import LiveDashboard
    from protege.search.study.serving import serve

    shown = LiveDashboard.of(*named_run(run, study))
    with serve(shown.study, shown, port) as server:
        say(f"Dashboard: {printable(server.address(shown.study))}\nCtrl-C ends it.")
        ended = threading.Event()
        threading.Thread(target=_refresh, args=(shown, ended), daemon=True).start()
        try:
            # also where a shell has started the command in the background
            with handling(signal.default_int_handler, (signal.SIGINT,)):
                server.serve_forever()
        except KeyboardInterrupt as interruption:
            if isinstance(interruption, Interrupted):
                raise
        finally:
            ended.set()


def _refresh(shown: "LiveDashboard", ended: threading.Event) -> None:
    """Write what the dashboard shows after each trial that ends."""
    while not ended.is_set():
        shown.refresh()
        ended.wait(LOOKS_S)
