"""Write the table of supported models into the documentation.

``python -m studies.families`` rewrites it in ``docs/search-spaces.md``; a test compares both.
"""

import sys
from pathlib import Path
from typing import Any

import transformers
from transformers import CONFIG_MAPPING

from protege.search.cli.main import guarded
from protege.spaces import FAMILIES, Family, Task
from protege.spaces.files.atomic import write_text

PAGE = Path(__file__).parent.parent / "docs/search-spaces.md"
BEGIN, END = "<!-- families: python -m studies.families -->", "<!-- end of families -->"

AXES = {
    "layers": ("num_hidden_layers", "num_decoder_layers"),
    "width": ("hidden_size",),
    "heads": ("num_attention_heads",),
    "KV heads": ("num_key_value_heads",),
    "FFN": ("intermediate_size",),
    "experts": ("num_experts",),
    "expert FFN": ("moe_intermediate_size",),
    "vocab": ("vocab_size",),
}
"""The columns of the table, and the sizes that each covers."""

HEADS = {
    Task.FILL_MASK: "masked LM",
    Task.GENERATION: "causal LM",
    Task.TEXT_TO_TEXT: "seq2seq LM",
    Task.TEXTS: "sequence",
    Task.TOKENS: "token",
    Task.QUESTIONS: "QA",
    Task.IMAGES: "image",
    Task.SPEECH: "speech",
}
"""The heads other than the base model, in the order of the table."""


def table() -> str:
    """Return a Markdown table of the families: the sizes that can be cut, and the heads."""
    titles = ["family", "`model_type`", *AXES, "heads beside the base model"]
    rows = [titles, ["---"] * len(titles), *map(_row, FAMILIES)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(family: Family) -> list[str]:
    types = ", ".join(f"`{name}`" for name in family.model_types)
    cells = [_cell(family, sizes) for sizes in AXES.values()]
    heads = ", ".join(HEADS[task] for task in heads_of(family))
    return [family.name, types, *cells, heads or "-"]


def _cell(family: Family, sizes: tuple[str, ...]) -> str:
    """Return whether a size can be cut: freely, with the width, per stack, or not."""
    free = [size for size in sizes if size in family.knobs]
    if len(free) == 2:
        return "yes, each stack"
    if free:
        return "in multiples" if family.ffn_multiple and "intermediate_size" in sizes else "yes"
    follows = family.heads_follow_hidden and "hidden_size" in family.knobs
    return "with width" if follows and sizes == ("num_attention_heads",) else "-"


def heads_of(family: Family) -> list[Task]:
    """Return the heads that transformers has for any model type of the family.

    Encoders used as decoders, and decoders of an encoder-decoder alone, are left out.
    """
    writes = {"encoder": Task.FILL_MASK, "decoder": Task.GENERATION}
    pair = len(family.depths) == 2
    own = {Task.TEXT_TO_TEXT, Task.SPEECH} if pair else {writes[stack] for stack in family.depths}
    others = {*writes.values(), Task.TEXT_TO_TEXT, Task.SPEECH} - own
    return [
        task
        for task in HEADS
        if task not in others
        and any(CONFIG_MAPPING[name] in _mapping(task) for name in family.model_types)
    ]


def _mapping(task: Task) -> Any:
    """Return the mapping from configuration class to the model class with that head."""
    return getattr(transformers, task.auto_class)._model_mapping  # noqa: SLF001 - no public one


def main() -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    write_text(PAGE, f"{before}{BEGIN}\n{table()}\n{END}{after}")
    print(f"{PAGE}: {len(FAMILIES)} families")


if __name__ == "__main__":
    sys.exit(guarded(main))
