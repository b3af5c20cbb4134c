"""The server of Optuna Dashboard, for a study of protege."""

import json
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from socketserver import ThreadingMixIn
from typing import Any, BinaryIO, Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from protege.search.storage.storage import OptunaStudy
from protege.spaces import BadInput

HOST = "127.0.0.1"
"""The dashboard can delete studies, so only this machine reaches it."""

PORT, PORTS = 8080, 100
"""The first port that is tried, and how many are."""

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_LOCAL = (HOST, "localhost")


class Files(Protocol):
    """An artifact store of Optuna."""

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open a file for reading."""

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store a file."""

    def remove(self, artifact_id: str) -> None:
        """Remove a file."""


class DashboardServer(ThreadingMixIn, WSGIServer):
    """The server of a dashboard; a thread answers each request and ends with the process."""

    daemon_threads = True

    def address(self, study: OptunaStudy) -> str:
        """Return the address of a study's page."""
        number = study._study_id  # noqa: SLF001 - Optuna has no public name
        return f"http://{HOST}:{self.server_port}/dashboard/studies/{number}"


class _Quiet(WSGIRequestHandler):
    """Answers requests without a line for each."""

    def log_message(self, *_: object) -> None:
        pass


def serve(study: OptunaStudy, files: Files | None, port: int | None = None) -> DashboardServer:
    """Return a server of Optuna Dashboard for the storage of a study; it listens already.

    Args:
        study: The study.
        files: The files that it offers.
        port: The port; None for the first free one from `PORT` on.

    Raises:
        BadInput: optuna-dashboard is not installed, or the port is in use.
    """
    if find_spec("optuna_dashboard") is None:
        raise BadInput(
            'optuna-dashboard is not installed; install it: pip install "protege[dashboard]"'
        )
    from optuna_dashboard import wsgi

    shown = _guarded(wsgi(study._storage, files))  # noqa: SLF001
    why = ""
    for number in range(PORT, PORT + PORTS) if port is None else [port]:
        try:
            return make_server(HOST, number, shown, DashboardServer, _Quiet)
        except (OSError, OverflowError) as error:
            why = str(error)
    ports = f"{PORT} to {PORT + PORTS - 1}" if port is None else str(port)
    raise BadInput(f"port {ports}: cannot be listened on ({why}); give a free one, --port NUMBER")


def _guarded(dashboard: Application) -> Application:
    """Refuse requests of other sites and requests that damage a study.

    A page of another site may name this server by a host name of its own. A new name for a study
    would leave its record behind.
    """

    def answer(request: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        host = str(request.get("HTTP_HOST", "")).rpartition(":")[0]
        if host not in _LOCAL:
            return _refused(start, "open the dashboard by the address that protege prints")
        if str(request.get("PATH_INFO", "")).rstrip("/").endswith("/rename"):
            return _refused(start, "a study of protege cannot be renamed: its record would be lost")
        return dashboard(request, start)

    return answer


def _refused(start: Callable[..., Any], reason: str) -> Iterable[bytes]:
    start("403 Forbidden", [("Content-Type", "application/json")])
    return [json.dumps({"reason": reason}).encode()]
