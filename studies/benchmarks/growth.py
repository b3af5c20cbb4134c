"""Measure how calibration, cut and heal grow with the teacher: random Llamas of 0.1B to 3B.

Every teacher is stored in bfloat16 and measured in a process of its own: seconds and peak resident
memory of each phase, over a fixed number of tokens. A power law through the sizes gives the
projection to 8B and 70B, and the size that fills this machine's memory, beyond which a teacher must
be placed in shards. ``--quick`` measures the two smallest.
"""

import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from protege.spaces import Calibration, Teacher
from protege.spaces.files.memory import resident_bytes
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.picture import write_png

PHASES = ("calibration", "cut", "heal")
PROJECTED_B = (8.0, 70.0)
SAMPLED_S = 0.05
SEQUENCES, TOKENS = 16, 128

NAMES = "num_hidden_layers hidden_size intermediate_size num_attention_heads num_key_value_heads"
SIZES = {
    "0.1B": (12, 768, 2048, 12, 4),
    "0.5B": (24, 1280, 3456, 20, 4),
    "1.1B": (22, 2048, 5632, 32, 4),
    "3B": (28, 3072, 8192, 24, 8),
}


def measure(name: str, folder: Path) -> None:
    """Measure one size in this process, and write its figures."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(zip(NAMES.split(), SIZES[name], strict=True))
    config = LlamaConfig(**sizes, vocab_size=32_000, tie_word_embeddings=False, dtype="bfloat16")
    torch.set_default_dtype(torch.bfloat16)
    model: Any = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder / "teacher")
    del model
    teacher, record = Teacher.load(folder / "teacher"), dict[str, Any]()
    parameters = sum(one.numel() for one in teacher.model.parameters())
    ids = torch.randint(1000, (SEQUENCES, TOKENS))
    batches = [
        {"input_ids": part, "attention_mask": torch.ones_like(part)} for part in ids.split(4)
    ]
    smaller = teacher.architecture.scaled(layers=0.5, intermediate=0.5)
    with peak(record, "calibration"):
        calibration = Calibration.of(teacher, batches)
    with peak(record, "cut"):
        teacher.student(smaller, Calibration.of_weights(teacher))
    with peak(record, "heal"):
        teacher.student(smaller, calibration)  # cuts again, and heals
    about = {"parameters": parameters, "dtype": str(teacher.model.dtype), "phases": record}
    (folder / "taken.json").write_text(json.dumps(about), encoding="utf-8")


@contextmanager
def peak(record: dict[str, Any], phase: str) -> Iterator[None]:
    """Record the seconds of a block, and the peak of this process's resident memory."""
    done, most = threading.Event(), [resident_bytes()]

    def watch() -> None:
        while not done.wait(SAMPLED_S):
            most[0] = max(most[0], resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        done.set()
        watcher.join()
    record[phase] = {"s": seconds, "GB": most[0] / 1e9}


def growth(*, quick: bool) -> Iterator[Figure]:
    """Yield seconds and memory by size, the exponents, and the projections."""
    chosen = [*SIZES][: 2 if quick else None]
    found = [taken(name, quick=quick) for name in chosen]
    billions = [one["parameters"] / 1e9 for one in found]
    drawn = go.Figure()
    for unit, mark in (("s", "solid"), ("GB", "dash")):
        for phase in PHASES:
            values = [one["phases"][phase][unit] for one in found]
            what = f"{phase}: {'seconds' if unit == 's' else 'peak memory'}"
            for name, one, value in zip(chosen, found, values, strict=True):
                yield Figure.of(f"{what} ({name})", [value], unit, f"weights in {one['dtype']}")
            slope, offset = np.polyfit(np.log(billions), np.log(values), 1)
            yield Figure.of(f"{what}, exponent of parameters", [float(slope)], "", "at most 1")
            far = [float(np.exp(offset + slope * np.log(size))) for size in PROJECTED_B]
            for size, value in zip(PROJECTED_B, far, strict=True):
                yield Figure.of(f"{what} ({size:g}B, projected)", [value], unit, "power law")
            if unit == "GB" and slope > 0:
                whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
                fills = float(np.exp((np.log(whole) - offset) / slope))
                yield Figure.of(f"{phase}: shards begin", [fills], "B", f"{whole:.0f} GB of memory")
            x, y = [*billions, *PROJECTED_B], [*values, *far]
            drawn.add_scatter(x=x, y=y, mode="lines+markers", line={"dash": mark}, name=what)
    drawn.update_layout(
        template="plotly_white",
        height=560,
        title=f"Measured up to {chosen[-1]}, projected to 8B and 70B",
        xaxis={"type": "log", "title": "Parameters (billions)"},
        yaxis={"type": "log", "title": "Seconds, or GB (dashed)"},
    )
    write_png(drawn, FOLDER / f"growth{'-quick' if quick else ''}.png")


def taken(name: str, *, quick: bool) -> dict[str, Any]:
    """Measure one size in a new process, and return its record.

    Raises:
        RuntimeError: The process failed, for example for want of memory.
    """
    folder = FOLDER / ("growth-quick" if quick else "growth") / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=measure, args=(name, folder))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{name} ended with exit code {process.exitcode}")
    record: dict[str, Any] = json.loads((folder / "taken.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder / "teacher")
    return record


if __name__ == "__main__":
    run_parts("growth", __doc__ or "", {"growth": growth})
