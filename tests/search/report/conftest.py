import shutil
from pathlib import Path

import pytest

from tests.search.report.pages import Browser, shown


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    """A real browser without network."""
    if shutil.which("chromium") is None:
        pytest.skip("chromium is not installed")
    return lambda page: shown(page, tmp_path / "profile")
