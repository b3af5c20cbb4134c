"""Progress in the cell of a real notebook."""

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

CELL = """
import time
from protege.search.display.live import LINE_S
from protege.search.progress import bar

with bar("toy [v2]", 5, clock=lambda: LINE_S * time.monotonic()) as line:
    line.done(0, 0, 0.0)
    line.run(0, "4x24-h6-f40")
    line.doing("distil 1/2", 0)
    time.sleep(4)
    line.ended(0, "4x24-h6-f40-t0: on the front")
"""
"""Four seconds, on a clock on which they are two minutes."""


@pytest.mark.slow
def test_the_output_of_a_cell_has_lines_of_progress() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    nbclient.NotebookClient(notebook, kernel_name="python3", timeout=300).execute()
    outputs = notebook.cells[0].outputs
    assert {output.name for output in outputs} == {"stdout"}
    lines = "".join(output.text for output in outputs).splitlines()
    progress = [line for line in lines if line.startswith("toy [v2]: 0/5 trials, ")]
    assert 2 <= len(progress) <= 4
    assert all(line.endswith("; trial 0 4x24-h6-f40: distil 1/2") for line in progress)
    assert lines[-1] == "toy [v2]: 4x24-h6-f40-t0: on the front"
