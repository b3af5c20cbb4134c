"""Draw the front of a run: ``python -m studies.picture RUN FILE.png`` (needs Chromium)."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from protege.search import Front
from protege.search.cli.main import guarded
from protege.search.report import views
from protege.search.report.trade_off import front_figure
from protege.spaces import BadInput

WIDTH_PX, HEIGHT_PX = 1000, 560


def draw(front: Front, path: Path) -> None:
    """Draw the first pair of objectives of a front as in its report, into a PNG file."""
    x, y = views.pairs(front.objectives.records)[0]
    write_png(front_figure(front, x, y, HEIGHT_PX), path)


def write_png(figure: Any, path: Path) -> None:
    """Draw a Plotly figure into a PNG file.

    Raises:
        BadInput: Chromium is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "front.html"
        figure.write_html(page, config={"displayModeBar": False})
        command = [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
            *("--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"),
            *(f"--window-size={WIDTH_PX},{HEIGHT_PX + 16}", "--virtual-time-budget=5000"),
            *(f"--screenshot={path.resolve()}", page.as_uri()),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            raise BadInput("chromium, which draws the picture, is not installed") from None


if __name__ == "__main__":
    run, target = sys.argv[1:]
    sys.exit(guarded(lambda: draw(Front.read(run), Path(target))))
