"""Language models: the student's distribution over the next, or the masked, token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from protege.objectives.distillation.lesson import Scores, Targets, Verdict, standard_error
from protege.objectives.distillation.sequences import Batch, Sequences
from protege.spaces import BadInput, Teacher

TOP = 48
"""Tokens of the teacher's distribution that are kept by name; 292 bytes a row with their ids."""

MASKED_SHARE = 0.15


@dataclass(frozen=True)
class LanguageLesson:
    """Next tokens of packed text, or masked tokens of single texts.

    Of the teacher's distribution the likeliest tokens are kept, and the mass of all others as one
    more outcome, so that a student is not asked to put everything on the kept ones. The Kullback-
    Leibler divergence over these outcomes is the loss; it never exceeds the one over all tokens.

    Attributes:
        masked: Whether tokens are masked (BERT) or follow (Llama).
    """

    masked: bool = False
    version: ClassVar[int] = 1

    @property
    def name(self) -> str:
        return f"{'masked' if self.masked else 'next'}-token-top{TOP}-v{self.version}"

    def sequences(
        self,
        teacher: Teacher,
        texts: Sequence[str],
        labels: Sequence[int],  # noqa: ARG002 - the text is its own label
        max_tokens: int,
    ) -> Sequences:
        return (_masked if self.masked else _packed)(teacher, texts, max_tokens)

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        output = module(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits: Tensor = output.logits[batch.scored]
        return logits

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logs = log_softmax(answer.float(), dim=-1)
        top = logs.topk(min(TOP, logs.shape[-1]))
        return {
            "token": top.indices.int(),
            "log_probability": top.values.half(),
            "teacher_loss": -logs.gather(1, labels[:, None]).squeeze(1),
        }

    def loss(self, answer: Tensor, targets: Targets) -> Tensor:
        return divergence(log_softmax(answer, dim=-1), targets).mean()

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        logs = log_softmax(answer, dim=-1)
        return {
            "loss": -logs.gather(1, labels[:, None]).squeeze(1),
            "teacher_loss": targets["teacher_loss"],
            "kl": divergence(logs, targets),
            "agrees": (logs.argmax(-1) == targets["token"][:, 0]).float(),
        }

    def verdict(self, scores: Scores) -> Verdict:
        lost = (scores["loss"] - scores["teacher_loss"]).double()
        retained = float(torch.exp(-lost.mean()))
        return Verdict(
            value=retained,
            spread=retained * standard_error(lost),
            figures={
                "perplexity": float(scores["loss"].double().mean().exp()),
                "teacher_perplexity": float(scores["teacher_loss"].double().mean().exp()),
                "kl": float(scores["kl"].mean()),
                "top1_agreement": float(scores["agrees"].mean()),
            },
        )


def divergence(logs: Tensor, targets: Targets) -> Tensor:
    """KL(teacher, student) in nats for each row, over the kept tokens and one outcome for the rest.

    Args:
        logs: The student's log-probabilities, ``(rows, vocabulary)``.
        targets: ``token`` and ``log_probability`` of the teacher, ``(rows, kept)``.
    """
    theirs = targets["log_probability"].to(logs.dtype)
    mine = logs.gather(1, targets["token"].long())
    kept = (theirs.exp() * (theirs - mine)).sum(-1)
    their_rest, my_rest = _rest(theirs), _rest(mine)
    return kept + their_rest * (their_rest.log() - my_rest.log())


def _rest(logs: Tensor) -> Tensor:
    """Probability left by the named outcomes; kept above zero, where rounding may take it."""
    return (1 - logs.exp().sum(-1)).clamp(min=1e-6)


def _packed(teacher: Teacher, texts: Sequence[str], max_tokens: int) -> Sequences:
    """Texts end to end, an end-of-text token after each, in blocks of exactly max_tokens."""
    tokenizer = teacher.tokenizer
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    stream = [token for ids in encoded for token in (*ids, *end)]
    whole = len(stream) // max_tokens * max_tokens
    blocks = [stream[begin : begin + max_tokens] for begin in range(0, whole, max_tokens)]
    if not blocks:
        raise BadInput(
            f"{len(stream)} tokens of text do not fill one sequence of {max_tokens}; "
            "give more text or a smaller max_tokens"
        )
    # the last position of a block has no next token inside it
    scored = [[True] * (max_tokens - 1) + [False]] * len(blocks)
    labels = [token for block in blocks for token in block[1:]]
    return Sequences.of(blocks, scored, labels, tokenizer.pad_token_id or 0)


def _masked(teacher: Teacher, texts: Sequence[str], max_tokens: int) -> Sequences:
    """Each text with every seventh or so token masked; the same ones whenever it is asked."""
    tokenizer = teacher.tokenizer
    if tokenizer.mask_token_id is None:
        raise BadInput(
            f"{teacher.source}: its tokenizer has no mask token, so no token can be asked"
        )
    special = set(tokenizer.all_special_ids)
    generator = np.random.default_rng(0)
    ids, scored, labels = [], [], []
    for one in tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]:
        open_ = [place for place, token in enumerate(one) if token not in special]
        count = max(1, round(MASKED_SHARE * len(open_)))
        chosen = set(generator.permutation(open_)[:count].tolist()) if open_ else set()
        ids.append([tokenizer.mask_token_id if p in chosen else t for p, t in enumerate(one)])
        scored.append([place in chosen for place in range(len(one))])
        labels += [one[place] for place in sorted(chosen)]
    return Sequences.of(ids, scored, labels, tokenizer.pad_token_id or 0)
