"""Judge students of all-MiniLM-L6-v2 by two scores, beside a static embedding of the teacher.

The demo's study has a second score, retrieval: each paragraph must find another one of its
docstring among those of all. Trials distil once, however many objectives judge them. Takes about
six minutes on two idle cores.
"""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from protege.objectives import Measurement, Score, StaticEmbedding, scores
from protege.search import Front, State
from protege.search.cli.main import guarded
from studies import minilm_cpu
from studies.benchmarks.figures import FOLDER, Figure
from studies.benchmarks.parts import run_parts
from studies.corpus import related_paragraphs

TRIALS, STEPS, PAIRS = 12, 60, 600
QUICK_TRIALS, QUICK_STEPS, QUICK_PAIRS = 4, 12, 60


def retrieval(count: int) -> Score:
    """Return nDCG@10 of finding one of the paragraphs of a docstring by another.

    Args:
        count: Number of pairs to draw. The third of them that share a docstring are used.
    """
    same = [pair for pair in related_paragraphs(count) if pair["score"] == 2]
    texts = dict.fromkeys(str(pair["sentence2"]) for pair in same)
    ids = {text: str(number) for number, text in enumerate(texts)}
    queries = [
        {"query": pair["sentence1"], "relevant": ids[str(pair["sentence2"])]} for pair in same
    ]
    documents = [{"id": number, "text": text} for text, number in ids.items()]
    return scores.ndcg(queries, documents, name="retrieval")


def study(folder: Path, *, quick: bool) -> Front:
    """Run the study in a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    steps, pairs = (QUICK_STEPS, QUICK_PAIRS) if quick else (STEPS, PAIRS)
    own = minilm_cpu.search
    search = replace(
        own,
        name=folder.name,
        folder=folder,
        objectives=[*own.objectives, retrieval(pairs)],
        baselines=[StaticEmbedding(dim=256)],
        distillation=replace(own.distillation, steps=steps) if own.distillation else None,
    )
    return search.run(trials=QUICK_TRIALS if quick else TRIALS)


def judged(*, quick: bool) -> Iterator[Figure]:
    """Yield what each trial trained, and the figures of a few models."""
    front = study(FOLDER / ("scores-quick" if quick else "scores"), quick=quick)
    steps = QUICK_STEPS if quick else STEPS
    done = [one for one in front.trials if one.training and one.state is State.COMPLETE]
    trained = [float(one.training.steps) for one in done if one.training]
    yield Figure.of("steps of training in a trial", trained, "", f"{steps} of one distillation")
    seconds = [one.seconds["distil"] for one in done]
    yield Figure.of("training of a trial", seconds, "s", f"{len(done)} students, four objectives")
    assert front.teacher
    models = {
        "teacher": front.teacher.measurements,
        "static embedding": front.baselines[0].measurements,
        "fastest student": front.students[0].measurements,
        "most similar student": max(
            (one.measurements for one in front.students), key=lambda one: one["retention"].value
        ),
    }
    for name, found in models.items():
        for objective in front.objectives.records:
            one: Measurement = found[objective.name]
            ends = [one.value - one.spread, one.value, one.value + one.spread]
            yield Figure.of(f"{objective.name} ({name})", ends, objective.unit, "± standard error")
    beaten = front.outdone[front.baselines[0].name]
    total = f"of {len(front.students)} students"
    yield Figure.of("students dominated by the static embedding", [len(beaten)], "", total)


if __name__ == "__main__":
    parts = {"judged": judged}
    sys.exit(guarded(lambda: run_parts("scores", __doc__ or "", parts)))
