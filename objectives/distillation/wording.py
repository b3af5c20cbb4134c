"""Tokenisation of examples."""

from collections.abc import Sequence
from typing import Any

from protege.objectives.data.example import Example
from protege.objectives.distillation.sequences import Sequences
from protege.spaces import BadInput, Teacher
from protege.spaces.checkpoints.padding import rows_of

CHARACTERS = 6
"""Upper estimate of the characters per token, so that enough text is taken from the data."""


def texts_of(examples: Sequence[Example], teacher: Teacher) -> list[str]:
    """Return the texts of the examples.

    Raises:
        BadInput: An example is an image, words, or a pair of texts.
    """
    for example in examples:
        if not isinstance(example.content, str):
            found = "an image"
            if isinstance(example.content, tuple):
                found = f"a list of {len(example.content)} texts (words, or a pair)"
            raise BadInput(
                f"an example that is {found}: a teacher for {teacher.task} reads single texts; "
                "give Texts of strings"
            )
    return [str(example.content) for example in examples]


def encoded(teacher: Teacher, texts: Sequence[Any], max_tokens: int, **options: Any) -> Any:
    """Tokenise texts, truncated to `max_tokens` and to what the teacher reads.

    Args:
        teacher: The teacher.
        texts: Texts, or lists of words.
        max_tokens: Maximum sequence length.
        options: Further options of the tokenizer.
    """
    limit = {"truncation": True, "max_length": teacher.at_most(max_tokens)}
    return teacher.tokenizer(texts, **limit, **options)


def sequences(
    teacher: Teacher,
    ids: Sequence[Sequence[int]],
    scored: Sequence[Sequence[bool]] | None,
    labels: Sequence[int],
) -> Sequences:
    """Build sequences with the teacher's padding id; see `Sequences.of`.

    Raises:
        BadInput: The teacher's embedding has no row for a token.
    """
    found, rows = Sequences.of(ids, scored, labels, teacher.pad_id), rows_of(teacher.model)
    if len(found.ids) and int(found.ids.max()) >= rows:
        last = int(found.ids.max())
        token = teacher.tokenizer.convert_ids_to_tokens(last)
        raise BadInput(
            f"{teacher.source}: its tokenizer has the token {token!r} with id {last}, and its "
            f"embedding has {rows} rows; resize the embedding, or remove the token"
        )
    return found
