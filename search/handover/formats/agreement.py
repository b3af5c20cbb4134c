"""Compare an export with the PyTorch model that it was made from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protege.search.handover.formats.samples import (
    NEW_TOKENS,
    TIE,
    Reference,
    batches,
    prompts,
    reference,
)
from protege.spaces import Task, Teacher
from protege.spaces.errors import ProtegeError

TOLERANCE = 1e-4
"""Maximum error of an output in float32, relative to the largest output if that exceeds one."""

CHOOSING = frozenset({Task.TEXTS, Task.TOKENS, Task.FILL_MASK, Task.IMAGES})
"""Tasks whose answer is the class with the largest logit."""

Forward = Callable[[dict[str, Tensor]], Tensor]
"""Runs an export on a batch; returns its first output."""

Generate = Callable[[Sequence[int], int], list[int]]
"""Lets an export write a number of tokens after a prompt, the most likely one each time."""


Array = NDArray[Any]

Feed = dict[str, Array]
"""Inputs of a decoder by name, for one sequence."""

Step = Callable[[Feed], Array]
"""Runs a decoder on the next tokens, after those it has seen; returns logits, ``(1, tokens,
vocabulary)``."""


def greedy(begin: Callable[[], Step], ends: frozenset[int]) -> Generate:
    """Return a function that writes the most likely token each time, up to an end.

    Args:
        begin: Returns the step of a new sequence, which keeps keys and values.
        ends: The tokens that end a text.
    """

    def generate(prompt: Sequence[int], count: int) -> list[int]:
        step, given, written, seen = begin(), np.array([prompt]), list[int](), 0
        while len(written) < count:
            total = seen + given.shape[1]
            logits = step(
                {
                    "input_ids": given,
                    "attention_mask": np.ones((1, total), dtype=np.int64),
                    "position_ids": np.arange(seen, total)[None],
                }
            )
            token = int(logits[0, -1].argmax())
            if token in ends:
                break
            written.append(token)
            given, seen = np.array([[token]]), total
        return written

    return generate


@dataclass(frozen=True)
class Written:
    """An export, loaded in its runtime.

    Attributes:
        files: The written files; the first one is the model.
        forward: Runs it, if one pass answers.
        generate: Lets it write, if it is a decoder.
        expected: What `forward` is compared with, if that is not the model's first output.
        tolerance: Maximum error in float32.
        notes: Further published facts.
    """

    files: Sequence[Path]
    forward: Forward | None = None
    generate: Generate | None = None
    expected: Forward | None = None
    tolerance: float = TOLERANCE
    notes: dict[str, Any] | None = None


class WrongAnswer(ProtegeError):
    """An export answers differently from its model."""


def compared(teacher: Teacher, written: Written, precision: str) -> dict[str, Any]:
    """Return how well an export agrees with its model.

    Raises:
        WrongAnswer: It differs in float32, or an output is not finite.
    """
    if written.generate is not None:
        found = _compared_texts(teacher, written.generate)
        if precision == "float32" and found["equal"] < 1:
            raise WrongAnswer(
                f"writes other tokens than the PyTorch model: {found['equal']:.0%} of "
                f"{NEW_TOKENS} are equal, expected all"
            )
        return found
    assert written.forward is not None  # a writer gives one of the two
    found = _compared_outputs(teacher, written)
    if precision == "float32" and not found["difference"] <= written.tolerance:
        raise WrongAnswer(
            f"its outputs differ by {found['difference']:.2g} from the PyTorch model's; expected "
            f"at most {written.tolerance:g}"
        )
    return found


def _compared_texts(teacher: Teacher, generate: Generate) -> dict[str, Any]:
    references = [reference(teacher.model, prompt) for prompt in prompts(teacher)]
    shares = [_equal(one, generate(one.prompt, NEW_TOKENS)) for one in references]
    return {"prompts": len(shares), "tokens": NEW_TOKENS, "equal": _rounded(shares)}


def _equal(expected: Reference, answer: Sequence[int]) -> float:
    """Return the share of tokens before the first that differs; a tie counts as equal."""
    for place, (token, margin) in enumerate(zip(expected.answer, expected.margins, strict=True)):
        if place >= len(answer) or answer[place] != token:
            return 1.0 if margin < TIE else place / len(expected.answer)
    return 1.0


@torch.no_grad()
def _compared_outputs(teacher: Teacher, written: Written) -> dict[str, Any]:
    def first_output(given: dict[str, Tensor]) -> Tensor:
        output: Tensor = teacher.model(**given)[0]
        return output

    reference_of, forward = written.expected or first_output, written.forward
    assert forward is not None  # `compared` looks
    differences, cosines, choices = [], [], []
    for given in batches(teacher):
        expected = reference_of(given).float()
        answer = forward(given).float()
        if answer.shape != expected.shape or not answer.isfinite().all():
            raise WrongAnswer(
                f"its output of shape {tuple(answer.shape)} is not finite or not of shape "
                f"{tuple(expected.shape)}"
            )
        for one, other in zip(_rows(expected, given), _rows(answer, given), strict=True):
            scale = max(1.0, float(one.abs().max()))
            differences.append(float((one - other).abs().max()) / scale)
            cosines.append(float(torch.cosine_similarity(one.flatten(), other.flatten(), dim=0)))
            choices.append(float((one.argmax(-1) == other.argmax(-1)).float().mean()))
    found = {
        "inputs": len(cosines),
        "difference": float(f"{max(differences):.3g}"),
        "cosine": _rounded(cosines),
    }
    return found | ({"same_class": _rounded(choices)} if teacher.task in CHOOSING else {})


def _rows(output: Tensor, given: dict[str, Tensor]) -> list[Tensor]:
    """Return the output of each input, without padding."""
    mask = given.get("attention_mask")
    if mask is None or output.shape[:2] != mask.shape:
        return list(output)
    return [row[kept == 1] for row, kept in zip(output, mask, strict=True)]


def _rounded(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 6)
