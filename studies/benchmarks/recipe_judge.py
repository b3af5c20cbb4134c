"""Measure a student again, whoever made it: plain torch, transformers and sentence-transformers.

``python -m studies.benchmarks.recipe_judge TASK.json RESULT.json`` judges one student in one new
process: its latency in turns with the teacher's, and its likeness to the teacher on given texts.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn import functional
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from studies.benchmarks.recipe import PROJECTION

WARM_UPS = 3


@dataclass(frozen=True)
class Judged:
    """What is judged, and how.

    Attributes:
        teacher: Folder of the teacher.
        student: Folder of the student.
        generates: Whether they are language models; else they are sentence encoders.
        texts: Texts that the search has not seen.
        max_tokens: Length of the packed blocks of a language model.
        prompt_tokens: Tokens that a timed call reads.
        new_tokens: Tokens that a timed call generates.
        pairs: Timed pairs of a call of each model.
    """

    teacher: str
    student: str
    generates: bool
    texts: list[str]
    max_tokens: int
    prompt_tokens: int
    new_tokens: int
    pairs: int


@torch.no_grad()
def relative_latency(given: Judged) -> float:
    """Return the student's latency over the teacher's: the median of pairs, one thread."""
    kind = AutoModelForCausalLM if given.generates else AutoModel
    models: list[Any] = [
        kind.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (given.teacher, given.student)
    ]
    ids = torch.randint(1000, (1, given.prompt_tokens))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    new: dict[str, Any] = {"max_new_tokens": given.new_tokens, "min_new_tokens": given.new_tokens}

    def seconds(model: Any) -> float:
        began = time.perf_counter()
        if given.new_tokens:
            model.generate(**inputs, **new, do_sample=False)
        else:
            model(**inputs)
        return time.perf_counter() - began

    ratios = list[float]()
    for pair in range(WARM_UPS + given.pairs):
        # the order alternates, so that neither always runs in the caches of the other
        first, second = (seconds(model) for model in (models if pair % 2 else models[::-1]))
        ratios.append(second / first if pair % 2 else first / second)
    return median(ratios[WARM_UPS:])


def cosine(given: Judged) -> float:
    """Return the mean cosine of the vectors of two sentence encoders."""
    wanted, found = (_vectors(Path(one), given.texts) for one in (given.teacher, given.student))
    return float((wanted * found).sum(-1).mean())


def _vectors(folder: Path, texts: list[str]) -> Tensor:
    encoder = SentenceTransformer(str(folder), device="cpu")
    found: Tensor = encoder.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    if (folder / PROJECTION).is_file():
        found = found @ load_file(folder / PROJECTION)["weight"].T
    return functional.normalize(found, dim=-1)


@torch.no_grad()
def perplexity_ratio(given: Judged) -> float:
    """Return the teacher's perplexity over the student's, on packed blocks."""
    tokenizer: Any = AutoTokenizer.from_pretrained(given.teacher)
    read = tokenizer(given.texts, add_special_tokens=False)["input_ids"]
    stream = torch.tensor([token for ids in read for token in (*ids, tokenizer.eos_token_id)])
    size = given.max_tokens
    blocks = stream[: len(stream) // size * size].view(-1, size)
    losses = []
    for folder in (given.teacher, given.student):
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        found = [float(model(input_ids=one, labels=one).loss) for one in blocks.split(8)]
        sizes = [len(one) for one in blocks.split(8)]
        losses.append(sum(a * b for a, b in zip(found, sizes, strict=True)) / len(blocks))
    return float(torch.tensor(losses[0] - losses[1]).exp())


def main(task: str, result: str) -> None:
    """Judge the student of a task file, and write the two figures."""
    given = Judged(**json.loads(Path(task).read_text(encoding="utf-8")))
    quality = perplexity_ratio(given) if given.generates else cosine(given)
    torch.set_num_threads(1)
    figures = {"latency": relative_latency(given), "quality": quality}
    Path(result).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
