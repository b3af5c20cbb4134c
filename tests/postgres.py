"""A real PostgreSQL for tests, which are skipped where it is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from studies.benchmarks.postgres import Server, program
from studies.benchmarks.postgres import server as started

__all__ = ["Server", "server"]


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    """A server that lives as long as the block."""
    try:
        program("initdb")
    except LookupError as error:
        pytest.skip(str(error))
    with started(folder) as found:
        yield found
