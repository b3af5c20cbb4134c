"""How a student with fewer tokens writes what its teacher reads; nothing is tokenised again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from protege.objectives.distillation.questions import Questions
from protege.objectives.distillation.sequences import Sequences, tokens_in
from protege.spaces import Infeasible, Teacher
from protege.spaces.checkpoints.padding import longest_text
from protege.spaces.vocabulary.tokenizer import expansions


@dataclass(frozen=True, eq=False)
class Spelt:
    """Sequences of a teacher's tokens in a student's pieces.

    Attributes:
        ids: All pieces, one sequence after another.
        lengths: Pieces of each sequence.
        token: For each piece, the place of the token that it is a piece of.
    """

    ids: Tensor
    lengths: Tensor
    token: Tensor


@dataclass(frozen=True, eq=False)
class Spelling:
    """The pieces that a student writes each of its teacher's tokens with, at least one.

    Token by token: the student's tokenizer, given the text, may join the end of a dropped token
    with the start of the next one. Of all-MiniLM-L6-v2 with half of its tokens it did so in 2 to 11
    of 100 texts, and retention on what it made of them was lower by 0.0005 to 0.003.

    Attributes:
        pieces: Of all tokens, one token after another.
        starts: Where the pieces of each token begin, and where those of the last end.
        untold: Of each token, the nats that its pieces leave untold. The unknown token stands for
            every token that the student cannot write: of so many it says one in the logarithm of
            their number too few. 0 for all others.
        size: Tokens of the student.
        reads: Tokens that the student reads at once; none where it knows no such bound.
    """

    pieces: Tensor
    starts: Tensor
    untold: Tensor
    size: int
    reads: int | None = None

    @classmethod
    def of(
        cls,
        teacher: Teacher,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        kept: Sequence[int],
    ) -> "Spelling":
        """The spelling of a student of that teacher.

        Args:
            teacher: Its teacher.
            model: The student's model, which tells how many tokens it reads at once.
            tokenizer: The student's own.
            kept: The teacher's tokens that it keeps.
        """
        spelt = expansions(teacher.tokenizer, tokenizer, kept)
        # rows that pad an embedding have no token, yet a teacher may find them likely
        spelt += [[tokenizer.unk_token_id or 0]] * (teacher.architecture.vocab_size - len(spelt))
        named = set(teacher.tokenizer.get_vocab().values())
        unknown = torch.tensor(
            [id_ in named and one == [tokenizer.unk_token_id] for id_, one in enumerate(spelt)]
        )
        declared = None if teacher.pooling is None else teacher.pooling.max_tokens
        return cls(
            pieces=torch.tensor([piece for one in spelt for piece in one], dtype=torch.int32),
            starts=torch.tensor([0, *map(len, spelt)]).cumsum(0),
            untold=unknown * unknown.sum().clamp(min=1).log(),
            size=len(kept),
            reads=longest_text(model.config.to_dict(), None, declared),
        )

    @property
    def first(self) -> Tensor:
        """The first piece of each token."""
        return self.pieces[self.starts[:-1]]

    def spelt(self, ids: Tensor, lengths: Tensor) -> Spelt:
        """Sequences of the teacher's ids, one after another, in the student's pieces."""
        begins = self.starts[ids.long()]
        counts = self.starts[ids.long() + 1] - begins
        token = torch.arange(len(ids)).repeat_interleave(counts)
        place = torch.arange(len(token)) - (counts.cumsum(0) - counts)[token]
        sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
        return Spelt(
            ids=self.pieces[begins[token] + place],
            lengths=sequence[token].bincount(minlength=len(lengths)),
            token=token,
        )

    def respelt(self, questions: Questions) -> Sequences:
        """The same questions in the student's pieces.

        A scored token is asked at its last piece, where the whole of it has been read. Sequences
        that are one row each are cut to what the student reads, as its tokenizer would: their last
        piece, which ends a text for an encoder, stays.

        Raises:
            Infeasible: Scored positions lie beyond what the student reads.
            Unsupported: They are no sequences of tokens.
        """
        sequences = tokens_in(questions)
        spelt, scored = self.spelt(sequences.ids, sequences.lengths), sequences.scored
        if scored is None:
            spelt = self._cut(spelt)
        else:
            self.check(sequences, spelt)
            last = spelt.token.diff(append=spelt.token.new_tensor([-1])) != 0
            scored = scored[spelt.token] & last
        return replace(
            sequences,
            ids=spelt.ids,
            lengths=spelt.lengths,
            scored=scored,
            pad=int(self.first[sequences.pad]),
        )

    def check(self, sequences: Sequences, spelt: Spelt) -> None:
        """Refuse sequences whose answers the student would have to give beyond what it reads.

        Raises:
            Infeasible: Names the longest sequence, before and after, and the vocabularies.
        """
        longest = int(spelt.lengths.argmax())
        pieces, tokens = int(spelt.lengths[longest]), int(sequences.lengths[longest])
        if self.reads is not None and pieces > self.reads:
            ratio = self.size / len(self.untold)
            raise Infeasible(
                f"vocab {ratio:.3g}: in {self.size} tokens for {len(self.untold)} a sequence of "
                f"{tokens} becomes one of {pieces}, and the student reads {self.reads}; keep more "
                "tokens, or lower the distillation's max_tokens"
            )

    def _cut(self, spelt: Spelt) -> Spelt:
        if self.reads is None or int(spelt.lengths.max()) <= self.reads:
            return spelt
        ends = spelt.lengths.cumsum(0).repeat_interleave(spelt.lengths)
        left = ends - torch.arange(len(ends))
        place = spelt.lengths.repeat_interleave(spelt.lengths) - left
        stays = (place < self.reads - 1) | (left == 1)
        lengths = spelt.lengths.clamp(max=self.reads)
        return Spelt(spelt.ids[stays], lengths, spelt.token[stays])
