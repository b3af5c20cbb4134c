"""What a MiniLM-size encoder takes in memory on every runtime that is installed here.

A BERT of 6 layers of 384 channels reads one text of 64 tokens and, by PyTorch and ONNX Runtime, 8
of them; each figure is of three fresh processes, imports not counted. Takes half a minute, and a
minute more where the programs are still to be exported.
"""

import sys
from importlib.util import find_spec

from transformers import BertConfig

from protege.objectives import LocalCPU, Workload
from protege.objectives.latency.runtimes.runtimes import Name
from protege.objectives.precision import Precision
from protege.objectives.resources.peak_memory import peak_mb, weighed
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
"""Runtime, precision and texts a call."""


def model() -> Blueprint:
    """The encoder, as large as all-MiniLM-L6-v2."""
    config = BertConfig(
        num_hidden_layers=6, hidden_size=384, num_attention_heads=12, intermediate_size=1536
    )
    return Blueprint.of("BertModel", config)


def figures_of(runtime: Name, precision: Precision, batch_size: int) -> list[Figure]:
    """Peaks of loading, of running, and of both, and what imports take beside."""
    target = LocalCPU(runtime=runtime, precision=precision)
    name = f"{target.label.partition(',')[0]}, batch {batch_size}"
    found = weighed(target, model(), Workload(batch_size, 64))
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
            print(f"{runtime}: left out, for it is not installed")
            continue
        figures += figures_of(runtime, precision, batch_size)
    conclude("memory", figures)


if __name__ == "__main__":
    sys.exit(guarded(main))
