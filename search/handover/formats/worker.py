"""Write one export of a student and compare it with the student, in a process of its own.

Run as ``python -m protege.search.handover.formats.worker`` with a job as JSON on standard input.
Exporters patch modules, print, and need memory.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protege.search.handover.formats.agreement import Written, compared
from protege.search.handover.formats.executorch_files import write_executorch
from protege.search.handover.formats.gguf_files import write_gguf
from protege.search.handover.formats.onnx_files import write_onnx
from protege.search.handover.formats.openvino_files import write_openvino
from protege.spaces import Teacher
from protege.spaces.checkpoints.source import quiet

WRITERS: dict[str, Callable[[Teacher, Path, str], Written]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "gguf": write_gguf,
    "executorch": write_executorch,
}


def main() -> None:
    """Run the job on standard input; write its record to the job's ``record`` file."""
    warnings.simplefilter("ignore")
    job: dict[str, Any] = json.load(sys.stdin)
    target = Path(job["target"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        teacher = Teacher.load(job["folder"], task=job["task"])
        teacher.model.float().eval()
        written = WRITERS[job["format"]](teacher, target, job["precision"])
        agreement = compared(teacher, written, job["precision"])
    record = {
        "files": [one.name for one in written.files],
        "bytes": sum(one.stat().st_size for one in written.files),
        "agreement": agreement | (written.notes or {}),
    }
    Path(job["record"]).write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - the parent reports the last line
        print(f"{type(error).__name__}: {' '.join(str(error).split())[:400]}", file=sys.stderr)  # noqa: T201
        sys.stderr.flush()
        os._exit(1)  # a runtime's threads may not end
    os._exit(0)
