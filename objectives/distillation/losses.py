"""Losses on answers: the student's against the teacher's, or against the truth."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import (
    cosine_similarity,
    cross_entropy,
    kl_div,
    log_softmax,
    mse_loss,
)

from protege.objectives.distillation.lesson import Targets
from protege.spaces import BadInput

NO_LABEL = -100
"""What stands for the class of a row that has none."""

TOP = 48
"""Tokens of the teacher's distribution that are kept by name; 292 bytes a row with their ids."""


@dataclass(frozen=True)
class LogitsKL:
    """Kullback-Leibler divergence of the student's distribution from the teacher's.

    Both are softened by the temperature and the loss is multiplied by its square, so that gradients
    keep their size (Hinton et al., arXiv 1503.02531, section 2). Of a vocabulary the teacher's
    likeliest tokens are kept, and the mass of all others as one more outcome, so that a student is
    not asked to put everything on the kept ones; it never exceeds the divergence over all tokens.

    Attributes:
        weight: What it counts in the sum of all terms.
        temperature: Above 1 for softer distributions.
        top: Tokens kept by name; none for all of them, which only a teacher that is asked anew at
            every step can give.
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
    """Mean squared difference of logits (Ba and Caruana, arXiv 1312.6184, section 2.1).

    Attributes:
        weight: What it counts in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        return mse_loss(answer, targets["logits"].to(answer.dtype))


@dataclass(frozen=True)
class HardLabels:
    """Cross-entropy to the true class or token; rows without one are left out.

    Attributes:
        weight: What it counts in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        if bool((labels == NO_LABEL).all()):
            return answer.sum() * 0  # the mean over nothing is not a number
        return cross_entropy(answer, labels, ignore_index=NO_LABEL)


@dataclass(frozen=True)
class VectorCosine:
    """One less the cosine of the student's vector to the teacher's.

    Attributes:
        weight: What it counts in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        return (1 - cosine_similarity(answer, targets["vector"].to(answer.dtype))).mean()


@dataclass(frozen=True)
class VectorMSE:
    """Squared distance of the student's vector to the teacher's, over the latter's squared length.

    As sentence-transformers distils (Reimers and Gurevych, arXiv 2004.09813), but on a scale that
    does not depend on how long a teacher's vectors are.

    Attributes:
        weight: What it counts in the sum of all terms.
    """

    weight: float = 1.0

    def of(self, answer: Tensor, targets: Targets, labels: Tensor) -> Tensor:  # noqa: ARG002
        theirs = targets["vector"].to(answer.dtype)
        return (answer - theirs).square().sum(-1).mean() / theirs.square().sum(-1).mean()


def divergence(logs: Tensor, targets: Targets) -> Tensor:
    """KL(teacher, student) in nats for each row, over the kept tokens and one outcome for the rest.

    Outcomes of the teacher that are one to the student are merged: each is given the part of the
    student's probability that it has of the teacher's, which by the chain rule is the same.

    Args:
        logs: The student's log-probabilities, ``(rows, vocabulary)``.
        targets: ``token`` and ``log_probability`` of the teacher, ``(rows, kept)``; where several
            of its tokens may be one to the student, ``log_part`` of each in its outcome.
    """
    theirs = targets["log_probability"].to(logs.dtype)
    mine = logs.gather(1, targets["token"].long())
    if "log_part" in targets:
        mine = mine + targets["log_part"]
    kept = (theirs.exp() * (theirs - mine)).sum(-1)
    their_rest, my_rest = _rest(theirs), _rest(mine)
    return kept + their_rest * (their_rest.log() - my_rest.log())


def top_of(logits: Tensor, temperature: float, top: int | None) -> dict[str, Tensor]:
    """What `LogitsKL` needs of a teacher's logits, ``(rows, vocabulary)``."""
    if top is None:
        return {"logits": logits}
    logs = log_softmax(logits.float() / temperature, dim=-1)
    kept = logs.topk(min(top, logs.shape[-1]))
    return {"token": kept.indices.int(), "log_probability": kept.values.half()}


def _rest(logs: Tensor) -> Tensor:
    """Probability left by the named outcomes; kept above zero, where rounding may take it."""
    return (1 - logs.exp().sum(-1)).clamp(min=1e-6)
