"""Measure the memory of a MiniLM-size encoder on every installed runtime.

A BERT of 6 layers and width 384 reads one text of 64 tokens, with PyTorch and ONNX Runtime also 8
texts. Each figure is from three fresh processes, without imports. Takes half a minute, plus a
minute for exports.
"""

import sys
from importlib.util import find_spec

from transformers import BertConfig

from protege.objectives import LocalCPU, Workload
from protege.objectives.latency.runtimes.runtimes import Name
from protege.objectives.machine.precision import Precision
from protege.objectives.resources.peak_memory import measured_processes, peak_mb
from protege.search.cli.main import guarded
from protege.spaces import Blueprint
from studies.benchmarks.figures import Figure, conclude

RUNS: tuple[tuple[Name, Precision, int], ...] = (
    ("eager", "float32", 1),
    ("eager", "float32", 8),
    ("onnxruntime", "float32", 1),
    ("onnxruntime", "float32", 8),
    ("onnxruntime", "int8", 1),
    ("openvino", "float32", 1),
)
"""Runtime, precision and batch size."""


def model() -> Blueprint:
    """Return an encoder of the size of all-MiniLM-L6-v2."""
    config = BertConfig(
        num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536
    )
    return Blueprint.of("BertModel", config)


def figures_of(runtime: Name, precision: Precision, batch_size: int) -> list[Figure]:
    """Measure the peaks of loading, of running, and of both, and the memory of imports."""
    target = LocalCPU(runtime=runtime, precision=precision)
    name = f"{target.label.partition(',')[0]}, batch {batch_size}"
    found = measured_processes(target, model(), Workload(batch_size, 64))
    weights_mb = model().skeleton().num_parameters() * 4 / 1e6
    beside = f"{weights_mb:.1f} MB of weights in float32"
    return [
        Figure.of(f"peak memory ({name})", [peak_mb(one) for one in found], "MB", beside),
        Figure.of(f"load peak ({name})", [one["load_peak_mb"] for one in found], "MB"),
        Figure.of(f"run peak ({name})", [one["run_peak_mb"] for one in found], "MB"),
        Figure.of(f"imports ({name})", [one["imports_mb"] for one in found], "MB", "not counted"),
    ]


def main() -> None:
    """Measure and print."""
    figures = []
    for runtime, precision, batch_size in RUNS:
        if runtime != "eager" and find_spec(runtime) is None:
            print(f"{runtime}: skipped, not installed")
            continue
        figures += figures_of(runtime, precision, batch_size)
    conclude("memory", figures)


if __name__ == "__main__":
    sys.exit(guarded(main))
