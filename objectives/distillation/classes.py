"""Classifiers of texts or of tokens: the student's logits should be the teacher's."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from protege.objectives.distillation.lesson import Scores, Targets, Verdict, standard_error
from protege.objectives.distillation.sequences import Batch, Sequences
from protege.objectives.distillation.spelling import Spelling
from protege.spaces import Teacher

NO_LABEL = -100


@dataclass(frozen=True)
class ClassLesson:
    """The class of a text, or of each of its tokens.

    The loss is the squared difference of the logits (Ba and Caruana, 2014, section 2.1). With
    labels the quality is accuracy, without them agreement with the teacher.

    Attributes:
        per_token: Whether each token has a class, or each text.
    """

    per_token: bool = False

    @property
    def name(self) -> str:
        return f"{'token' if self.per_token else 'text'}-classes"

    def sequences(
        self, teacher: Teacher, texts: Sequence[str], labels: Sequence[int], max_tokens: int
    ) -> Sequences:
        tokenizer = teacher.tokenizer
        ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
        pad = tokenizer.pad_token_id or 0
        if not self.per_token:
            return Sequences.of(ids, None, labels, pad)
        special = set(tokenizer.all_special_ids)
        scored = [[token not in special for token in one] for one in ids]
        unlabelled = [NO_LABEL] * sum(map(sum, scored))
        return Sequences.of(ids, scored, unlabelled, pad)

    def respelt(
        self, sequences: Sequences, targets: Targets, spelling: Spelling
    ) -> tuple[Sequences, Targets]:
        return spelling.respelt(sequences), targets

    def answer(self, module: nn.Module, batch: Batch) -> Tensor:
        output = module(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        logits: Tensor = output.logits
        return logits[batch.scored] if self.per_token else logits

    def targets(self, answer: Tensor, labels: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - no labels here
        return {"logits": answer}

    def loss(self, answer: Tensor, targets: Targets) -> Tensor:
        return mse_loss(answer, targets["logits"])

    def scores(self, answer: Tensor, targets: Targets, labels: Tensor) -> dict[str, Tensor]:
        mine, theirs = answer.argmax(-1), targets["logits"].argmax(-1)
        known = labels != NO_LABEL
        return {
            "agrees": (mine == theirs).double(),
            "right": torch.where(known, (mine == labels).double(), torch.nan),
            "teacher_right": torch.where(known, (theirs == labels).double(), torch.nan),
        }

    def verdict(self, scores: Scores) -> Verdict:
        agrees = scores["agrees"]
        agreement = float(agrees.mean())
        if bool(scores["right"].isnan().any()):
            return Verdict(agreement, standard_error(agrees), {"agreement": agreement})
        accuracy, best = float(scores["right"].mean()), float(scores["teacher_right"].mean())
        # paired: what matters is where the two differ, not how hard the texts are for both
        differ = scores["right"] - scores["teacher_right"] * (accuracy / best if best else 0)
        return Verdict(
            value=accuracy / best if best else 0.0,
            spread=standard_error(differ) / best if best else 0.0,
            figures={"accuracy": accuracy, "teacher_accuracy": best, "agreement": agreement},
        )
