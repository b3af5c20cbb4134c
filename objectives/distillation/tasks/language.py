"""The distillation task of language models, which predict the next or the masked token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from protege.objectives.data.example import Example
from protege.objectives.distillation.inputs.batches import Batch, TaskInputs
from protege.objectives.distillation.inputs.sequences import (
    CHARACTERS,
    Sequences,
    encoded,
    sequences,
    texts_of,
    tokens_in,
)
from protege.objectives.distillation.inputs.vocabulary_map import VocabularyMap
from protege.objectives.distillation.losses.losses import (
    TOP,
    LogitsKL,
    Loss,
    Targets,
    divergence,
    top_of,
)
from protege.objectives.distillation.tasks.task import Scores, TaskScore, standard_error
from protege.spaces import BadInput, Teacher

MASKED_SHARE = 0.15

FULL_RATE_DISTANCE = 0.07
"""For students of SmolLM2-135M a peak rate of 1.5e-4 was better than 5e-4
at distance 0.03 and 0.04, and worse at 0.06."""

NEVER = -1e4
"""Log-probability that stands for probability 0; finite in half precision, to avoid 0 * inf."""


@dataclass(frozen=True)
class LanguageTask:
    """Next-token prediction on packed text, or masked-token prediction on single texts.

    A student with a cut vocabulary writes some teacher tokens as several pieces. The target of the
    first piece is the teacher's distribution, in which tokens with the same first piece are merged
    into one outcome; the target of each further piece is the true piece with probability 1. The
    loss of a token is the sum over its pieces, so that perplexities of student and teacher are both
    per teacher token. For a masked token every piece is a mask and all are predicted at once, as in
    whole-word masking. If a token maps to the student's unknown token, its probability is that of
    the unknown token divided by the number of such tokens.

    Attributes:
        masked: Whether to predict masked tokens (BERT) or next tokens (Llama).
        temperature: Temperature of the teacher's distribution; see `LogitsKL`.
        top: Number of the teacher's most likely tokens to keep; see `LogitsKL`.
    """

    masked: bool = False
    temperature: float = 1.0
    top: int | None = TOP
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        softened = "" if self.temperature == 1 else f"-t{self.temperature:g}"
        kind = "masked" if self.masked else "next"
        return f"{kind}-token-top{self.top}{softened}-v{self.version}"

    @property
    def losses(self) -> tuple[Loss, ...]:
        return (LogitsKL(temperature=self.temperature, top=self.top),)

    @property
    def full_rate_distance(self) -> float:
        return FULL_RATE_DISTANCE

    def size(self, example: Example, max_tokens: int) -> float:
        return 1.0 if self.masked else len(str(example.content)) / CHARACTERS / max_tokens

    def inputs(self, teacher: Teacher, examples: Sequence[Example], max_tokens: int) -> TaskInputs:
        build = _masked if self.masked else _packed
        return build(teacher, texts_of(examples, teacher), max_tokens)

    def mapped(
        self, inputs: TaskInputs, targets: Targets, vocabulary_map: VocabularyMap
    ) -> tuple[TaskInputs, Targets]:
        sequences = tokens_in(inputs)
        # the position of each row's target token, and the ids with masks replaced by targets
        at = sequences.positions + (0 if self.masked else 1)
        ids = sequences.ids.index_put((at,), sequences.labels.int())
        spelt = vocabulary_map.spelt(ids, sequences.lengths)
        vocabulary_map.check(sequences, spelt)
        row_of = torch.full((len(ids),), -1).index_put((at,), torch.arange(len(at)))
        row = row_of[spelt.token]
        scored, row = row >= 0, row[row >= 0]
        labels = spelt.ids[scored]
        masks = vocabulary_map.first[sequences.ids[at].long()][row]
        changed = replace(
            sequences,
            ids=spelt.ids.masked_scatter(scored, masks) if self.masked else spelt.ids,
            lengths=spelt.lengths,
            # a next token is predicted at the position of the piece before it
            scored=scored if self.masked else scored.roll(-1),
            labels=labels.long(),
            pad=int(vocabulary_map.first[sequences.pad]),
        )
        untold = vocabulary_map.untold[sequences.labels]
        first = vocabulary_map.first[targets["token"].long()]
        return changed, _by_piece({**targets, "token": first, "untold": untold}, row, labels)

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        output = module(**batch.inputs)
        logits: Tensor = output.logits[batch.scored]
        return logits

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logs = log_softmax(answer.float(), dim=-1)
        own = -logs.gather(1, labels[:, None]).squeeze(1)
        return {**top_of(answer, self.temperature, self.top), "teacher_loss": own}

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        logs = log_softmax(answer, dim=-1)
        scores = {
            "loss": -logs.gather(1, labels[:, None]).squeeze(1),
            "teacher_loss": targets["teacher_loss"],
            "kl": divergence(logs, targets),
            "misses": (logs.argmax(-1) != targets["token"][:, 0]).float(),
        }
        if "row" in targets:
            scores |= {"loss": scores["loss"] + targets["untold"], "row": targets["row"]}
        return scores

    def score(self, scores: Scores) -> TaskScore:
        scores = by_token(scores)
        lost = (scores["loss"] - scores["teacher_loss"]).double()
        retained = float(torch.exp(-lost.mean()))
        return TaskScore(
            value=retained,
            spread=retained * standard_error(lost),
            figures={
                "perplexity": float(scores["loss"].double().mean().exp()),
                "teacher_perplexity": float(scores["teacher_loss"].double().mean().exp()),
                "kl": float(scores["kl"].mean()),
                "top1_agreement": float((scores["misses"] == 0).float().mean()),
            },
            rows=-lost,
            of_mean=exp,
        )


def _by_piece(targets: Targets, row: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Expand the teacher outputs of each token to its pieces.

    Args:
        targets: The teacher outputs of each token, whose ``token`` holds first pieces.
        row: The row of each piece's token, ascending, ``(pieces,)``.
        labels: The true pieces, ``(pieces,)``.
    """
    found = {name: tensor[row] for name, tensor in targets.items()}
    later = row.diff(prepend=row.new_tensor([-1])) == 0
    found["token"][later] = labels[later, None]
    found["log_probability"][later] = NEVER
    found["log_probability"][later, 0] = 0
    for loss in ("teacher_loss", "untold"):
        found[loss][later] = 0
    return {**found, **_merged(found["token"], found["log_probability"]), "row": row}


