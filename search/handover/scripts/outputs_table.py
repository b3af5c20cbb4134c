"""The teacher's outputs as Parquet files, which other programs read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protege.objectives.distillation.inputs.sequences import Sequences
from protege.objectives.distillation.losses.losses import NO_LABEL, Targets

BLOCK = 256
"""Sequences per row group, the most that is in memory."""

FILE = 64 * BLOCK
"""Sequences per file."""

ABOUT = "protege"
"""Key of the description in the metadata of the files' schema."""


def write_outputs(
    folder: Path,
    split: str,
    inputs: Sequences,
    targets: Targets,
    texts: Sequence[str] = (),
    about: Mapping[str, Any] | None = None,
) -> set[str]:
    """Write inputs and the teacher's outputs, one row per sequence, as ``SPLIT-00000.parquet`` etc.

    Args:
        folder: The folder, which exists.
        split: ``train`` or ``test``, by which `datasets.load_dataset` tells the parts apart.
        inputs: The sequences.
        targets: The teacher's outputs; empty for the sequences alone.
        texts: The text of each sequence, if they have one.
        about: What is said of the outputs in the files' metadata.

    Returns:
        The names of the columns.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: set[str] = set()
    known = {ABOUT: json.dumps(dict(about or {}))}
    for number, begin in enumerate(range(0, len(inputs), FILE)):
        path = folder / f"{split}-{number:05d}.parquet"
        writer = None
        for block in _blocks(begin, min(begin + FILE, len(inputs))):
            table = pa.table(dict(_columns(inputs, targets, block)))
            if texts:
                table = table.append_column("text", pa.array(texts[block.start : block.stop]))
            table = table.replace_schema_metadata(known)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            columns = set(table.column_names)
        if writer is not None:
            writer.close()
    return columns


def _blocks(begin: int, end: int) -> Iterator[range]:
    for first in range(begin, end, BLOCK):
        yield range(first, min(first + BLOCK, end))


def _columns(inputs: Sequences, targets: Targets, block: range) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a block of sequences; see docs/export.md."""
    ends = slice(block.start, block.stop + 1)
    starts, row_starts = inputs.starts[ends], inputs.row_starts[ends]
    tokens = slice(int(starts[0]), int(starts[-1]))
    rows = slice(int(row_starts[0]), int(row_starts[-1]))
    lengths, counts = starts.diff(), row_starts.diff()
    yield "input_ids", _lists(inputs.ids[tokens].int(), lengths)
    if inputs.segments is not None:
        yield "token_type_ids", _lists(inputs.segments[tokens].to(torch.int8), lengths)
    if not targets:
        return
    if inputs.scored is not None:
        places = torch.cat([torch.arange(int(length)) for length in lengths])
        yield "positions", _lists(places[inputs.scored[tokens]].int(), counts)
    yield from _labels(inputs.labels[rows], counts, per_row=inputs.scored is not None)
    own = {name: tensor[rows] for name, tensor in targets.items()}
    if "token" in own:
        ids, logs = merged(own["token"], own["log_probability"], own.get("log_part"))
        yield "top_ids", _lists(ids.int().flatten(), counts * ids.shape[1])
        yield "top_log_probs", _lists(logs.half().flatten(), counts * ids.shape[1])
    for name in own.keys() & {"logits", "vector"}:
        width = own[name][0].numel()
        yield name, _lists(own[name].float().flatten(), counts * width)


def _labels(labels: Tensor, counts: Tensor, *, per_row: bool) -> Iterator[tuple[str, Any]]:
    """Yield the column of the true labels, if any is known."""
    import pyarrow as pa

    if per_row:
        yield "labels", _lists(labels.int(), counts)
    elif labels.ndim > 1:
        yield "label", _lists(labels.flatten(), counts * labels.shape[1])
    else:
        yield "label", pa.array(labels.numpy())


def merged(token: Tensor, logs: Tensor, part: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return each row's tokens once, by descending probability.

    Args:
        token: The teacher's tokens in the student's ids, ``(rows, kept)``.
        logs: Their log-probabilities.
        part: The logarithm of each one's share of the probability of equal tokens, for a student
            with a cut vocabulary; None if all tokens of a row differ.

    Returns:
        Ids and log-probabilities; those of unused entries, at the end, are 0 and minus infinity.
    """
    if part is None:
        return token, logs
    order = token.argsort(dim=1, stable=True)
    is_first = token.gather(1, order).diff(dim=1, prepend=token.new_full((len(token), 1), -1)) != 0
    first = torch.zeros_like(is_first).scatter(1, order, is_first)
    whole = torch.where(first, logs.float() - part, -torch.inf).clamp(max=0)
    whole, order = whole.sort(dim=1, descending=True, stable=True)
    return token.gather(1, order).masked_fill(whole.isinf(), 0), whole


def label_kind(inputs: Sequences) -> str:
    """Return what the labels are: ``classes``, ``several`` classes or ``scores``."""
    if inputs.labels.is_floating_point():
        return "scores"
    return "several" if inputs.labels.ndim > 1 else "classes"


def has_labels(inputs: Sequences) -> bool:
    """Return whether any true label is known."""
    labels = inputs.labels
    known = ~labels.isnan() if labels.is_floating_point() else labels != NO_LABEL
    return bool(known.any())


def _lists(values: Tensor, counts: Tensor) -> Any:
    """Return a column of lists: so many of the values in each row."""
    import pyarrow as pa

    offsets = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    return pa.ListArray.from_arrays(pa.array(offsets.int().numpy()), pa.array(values.numpy()))
