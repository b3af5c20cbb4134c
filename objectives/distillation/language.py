"""Language models: the student's distribution over the next, or the masked, token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from protege.objectives.data.example import Example
from protege.objectives.distillation.lesson import Loss, Scores, Targets, Verdict, standard_error
from protege.objectives.distillation.losses import TOP, LogitsKL, divergence, top_of
from protege.objectives.distillation.questions import Batch, Questions
from protege.objectives.distillation.sequences import Sequences, tokens_in
from protege.objectives.distillation.spelling import Spelling
from protege.objectives.distillation.wording import CHARACTERS, encoded, sequences, texts_of
from protege.spaces import BadInput, Teacher

MASKED_SHARE = 0.15

FAR = 0.07
"""`Lesson.far`. For students of SmolLM2-135M a peak rate of 1.5e-4 was better than 5e-4 at distance
0.03 and 0.04, and worse at 0.06."""

NEVER = -1e4
"""Logarithm of a probability that is none; finite in half precision, so that 0 times it is 0."""


@dataclass(frozen=True)
class LanguageLesson:
    """Next tokens of packed text, or masked tokens of single texts.

    A student with fewer tokens spells some of the teacher's in several pieces. It is asked for the
    first piece with the teacher's distribution, in which tokens that begin with the same piece are
    one outcome, and for every further piece of the true token with that piece for certain: there
    the teacher has said all it had to say. Its loss of a token is the sum over the pieces, so the
    perplexity is, as the teacher's, that of the teacher's tokens. Of a masked token each piece is a
    mask, all asked at once, as in whole-word masking; the student is told their number. A token
    that it cannot spell is one of all those that its unknown token stands for, each as likely.

    Attributes:
        masked: Whether tokens are masked (BERT) or follow (Llama).
        temperature: By which the teacher's distribution is softened; see `LogitsKL`.
        top: Its tokens that are kept by name; see `LogitsKL`.
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
    def far(self) -> float:
        return FAR

    def size(self, example: Example, max_tokens: int) -> float:
        return 1.0 if self.masked else len(str(example.content)) / CHARACTERS / max_tokens

    def questions(
        self, teacher: Teacher, examples: Sequence[Example], max_tokens: int
    ) -> Questions:
        asked = _masked if self.masked else _packed
        return asked(teacher, texts_of(examples, teacher), max_tokens)

    def respelt(
        self, questions: Questions, targets: Targets, spelling: Spelling
    ) -> tuple[Questions, Targets]:
        sequences = tokens_in(questions)
        # the place of each row's token in the text, and that text without masks
        at = sequences.positions + (0 if self.masked else 1)
        ids = sequences.ids.index_put((at,), sequences.labels.int())
        spelt = spelling.spelt(ids, sequences.lengths)
        spelling.check(sequences, spelt)
        row_of = torch.full((len(ids),), -1).index_put((at,), torch.arange(len(at)))
        row = row_of[spelt.token]
        asked, row = row >= 0, row[row >= 0]
        labels = spelt.ids[asked]
        masks = spelling.first[sequences.ids[at].long()][row]
        changed = replace(
            sequences,
            ids=spelt.ids.masked_scatter(asked, masks) if self.masked else spelt.ids,
            lengths=spelt.lengths,
            # what follows is asked where the piece before it stands
            scored=asked if self.masked else asked.roll(-1),
            labels=labels.long(),
            pad=int(spelling.first[sequences.pad]),
        )
        untold = spelling.untold[sequences.labels]
        first = spelling.first[targets["token"].long()]
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

    def verdict(self, scores: Scores) -> Verdict:
        scores = _by_token(scores)
        lost = (scores["loss"] - scores["teacher_loss"]).double()
        retained = float(torch.exp(-lost.mean()))
        return Verdict(
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
    """Answers to each piece of a token, of the answers to the token.

    Args:
        targets: Of each token, with the first pieces of the teacher's tokens.
        row: Ascending; the row of the token that each piece is of.
        labels: The pieces.
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
    """The teacher's outcomes, likeliest first, with the part that each has of all alike.

    Args:
        token: ``(rows, kept)``, the same id where outcomes are alike.
        log_probability: The same shape.
    """
    rows = torch.arange(len(token))[:, None] * (int(token.max()) + 1)
    _, alike = (token + rows).unique(return_inverse=True)
    logs = log_probability.double()
    mass = alike.flatten().bincount(weights=logs.exp().flatten())[alike]
    order = mass.argsort(dim=1, descending=True, stable=True)
    log_part = logs - mass.clamp(min=torch.finfo(mass.dtype).tiny).log()
    found = {"token": token, "log_probability": log_probability, "log_part": log_part.float()}
    return {name: tensor.gather(1, order) for name, tensor in found.items()}


def _by_token(scores: Scores) -> Scores:
    """Scores of the pieces of a token as one, where there are pieces."""
    if "row" not in scores:
        return scores
    row = scores["row"]
    nothing = torch.zeros(int(row.max()) + 1)
    summed = (name for name in scores if name != "row")
    return {name: nothing.index_add(0, row, scores[name]) for name in summed}


def _packed(teacher: Teacher, texts: list[str], max_tokens: int) -> Sequences:
    """Texts end to end, an end-of-text token after each, in blocks of exactly max_tokens."""
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
    # the last position of a block has no next token inside it
    scored = [[True] * (max_tokens - 1) + [False]] * len(blocks)
    labels = [token for block in blocks for token in block[1:]]
    return sequences(teacher, blocks, scored, labels)


def _masked(teacher: Teacher, texts: list[str], max_tokens: int) -> Sequences:
    """Each text with every seventh or so token masked; the same ones whenever it is asked."""
    tokenizer = teacher.tokenizer
    if tokenizer.mask_token_id is None:
        raise BadInput(
            f"{teacher.source}: its tokenizer has no mask token, so no token can be asked"
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
