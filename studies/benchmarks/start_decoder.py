"""Score untrained students of SmolLM2-135M by perplexity and KL divergence on editorials.

All editorials are joined and split into blocks of 128 tokens. The first 16 blocks are for scoring,
the next 512 for calibration; healing uses the first 32 of the latter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from protege.spaces import (
    Activation,
    Closest,
    Contiguous,
    First,
    Greedy,
    Influence,
    Magnitude,
    Rotation,
    Student,
    Surgeon,
    Teacher,
    Uniform,
    Wanda,
)
from studies.benchmarks.figures import Figure
from studies.benchmarks.start_cuts import (
    LAYER_POLICIES,
    Choice,
    Cut,
    Subject,
    calibrated,
    choices,
)
from studies.smollm2_cpu import smollm2
from studies.snippets import snippets

TOKENS, JUDGED, CALIBRATING, HEALING = 128, 16, 512, 32
"""Tokens per block, and the number of blocks for each use."""

PEERS = {
    24: "at most 140; one-shot Block Influence (ShortGPT) 174.2, every k-th 4253",
    20: "at most 300; one-shot Block Influence (ShortGPT) 508, every k-th 1.4e6",
    15: "at most 900; one-shot Block Influence (ShortGPT) 918, every k-th 2.3e6",
    504: "at most 145; rotation alone 156.1, Minitron's criterion 272.0, first 884391",
    432: "at most 350; rotation alone 429, Minitron's criterion 1057, first 660635",
}

FFN = Cut(
    "FFN half",
    {"intermediate": 1 / 2},
    choices(widths=[First(), Magnitude(), Activation(), Wanda(), Surgeon()])
    + choices(widths=[Activation(), Wanda(), Surgeon()], healing=["sequential"]),
    "ffn half perplexity",
    "at most 250; least-squares refit 258.7, activation alone 481.9, first 657579",
)
DEPTHS = tuple(
    Cut(
        f"{count} layers",
        {"layers": count / 30},
        choices([Uniform(), Contiguous(), Influence(), Greedy()])
        + choices([Influence(), Greedy(), Closest()], healing=["sequential"]),
        f"{count} layers perplexity",
        PEERS[count],
    )
    for count in (24, 20, 15)
)
TURNED = (Activation(), Rotation(), Rotation(tied=True))
WIDTHS = tuple(
    Cut(
        f"hidden {width}",
        {"hidden": width / 576},
        choices(widths=[First(), *TURNED]) + choices(widths=TURNED, healing=["sequential"]),
        f"hidden {width} perplexity",
        PEERS[width],
    )
    for width in (504, 432)
)
ALL_AXES = Cut(
    "20 layers, 504, FFN half",
    {"layers": 20 / 30, "hidden": 504 / 576, "intermediate": 1 / 2},
    choices() + choices([Closest()], [Surgeon(), Rotation(tied=True)], ["sequential"]),
)
REMOVED = 0.14
MIXES = {28: 1368, 27: 1440, 26: 1520}
"""By depth, the widest FFN at which at least 14% of the non-embedding weights are removed."""


@dataclass(frozen=True)
class Judge:
    """Scores on held-out blocks.

    Attributes:
        blocks: ``(blocks, tokens)``.
        said: The teacher's log-probabilities, ``(blocks, tokens, vocabulary)``.
        rest: The number of the teacher's weights outside of embedding and head.
    """

    blocks: Tensor
    said: Tensor
    rest: int

    @classmethod
    def of(cls, teacher: Teacher, blocks: Tensor) -> "Judge":
        """Compute the teacher's outputs on the blocks."""
        with torch.inference_mode():
            said = [_said(teacher.model, part) for part in blocks.split(4)]
        return cls(blocks, torch.cat(said), _rest(teacher.model))

    def perplexity(self) -> float:
        """Return the teacher's perplexity."""
        return float(_surprise(self.said, self.blocks).mean().exp())

    def scores(self, student: Student) -> dict[str, float]:
        """Return perplexity, KL divergence from the teacher, and the share of weights removed."""
        surprise, apart = [], 0.0
        with torch.inference_mode():
            for part, theirs in zip(self.blocks.split(4), self.said.split(4), strict=True):
                mine = _said(student.model, part)
                surprise.append(_surprise(mine, part))
                apart += float(kl_div(mine, theirs, reduction="sum", log_target=True))
        return {
            "perplexity": float(torch.cat(surprise).mean().exp()),
            "KL": apart / self.blocks.numel(),
            "removed": 1 - _rest(student.model) / self.rest,
        }


