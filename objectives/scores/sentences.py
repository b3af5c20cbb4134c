"""Scores of sentence encoders: similarity of pairs, and retrieval."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize
from typing_extensions import Unpack

from protege.objectives.data.table import Data, Table
from protege.objectives.measurement import Measurement
from protege.objectives.quality.score import Score, of_statistic
from protege.objectives.scores.metric import Options, check_installed
from protege.objectives.scores.metric import score as score_by
from protege.spaces import BadInput, Student, Teacher


@dataclass(frozen=True)
class Spearman:
    """Spearman correlation of cosine similarities with gold scores.

    Attributes:
        table: Columns ``first``, ``second`` and ``score``.
        prompt: Text before each sentence; None for the checkpoint's own.
    """

    table: Table
    prompt: str | None = None

    def __call__(self, student: Student) -> Measurement:
        first, second = (
            student.encode(self.table.texts(one), prompt=self.prompt).double()
            for one in ("first", "second")
        )
        found, gold = cosine_similarity(first, second).numpy(), self.table.numbers("score")
        return of_statistic(
            lambda kept: float(spearmanr(found[kept], gold[kept]).statistic), len(gold)
        )


def spearman(
    data: Data,
    *,
    first: str = "sentence1",
    second: str = "sentence2",
    score: str = "score",
    prompt: str | None = None,
    **options: Unpack[Options],
) -> Score:
    """Return the Spearman correlation of cosine similarities with gold scores (scipy), as for STS.

    Its standard error is by the jackknife.

    Args:
        data: Pairs of sentences.
        first: Column of the first sentence.
        second: Column of the second sentence.
        score: Column of the gold score.
        prompt: Text before each sentence; None for the checkpoint's own.
        options: See `Options`.
    """

    def metric(given: Data) -> Spearman:
        table = Table.of(given, first=first, second=second, score=score)
        table.numbers("score")
        return Spearman(table, prompt)

    return score_by("spearman", metric, data, **options)


@dataclass(frozen=True)
class Retrieval:
    """nDCG of documents ranked by the cosine similarity of their vectors to a query's.

    Attributes:
        queries: Columns ``query`` and ``relevant``.
        documents: Columns ``id`` and ``text``.
        k: Number of ranks that count.
        documents_by: The model that embeds the documents; None is the student.
        prompts: Text before each query and each document; None for the checkpoint's own.
    """

    queries: Table
    documents: Table
    k: int = 10
    documents_by: Teacher | None = None
    prompts: tuple[str | None, str | None] = (None, None)

    def __call__(self, student: Student) -> list[float]:
        from sklearn.metrics import ndcg_score

        documents = self._documents(student) if self.documents_by is None else self._by_teacher
        queries = student.encode(self.queries.texts("query"), prompt=self.prompts[0])
        if queries.shape[1] != documents.shape[1]:
            raise BadInput(
                f"vectors of {queries.shape[1]} dimensions for queries, and of "
                f"{documents.shape[1]} for documents; documents_by= must be the study's teacher"
            )
        found = (normalize(queries.double()) @ normalize(documents.double()).T).numpy()
        pairs = zip(self.grades, found, strict=True)
        return [float(ndcg_score([true], [row], k=self.k)) for true, row in pairs]

    @cached_property
    def grades(self) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """The relevance of each document to each query, ``(queries, documents)``."""
        place = {name: number for number, name in enumerate(self.documents.texts("id"))}
        grades = np.zeros((len(self.queries), len(place)), np.float32)
        for row, relevant in zip(grades, self.queries.columns["relevant"], strict=True):
            for name, grade in _graded(relevant):
                if name not in place:
                    raise BadInput(f"relevant document {name!r}: not among the documents")
                row[place[name]] = grade
        if not (grades > 0).any(1).all():
            raise BadInput("a query without a relevant document; remove it")
        return grades

    @cached_property
    def _by_teacher(self) -> Tensor:
        """The documents' vectors by the teacher, computed once in each process."""
        teacher: Any = self.documents_by
        return self._documents(teacher.student(teacher.architecture))

    def _documents(self, student: Student) -> Tensor:
        return student.encode(self.documents.texts("text"), prompt=self.prompts[1])


def _graded(relevant: Any) -> Iterable[tuple[str, float]]:
    """Yield ids and grades of a mapping, of a list of ids, or of one id."""
    if isinstance(relevant, Mapping):
        return [(str(name), float(grade)) for name, grade in relevant.items() if grade]
    ids = relevant if isinstance(relevant, list | tuple) else [relevant]
    return [(str(name), 1.0) for name in ids]


def ndcg(
    queries: Data,
    documents: Data,
    *,
    k: int = 10,
    documents_by: Teacher | None = None,
    columns: tuple[str, str, str, str] = ("query", "relevant", "id", "text"),
    prompts: tuple[str | None, str | None] = (None, None),
    **options: Unpack[Options],
) -> Score:
    """Return the mean nDCG@k of retrieval by cosine similarity (scikit-learn).

    Args:
        queries: Queries, each with the ids of relevant documents, or a mapping of ids to grades.
        documents: The documents.
        k: Number of ranks that count.
        documents_by: The study's teacher, if documents are embedded by it and queries by students.
        columns: Columns of query and relevant ids, and of the documents' id and text.
        prompts: Text before each query and each document; None for the checkpoint's own.
        options: See `Options`; ``unseen`` takes other queries over the same documents.
    """
    check_installed("sklearn", "scikit-learn")
    table = Table.of(documents, id=columns[2], text=columns[3])
    ids = table.texts("id")
    if len(ids) < 2 or len(set(ids)) < len(ids):
        raise BadInput(f"{len(ids)} documents: expected two or more with distinct ids")

    def metric(given: Data) -> Retrieval:
        asked = Table.of(given, query=columns[0], relevant=columns[1])
        found = Retrieval(asked, table, k, documents_by, prompts)
        _ = found.grades  # refuses unknown documents
        return found

    return score_by(f"ndcg_{k}", metric, queries, **options)
