"""Losses between the student's outputs and the teacher's outputs or the true labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cosine_similarity,
    cross_entropy,
    kl_div,
    log_softmax,
    mse_loss,
)

from protege.spaces import BadInput

NO_LABEL = -100
"""Label of unlabelled rows."""

TOP = 48
"""Default number of the teacher's most likely tokens to store; 292 bytes per row with ids."""


Targets = Mapping[str, Tensor]
"""The teacher's outputs by name, each ``(rows, …)``."""


class Loss(Protocol):
    """A loss on the student's outputs.

    Losses on hidden states or attention are `hooked.HiddenLoss`.
    """

    @property
    def weight(self) -> float:
        """Weight in the sum of all terms."""

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        """Compute the mean loss over rows, a scalar.

        Args:
            answer: The student's outputs, ``(rows, width)``.
            targets: The teacher's outputs.
            labels: The true class of each row, ``(rows,)``; -100 if unknown.
        """


@dataclass(frozen=True)
class LogitsKL:
    """Kullback-Leibler divergence KL(teacher, student) of output distributions.

    Logits are divided by the temperature and the loss is multiplied by its square, which keeps the
    magnitude of gradients (Hinton et al., arXiv 1503.02531, section 2). For vocabularies, only the
    teacher's `top` most likely tokens are used, and all other tokens are merged into one outcome;
    the result is a lower bound of the divergence over all tokens.

    Attributes:
        weight: Weight in the sum of all terms.
        temperature: Softmax temperature; above 1 for softer distributions.
        top: Number of the teacher's most likely tokens to use; None uses all, which requires
            ``Distillation(answers="online")``.
    """

    weight: float = 1.0
    temperature: float = 1.0
    top: int | None = TOP

    def __post_init__(self) -> None:
        if not self.temperature > 0 or (self.top is not None and self.top < 1):
            given = f"temperature={self.temperature!r}, top={self.top!r}"
            raise BadInput(f"{given}: expected a temperature above 0 and at least one token")

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        logs = log_softmax(answer / self.temperature, dim=-1)
        if "logits" not in targets:
            return self.temperature**2 * divergence(logs, targets).mean()
        theirs = log_softmax(targets["logits"].to(answer.dtype) / self.temperature, dim=-1)
        found = kl_div(logs, theirs, reduction="batchmean", log_target=True)
        return self.temperature**2 * found


@dataclass(frozen=True)
class LogitsMSE:
    """Mean squared error of logits (Ba and Caruana, arXiv 1312.6184, section 2.1).

    Attributes:
        weight: Weight in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        return mse_loss(answer, targets["logits"].to(answer.dtype))


@dataclass(frozen=True)
class ScoreMSE:
    """Mean squared error of scores, each divided by the variance of the teacher's.

    Attributes:
        weight: Weight in the sum of all terms.
        variances: The variance of each score; empty for 1 each.
    """

    weight: float = 1.0
    variances: tuple[float, ...] = ()

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        errors = (answer - targets["logits"].to(answer.dtype)).square()
        return (errors / errors.new_tensor(self.variances or (1.0,))).mean()


@dataclass(frozen=True)
class BinaryKL:
    """Kullback-Leibler divergence KL(teacher, student) of each class's own probability, in nats.

    It is the binary cross-entropy to the teacher's probabilities, less their entropy.

    Attributes:
        weight: Weight in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        theirs = targets["logits"].to(answer.dtype)
        wanted = theirs.sigmoid()
        entropy = binary_cross_entropy_with_logits(theirs, wanted)
        return binary_cross_entropy_with_logits(answer, wanted) - entropy


@dataclass(frozen=True)
class HardLabels:
    """Cross-entropy to the true class or token; squared error to true scores.

    Where several classes apply, it is the binary cross-entropy of each. Unlabelled rows are
    ignored.

    Attributes:
        weight: Weight in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        known = ~labels.isnan() if labels.is_floating_point() else labels != NO_LABEL
        if not bool(known.any()):
            return answer.sum() * 0  # the mean over no rows is NaN
        if labels.is_floating_point():
            return mse_loss(answer[known], labels[known].to(answer.dtype))
        if labels.ndim > 1:
            return binary_cross_entropy_with_logits(answer[known], labels[known].to(answer.dtype))
        return cross_entropy(answer, labels, ignore_index=NO_LABEL)


@dataclass(frozen=True)
class VectorCosine:
    """Cosine distance between the student's and the teacher's vectors.

    Attributes:
        weight: Weight in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        return (1 - cosine_similarity(answer, targets["vector"].to(answer.dtype))).mean()


@dataclass(frozen=True)
class VectorMSE:
    """Mean squared error of vectors, divided by the mean squared norm of the teacher's vectors.

    This is the loss of sentence-transformers (Reimers and Gurevych, arXiv 2004.09813), made
    independent of the scale of the teacher's vectors.

    Attributes:
        weight: Weight in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        theirs = targets["vector"].to(answer.dtype)
        return (answer - theirs).square().sum(-1).mean() / theirs.square().sum(-1).mean()


def divergence(logs: Tensor, targets: Targets) -> Tensor:
    """Compute KL(teacher, student) over the kept tokens and one outcome for all others.

    If several teacher tokens are one outcome to the student, the student's probability is split
    among them in the teacher's proportions; by the chain rule this equals merging them.

    Args:
        logs: The student's log-probabilities, ``(rows, vocabulary)``.
        targets: The teacher's ``token`` and ``log_probability``, ``(rows, kept)``; with a cut
            vocabulary also ``log_part``, the log of each token's share of its outcome.

    Returns:
        Nats, ``(rows,)``.
    """
    theirs = targets["log_probability"].to(logs.dtype)
    mine = logs.gather(1, targets["token"].long())
    if "log_part" in targets:
        mine = mine + targets["log_part"]
    kept = (theirs.exp() * (theirs - mine)).sum(-1)
    their_rest, my_rest = _rest(theirs), _rest(mine)
    return kept + their_rest * (their_rest.log() - my_rest.log())


def top_of(logits: Tensor, temperature: float, top: int | None) -> dict[str, Tensor]:
    """Reduce a teacher's logits to what `LogitsKL` needs.

    Args:
        logits: ``(rows, vocabulary)``.
        temperature: Softmax temperature.
        top: Number of most likely tokens to keep; None keeps all logits.
    """
    if top is None:
        return {"logits": logits}
    logs = log_softmax(logits.float() / temperature, dim=-1)
    kept = logs.topk(min(top, logs.shape[-1]))
    return {"token": kept.indices.int(), "log_probability": kept.values.half()}


def _rest(logs: Tensor) -> Tensor:
    """Return the remaining probability mass, clamped to stay positive despite rounding."""
    return (1 - logs.exp().sum(-1)).clamp(min=1e-6)