def _said(model: Any, blocks: Tensor) -> Tensor:
    said: Tensor = model(input_ids=blocks, use_cache=False).logits.log_softmax(-1)
    return said


def _surprise(said: Tensor, blocks: Tensor) -> Tensor:
    """Return the cross-entropy of every token but the first of each block."""
    return cross_entropy(said[:, :-1].flatten(0, 1), blocks[:, 1:].flatten(), reduction="none")


def _rest(model: Any) -> int:
    """Return the number of weights outside of embedding and head."""
    ends = {model.get_input_embeddings().weight, model.get_output_embeddings().weight}
    return sum(p.numel() for p in model.parameters() if p not in ends)


def blocks_of(teacher: Teacher) -> Tensor:
    """Return the tokens of the editorials, ``(blocks, tokens)``."""
    text = " ".join(one.text for one in snippets("nytEditorialSnippets"))
    ids: list[int] = teacher.tokenizer(text)["input_ids"]
    return torch.tensor(ids[: len(ids) // TOKENS * TOKENS]).view(-1, TOKENS)


def batch_of(blocks: Tensor) -> dict[str, Tensor]:
    """Return the blocks as model inputs."""
    return {"input_ids": blocks, "attention_mask": torch.ones_like(blocks)}


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of SmolLM2-135M."""
    teacher = smollm2()
    blocks = blocks_of(teacher)
    judge = Judge.of(teacher, blocks[:JUDGED])
    own = judge.perplexity()
    yield Figure.of("teacher perplexity", [own], "", "80.07 in the research notes")
    seen = blocks[JUDGED : JUDGED + (64 if quick else CALIBRATING)]
    batches: list[Mapping[str, Any]] = [batch_of(part) for part in seen.split(16)]
    calibration = calibrated(
        teacher, batches, batch_of(seen[:HEALING]), [*LAYER_POLICIES, Surgeon()]
    )
    subject = Subject(teacher, calibration, judge.scores, min)
    yield from subject.figures([FFN, *DEPTHS, *WIDTHS, ALL_AXES], quick=quick)
    yield from _mixed(subject, own, quick=quick)
    choice = Choice(Closest(), Surgeon(), "sequential")
    yield subject.build_seconds("build seconds smollm2 (all axes)", ALL_AXES, choice, "at most 5")


def _mixed(subject: Subject, own: float, *, quick: bool) -> Iterator[Figure]:
    """Yield perplexity relative to the teacher's with 14% of weights removed, by depth."""
    cuts = [
        Cut(
            f"{depth} layers, FFN {width}",
            {"layers": depth / 30, "intermediate": width / 1536},
            choices([Closest()], [Surgeon()], ["sequential"]),
        )
        for depth, width in MIXES.items()
    ]
    rows = [row for cut in (cuts[:2] if quick else cuts) for row in subject.rows(cut)]
    yield from subject.reported(rows)
    enough = [row for row in rows if row.scores["removed"] >= REMOVED]
    best = min(enough, key=lambda row: row.scores["perplexity"])
    ratio, removed = best.scores["perplexity"] / own, best.scores["removed"]
    how = f"{best.cut.name} ({best.choice}), {removed:.1%} removed; at most 1.5"
    yield Figure.of("minus 14% perplexity ratio", [ratio], "", how)
