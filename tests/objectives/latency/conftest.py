import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models
from transformers import BertConfig, LlamaConfig, PretrainedConfig, PreTrainedTokenizerFast

from protege.objectives.candidate import Candidate
from protege.objectives.latency.device.programs import MANIFEST
from protege.objectives.latency.runtimes.programs import Programs
from protege.objectives.latency.workload import Plan
from protege.spaces import Task, Teacher
from protege.spaces.families.family import family_of
from protege.spaces.files.cache import Cache
from protege.spaces.models.blueprint import Blueprint
from tests.objectives import candidates

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}


@pytest.fixture(scope="session")
def encoder() -> Callable[[int], Blueprint]:
    """A tiny BERT of so many layers."""
    return lambda layers: Blueprint.of("BertModel", BertConfig(num_hidden_layers=layers, **SIZES))


@pytest.fixture(scope="session")
def decoder() -> Callable[[int], Blueprint]:
    """A tiny Llama of so many layers."""
    return lambda layers: Blueprint.of(
        "LlamaForCausalLM", LlamaConfig(num_hidden_layers=layers, num_key_value_heads=1, **SIZES)
    )


@pytest.fixture(scope="session")
def brief() -> Plan:
    """Enough to see everything work, and too little to trust."""
    return Plan(warm_up_s=0.0, usual_pairs=5, pairs_s=0.01, candidate_s=5.0, back_off_s=())


@pytest.fixture(scope="session")
def endless() -> Plan:
    """A job that is still running whenever a test looks."""
    return Plan(most_pairs=10**9, usual_pairs=10**9, pairs_s=600.0, candidate_s=1200.0)


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Where a test finds what another has exported."""
    return Programs(tmp_path_factory.mktemp("programs"))


@pytest.fixture
def candidate(tmp_path: Path) -> Callable[[Blueprint, int], Candidate]:
    """The student of so many layers that is cut from a teacher of that blueprint."""

    def cut(blueprint: Blueprint, layers: int) -> Candidate:
        config: PretrainedConfig = blueprint.configuration()
        words = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
        teacher = Teacher(
            model=blueprint.build(),
            processor=PreTrainedTokenizerFast(tokenizer_object=words),
            task=Task.GENERATION if config.model_type == "llama" else Task.FEATURES,
            family=family_of(config.model_type),
            source="tiny",
        )
        ratio = layers / config.num_hidden_layers
        return candidates.candidate(teacher, Cache(tmp_path), layers=ratio)

    return cut


@pytest.fixture
def program(tmp_path: Path) -> Callable[[list[str]], Path]:
    """A program for ONNX Runtime that adds a number to a row, at each of those stages."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def made(stages: list[str]) -> Path:
        graph = helper.make_graph(
            [helper.make_node("Add", ["row", "number"], ["sum"])],
            "sum",
            [
                helper.make_tensor_value_info("row", kind, [4]),
                helper.make_tensor_value_info("number", kind, []),
            ],
            [helper.make_tensor_value_info("sum", kind, [4])],
        )
        model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
        for stage in stages:
            (tmp_path / stage).mkdir()
            onnx.save(model, tmp_path / stage / "model.onnx")
            np.savez(
                tmp_path / stage / "inputs.npz",
                row=np.ones(4, np.float32),
                number=np.array(2, np.float32),
            )
        manifest = {
            "runtime": "onnxruntime",
            "precision": "float32",
            "stages": dict.fromkeys(stages, "model.onnx"),
        }
        (tmp_path / MANIFEST).write_text(json.dumps(manifest))
        return tmp_path

    return made
