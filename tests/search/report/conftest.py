import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.benchmarks.chromium import Chromium
from tests.search.report.pages import Browser, shown


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """A real browser without network."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    return lambda page: shown(page, tmp_path / "profile")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """A real browser without network whose pages can be driven."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    with Chromium(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder of screenshots, which the environment may name to keep them."""
    folder = Path(os.environ.get("PROTEGE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
