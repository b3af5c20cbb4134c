"""The teacher's outputs are in Parquet files that others read, with the teacher's own values."""

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn.functional import log_softmax

from protege.objectives.distillation.inputs.sequences import Sequences
from protege.search.handover.scripts.outputs_table import BLOCK, merged, write_outputs
from protege.spaces import Teacher
from tests.search.handover.scripts_of import Handed
from tests.test_docs import PAGES


def table(script: Path, split: str = "train") -> dict[str, list[object]]:
    found: dict[str, list[object]] = pq.read_table(
        script.parent / "data" / f"{split}-00000.parquet"
    ).to_pydict()
    return found


def test_the_most_likely_tokens_are_the_teachers(tmp_path: Path) -> None:
    script = Handed("llama-causal-tied", "trainer").write(tmp_path)
    rows = datasets.load_dataset(
        str(script.parent / "data"), cache_dir=str(tmp_path / "hub"), split="train"
    ).with_format("numpy")
    teacher = Teacher.load(tmp_path / "teacher")
    for row in rows.select(range(3)):
        ids = torch.as_tensor(row["input_ids"])[None].long()
        with torch.no_grad():
            logs = log_softmax(teacher.model(input_ids=ids).logits[0], -1)
        assert (row["positions"] == np.arange(15)).all()
        assert (row["labels"] == row["input_ids"][1:]).all()
        best = logs[:15].topk(48)
        assert (row["top_ids"].reshape(15, 48) == best.indices.numpy()).all()
        given = row["top_log_probs"].reshape(15, 48)
        assert np.allclose(given, best.values.numpy(), atol=4e-3)


def test_equal_tokens_of_a_cut_vocabulary_are_one() -> None:
    token = torch.tensor([[7, 3, 7, 5], [2, 2, 2, 2]])
    logs = torch.tensor([[0.4, 0.3, 0.2, 0.1], [1.0, 1e-30, 1e-30, 1e-30]]).log()
    whole = torch.tensor([[0.6, 0.3, 0.6, 0.1], [1.0, 1.0, 1.0, 1.0]])
    ids, found = merged(token, logs, logs - whole.log())
    assert ids.tolist() == [[7, 3, 5, 0], [2, 0, 0, 0]]
    assert torch.allclose(found.exp(), torch.tensor([[0.6, 0.3, 0.1, 0], [1, 0, 0, 0]]))


def test_files_are_written_in_blocks_of_at_most_300_bytes_a_token(tmp_path: Path) -> None:
    count, tokens, top = 2 * BLOCK + 3, 32, 48
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(50_000, (count, tokens), generator=generator)
    scored = [[True] * (tokens - 1) + [False]] * count
    inputs = Sequences.of(ids.tolist(), scored, [0] * (count * (tokens - 1)), pad=0)
    rows = inputs.rows
    targets = {
        "token": torch.randint(50_000, (rows, top), generator=generator).int(),
        "log_probability": -10 * torch.rand((rows, top), generator=generator).half(),
    }
    write_outputs(tmp_path, "train", inputs, targets, about={"task": "next"})
    (path,) = tmp_path.iterdir()
    about = pq.ParquetFile(path)
    sizes = [about.metadata.row_group(n).num_rows for n in range(about.num_row_groups)]
    assert sizes == [BLOCK, BLOCK, 3]
    assert path.stat().st_size / (count * tokens) < 300
    assert json.loads(about.schema_arrow.metadata[b"protege"]) == {"task": "next"}
    last = about.read_row_group(2).to_pydict()
    assert last["input_ids"][2] == ids[-1].tolist()
    assert last["top_ids"][2] == targets["token"][-(tokens - 1) :].flatten().tolist()


@pytest.mark.parametrize(
    ("handed", "columns"),
    [
        (Handed("llama-causal-grouped", "gkd"), {"input_ids"}),
        (
            Handed("bert-masked", "trainer"),
            {"input_ids", "positions", "labels", "top_ids", "top_log_probs"},
        ),
        (Handed("bert-texts", "trainer"), {"input_ids", "label", "logits"}),
        (Handed("bert-tokens", "trainer"), {"input_ids", "positions", "labels", "logits"}),
        (
            Handed("bert-sentences", "sentence-transformers"),
            {"input_ids", "text", "label", "vector"},
        ),
    ],
    ids=lambda one: one.kind if isinstance(one, Handed) else "",
)
def test_every_column_is_documented(tmp_path: Path, handed: Handed, columns: set[str]) -> None:
    script = handed.write(tmp_path)
    train, test = table(script), table(script, "test")
    assert train.keys() == test.keys() == columns
    assert len(test["input_ids"]) == 16
    for name in columns:
        assert f"`{name}`" in PAGES["docs/export.md"], name
