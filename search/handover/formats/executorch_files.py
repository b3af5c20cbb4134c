"""Write a model as an ExecuTorch program and run it there."""

from pathlib import Path
from typing import Any

from torch import Tensor

from protege.search.handover.formats.agreement import Written
from protege.search.handover.formats.samples import traced
from protege.spaces import Teacher


def write_executorch(teacher: Teacher, target: Path, _precision: str) -> Written:
    """Write a model to a file, for the XNNPACK backend, and load it.

    ``ExportedModel.from_pretrained`` of transformers loads the folder.
    """
    from transformers.exporters.base import ExportedModel
    from transformers.exporters.configs import ExecutorchConfig
    from transformers.exporters.exporter_executorch import ExecutorchExporter

    exported = ExecutorchExporter().export(
        teacher.model, traced(teacher), ExecutorchConfig(dynamic=True)
    )
    exported.save_pretrained(target.parent)
    loaded: Any = ExportedModel.from_pretrained(target.parent)

    def forward(given: dict[str, Tensor]) -> Tensor:
        answer: Tensor = loaded(**given)[0]
        return answer

    return Written([target, target.with_name("export.json")], forward=forward)