def _merged(token: Tensor, log_probability: Tensor) -> dict[str, Tensor]:
    """Sort the teacher's outcomes by probability and add each one's share of equal outcomes.

    Args:
        token: ``(rows, kept)``; equal ids are one outcome to the student.
        log_probability: ``(rows, kept)``.

    Returns:
        Both, sorted by the total probability of equal outcomes, and ``log_part``: the logarithm of
        each one's share of that total.
    """
    rows = torch.arange(len(token))[:, None] * (int(token.max()) + 1)
    _, outcome = (token + rows).unique(return_inverse=True)
    logs = log_probability.double()
    mass = outcome.flatten().bincount(weights=logs.exp().flatten())[outcome]
    order = mass.argsort(dim=1, descending=True, stable=True)
    log_part = logs - mass.clamp(min=torch.finfo(mass.dtype).tiny).log()
    found = {"token": token, "log_probability": log_probability, "log_part": log_part.float()}
    return {name: tensor.gather(1, order) for name, tensor in found.items()}


def by_token(scores: Scores) -> Scores:
    """Sum the scores over the pieces of each token, if tokens were split."""
    if "row" not in scores:
        return scores
    row = scores["row"]
    nothing = torch.zeros(int(row.max()) + 1)
    summed = (name for name in scores if name != "row")
    return {name: nothing.index_add(0, row, scores[name]) for name in summed}


def _packed(teacher: Teacher, texts: list[str], max_tokens: int) -> Sequences:
    """Concatenate texts, each followed by an end-of-text token, into blocks of max_tokens.

    Raises:
        BadInput: The texts do not fill one block.
    """
    tokenizer = teacher.tokenizer
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    read = tokenizer(texts, add_special_tokens=False)["input_ids"]
    stream = [token for ids in read for token in (*ids, *end)]
    max_tokens = teacher.at_most(max_tokens)
    whole = len(stream) // max_tokens * max_tokens
    blocks = [stream[begin : begin + max_tokens] for begin in range(0, whole, max_tokens)]
    if not blocks:
        raise BadInput(
            f"{len(stream)} tokens of text do not fill one sequence of {max_tokens}; "
            "give more text or a smaller max_tokens"
        )
    # the next token of a block's last position is outside the block
    scored = [[True] * (max_tokens - 1) + [False]] * len(blocks)
    labels = [token for block in blocks for token in block[1:]]
    return sequences(teacher, blocks, scored, labels)


def _masked(teacher: Teacher, texts: list[str], max_tokens: int) -> Sequences:
    """Mask a fixed random `MASKED_SHARE` of each text's tokens.

    Raises:
        BadInput: The tokenizer has no mask token.
    """
    tokenizer = teacher.tokenizer
    if tokenizer.mask_token_id is None:
        raise BadInput(
            f"{teacher.source}: its tokenizer has no mask token, so no token can be masked"
        )
    special = set(tokenizer.all_special_ids)
    generator = np.random.default_rng(0)
    ids, scored, labels = [], [], []
    for one in encoded(teacher, texts, max_tokens)["input_ids"]:
        open_ = [place for place, token in enumerate(one) if token not in special]
        count = max(1, round(MASKED_SHARE * len(open_)))
        chosen = set(generator.permutation(open_)[:count].tolist()) if open_ else set()
        ids.append([tokenizer.mask_token_id if p in chosen else t for p, t in enumerate(one)])
        scored.append([place in chosen for place in range(len(one))])
        labels += [one[place] for place in sorted(chosen)]
    return sequences(teacher, ids, scored, labels)
