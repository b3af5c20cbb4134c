"""Time the models of a bundle, each alternating with the first, in fresh processes.

Run as ``python3 run.py [DEVICE]`` in the bundle's folder; needs Python 3.8 and the runtime only.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

FRAME = "@@LAT1@@"
COLUMNS = ("ms", "cpu_ms", "preemptions", "prefill_ms", "prefill_cpu_ms")
"""The names of a sample's values in RESULTS.json, in order."""


def main(device: str = "") -> None:
    """Time all models and write RESULTS.json beside the manifest; exit if a model fails."""
    place = Path(__file__).resolve().parent
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    reference, *others = [model["name"] for model in manifest["models"]]
    runs = []
    for names in [[reference, other] for other in others] or [[reference]]:
        for _ in range(manifest["run"]["processes"]):
            sys.stderr.write("timing " + " beside ".join(reversed(names)) + "\n")
            runs.append(run_of(names, _asked(place, manifest, names)))
    results = {
        "format": manifest["results"]["format"],
        "device": device or platform.node() or platform.machine(),
        **{name: manifest[name] for name in ("runtime", "precision")},
        "threads": manifest["run"]["threads"],
        "runs": runs,
    }
    (place / "RESULTS.json").write_text(json.dumps(results), encoding="utf-8")


def run_of(names: list[str], trace: dict[str, Any]) -> dict[str, Any]:
    """Return one process's entry in RESULTS.json."""
    models = {}
    for index, name in enumerate(names):
        columns = zip(*(row[index] for row in trace["rounds"]))  # noqa: B905 - Python 3.8
        models[name] = dict(zip(COLUMNS, map(list, columns)))  # noqa: B905
        models[name]["first_ms"] = trace["cold_ms"][index]
    return {"models": models, "environment": trace["environment"]}


def _asked(place: Path, manifest: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Run the runner on some models; return its trace."""
    job = {**manifest["run"]["job"], "programs": [str(place / "programs" / name) for name in names]}
    said = subprocess.run(
        [sys.executable, str(place / manifest["runner"])],
        input=(json.dumps(job) + "\n").encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    ).stdout.decode()
    answers = [line[len(FRAME) :] for line in said.splitlines() if line.startswith(FRAME)]
    answer: Any = json.loads(answers[0]) if answers else "the runner ended without an answer"
    if "trace" in answer:
        return dict(answer["trace"])
    sys.exit("{}: {}".format(" beside ".join(names), answer))


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
