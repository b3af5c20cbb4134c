"""Study files on disk, as a user would write them, for tests of the command line."""

from pathlib import Path

from tests.tiny import CASES, save, texts

STUDY = """
from protege.objectives import Distillation, Memory, Retention, Texts
from protege.search import Search
from protege.spaces import Choice, Range, SearchSpace, Teacher

search = Search(
    name="toy",
    teacher=Teacher.load("{teacher}"),
    space={space},
    objectives=[
        {memory},
        Retention(),
    ],
    distillation=Distillation(
        Texts.from_file("{data}"),
        steps={steps},
        batch_size=8,
        learning_rate=1e-2,
        max_tokens=16,
        selection=16,
    ),
    folder="{run}",
)
"""


def write_study(folder: Path, **changes: object) -> Path:
    """A study of a tiny sentence encoder, its teacher and data beside it; the study file.

    Args:
        folder: Where to; the run folder is ``run`` in it.
        changes: Other values of ``teacher space memory data steps run``.
    """
    if not (folder / "teacher").exists():
        save(CASES["bert-sentences"].teacher(), folder / "teacher")
        (folder / "corpus.txt").write_text("\n".join(texts()), encoding="utf-8")
    given: dict[str, object] = {
        "teacher": folder / "teacher",
        "space": "SearchSpace("
        "layers=Range(0.25, 1.0), intermediate=Range(0.2, 1.0), multiple_of=4)",
        "memory": "Memory()",
        "data": folder / "corpus.txt",
        "steps": 2,
        "run": folder / "run",
    }
    study = folder / "study.py"
    study.write_text(STUDY.format(**(given | changes)), encoding="utf-8")
    return study
