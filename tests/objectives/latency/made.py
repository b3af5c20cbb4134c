"""Programs that take no time to make: a runtime runs them all the same."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.models import Model, described
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.runtimes.runtimes import Runtime
from protege.objectives.latency.workload import Workload
from protege.objectives.machine.precision import Precision
from protege.spaces.files.hashing import canonical, digest


@dataclass(frozen=True)
class Made(Programs):
    """In place of exports: a product of two matrices for every stage of any model."""

    suffix: str = "onnx"

    def of(self, model: Model, workload: Workload, runtime: Runtime, precision: Precision) -> Path:
        path = self.folder / digest(canonical(described(model)).encode())
        stages = ["prefill", "step"] if workload.new_tokens else ["prefill"]
        for stage in stages:
            (path / stage).mkdir(parents=True, exist_ok=True)
            (path / stage / f"model.{self.suffix}").write_bytes(product())
            np.savez(path / stage / "inputs.npz", x=np.ones((32, 32), np.float32))
        files = dict.fromkeys(stages, f"model.{self.suffix}")
        manifest = {"runtime": runtime.name, "precision": precision, "stages": files}
        (path / MANIFEST).write_text(json.dumps(manifest))
        return path


def product() -> bytes:
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [32, 32]) for name in "xy")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "product", [x], [y])
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return bytes(model.SerializeToString())
