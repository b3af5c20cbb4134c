from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from protege.search import Front
from protege.spaces import Teacher
from tests import postgres, s3
from tests.postgres import Server
from tests.search import toys
from tests.tiny import save

MEMORY = Path("/dev/shm")
"""SQLite waits for disks, so studies lie in memory where the machine has such a place."""


@contextmanager
def emptied() -> Iterator[Path]:
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as made:
        yield Path(made)


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder."""
    with emptied() as made:
        yield made


@pytest.fixture
def storage(folder: Path) -> str:
    """Where a study that is not there yet will be."""
    return f"sqlite:///{folder}/study.db"


@pytest.fixture(scope="session")
def teacher_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny sentence encoder as its authors would have published it."""
    return save(toys.teacher(), tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="session")
def teacher(teacher_folder: Path) -> Teacher:
    """That encoder, loaded; tests leave it as it is."""
    return Teacher.load(teacher_folder)


@pytest.fixture(scope="session")
def run_folder(teacher: Teacher) -> Iterator[Path]:
    """The folder of a study of the whole narrow space; tests leave it as it is."""
    with emptied() as folder:
        toys.toy(folder, teacher=teacher).run(trials=9)
        yield folder


@pytest.fixture(scope="session")
def front(run_folder: Path) -> Front:
    """The front of that study."""
    return Front.read(run_folder)


@pytest.fixture(scope="module")
def listening() -> Iterator[s3.Server]:
    with pytest.MonkeyPatch.context() as patch, s3.server(patch) as found:
        yield found


@pytest.fixture
def server(listening: s3.Server) -> s3.Server:
    """A server whose bucket is empty."""
    listening.empty()
    return listening


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    """A real PostgreSQL."""
    pytest.importorskip("psycopg")
    # its user may enter, which it may not where pytest puts its folders
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        with postgres.server(Path(folder) / "postgres") as found:
            yield found
