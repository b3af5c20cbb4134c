"""How a student is made: cut out of its teacher, turned where that is asked, then healed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from transformers import PreTrainedModel

from protege.spaces.architecture import Architecture
from protege.spaces.basis import Basis
from protege.spaces.calibration import Calibration
from protege.spaces.configuring import configured
from protege.spaces.cut import cut
from protege.spaces.errors import BadInput
from protege.spaces.filling import filled
from protege.spaces.healing import Healer
from protege.spaces.kept import Kept, everything
from protege.spaces.moments import refit_from_moments
from protege.spaces.pooling import Embedder
from protege.spaces.processors import with_tokenizer
from protege.spaces.regression import Fit
from protege.spaces.rotation import read_off, turned
from protege.spaces.student import Student
from protege.spaces.tasks import Task
from protege.spaces.vocabulary import shrunk
from protege.spaces.widths import Rotation

if TYPE_CHECKING:
    from protege.spaces.teacher import Teacher


def made(
    teacher: "Teacher",
    architecture: Architecture,
    kept: Kept,
    calibration: Calibration | None = None,
) -> Student:
    """The student that keeps exactly these units, healed as the architecture says.

    Raises:
        BadInput: It is to be healed or turned, and the calibration has nothing for it.
        Infeasible: The teacher's residual stream cannot be turned.
        Mismatch: The units are not as many as the architecture has.
    """
    heals = architecture.healing != "none" and kept != everything(teacher.layout)
    if heals and kept.vocab is not None:
        return _with_fewer_tokens(teacher, architecture, kept, calibration)
    config = configured(teacher.layout, teacher.config, architecture, kept.vocab)
    processor = teacher.processor
    if kept.vocab is not None:
        processor = with_tokenizer(processor, shrunk(teacher.tokenizer, kept.vocab))
    tensors = _Tensors.of(teacher, architecture, kept, calibration)
    if tensors.unties:
        config.tie_word_embeddings = False
    model = filled(type(teacher.model), config, tensors.narrow)
    readout = tensors.readout
    if heals:
        readout = _healed(model, teacher, architecture, kept, tensors, calibration) or readout
    if model.can_generate():
        # how text is sampled and where it ends is no part of the configuration
        model.generation_config = teacher.generation_config(kept.vocab)
    return Student(
        model=model,
        processor=processor,
        architecture=architecture,
        kept=kept,
        embedder=embedder(teacher, model, readout, turns=kept.turned),
        is_sentence_transformer=teacher.task is Task.SENTENCES,
    )


def embedder(
    teacher: "Teacher", model: PreTrainedModel, readout: Fit, *, turns: bool = False
) -> Embedder | None:
    """The model with the teacher's pooling, in the teacher's own space of vectors.

    A narrower student, or a turned one, gets a linear layer back to the teacher's dimension: the
    teacher's state as it is read off the student's, followed by the teacher's own last layer where
    it has one.
    """
    if teacher.pooling is None:
        return None
    dense, (outputs, inputs) = teacher.pooling.projection, readout.weight.shape
    projection = None
    if dense is not None or inputs < outputs or turns:
        weight, bias = dense or (torch.eye(outputs), torch.zeros(outputs))
        shift = 0 if readout.bias is None else weight @ readout.bias
        projection = skip_init(nn.Linear, inputs, len(weight))  # draws nothing
        with torch.no_grad():
            projection.weight.copy_(weight @ readout.weight)
            projection.bias.copy_(bias + shift)
    return Embedder(model, teacher.pooling, projection).eval()


@dataclass(frozen=True, eq=False)
class _Tensors:
    """A student's tensors as they are cut.

    Attributes:
        narrow: By the student's names.
        wide: The same with the teacher's whole residual stream; empty where that is not cut.
        basis: The student's stream in terms of the teacher's.
        readout: How the teacher's last state is read off the student's.
        unties: Whether a head that shared the embedding's rows has its own.
    """

    narrow: Mapping[str, Tensor]
    wide: Mapping[str, Tensor]
    basis: Basis
    readout: Fit
    unties: bool = False

    @classmethod
    def of(
        cls,
        teacher: "Teacher",
        architecture: Architecture,
        kept: Kept,
        calibration: Calibration | None,
    ) -> "_Tensors":
        own, width = teacher.model.state_dict(), teacher.architecture.hidden_size
        basis = Basis.of_channels(kept.hidden, width)
        needs_wide = kept.turned or (architecture.healing != "none" and basis.is_narrower)
        whole = replace(kept, hidden=tuple(range(width)))
        wide = cut(own, teacher.layout, whole) if needs_wide else {}
        if not kept.turned:
            return cls(cut(own, teacher.layout, kept), wide, basis, Fit(basis.matrix))
        streams = None if calibration is None else calibration.streams
        if streams is None:
            raise _missing("a rotation", "streams: calibration.with_streams(teacher, batch)")
        basis, policy = streams.directions.basis(len(kept.hidden)), architecture.width_policy
        tied = isinstance(policy, Rotation) and policy.tied
        narrow = turned(wide, teacher, kept, streams, tied=tied)
        readout = Fit(read_off(teacher, streams.wiring.norms[-1], basis))
        return cls(narrow, wide, basis, readout, unties=not tied)


def _healed(
    model: PreTrainedModel,
    teacher: "Teacher",
    architecture: Architecture,
    kept: Kept,
    tensors: _Tensors,
    calibration: Calibration | None,
) -> Fit | None:
    """Heal a student in place; how the teacher's last state is read off its own, if that differs.

    Raises:
        BadInput: The calibration has nothing to heal by.
    """
    if calibration is None or calibration.streams is None:
        raise _missing("healing", "streams: calibration.with_streams(teacher, batch)")
    if architecture.healing == "one-shot" and "tokens" not in calibration.importance:
        raise _missing("one-shot healing", "moments: Calibration.of(teacher, batches, grams=True)")
    healer = Healer(model, teacher, kept, tensors.basis, tensors.wide, calibration.streams)
    refit_from_moments(healer, calibration)
    if architecture.healing == "sequential":
        healer.heal()
    return healer.readout


def _with_fewer_tokens(
    teacher: "Teacher", architecture: Architecture, kept: Kept, calibration: Calibration | None
) -> Student:
    """A student whose vocabulary is cut once it is healed: its teacher's text is read in whole."""
    every = replace(architecture, vocab_size=teacher.architecture.vocab_size)
    whole = made(teacher, every, replace(kept, vocab=None), calibration)
    pooling = teacher.pooling
    if pooling is not None and whole.embedder is not None and whole.embedder.projection is not None:
        own = whole.embedder.projection
        pooling = replace(pooling, projection=(own.weight.detach(), own.bias.detach()))
    healed = replace(teacher, model=whole.model, pooling=pooling)
    plain = replace(healed.architecture, vocab_size=architecture.vocab_size)
    student = made(healed, plain, replace(everything(healed.layout), vocab=kept.vocab))
    return replace(student, architecture=architecture, kept=kept)


def _missing(what: str, how: str) -> BadInput:
    return BadInput(f"{what} looks at data and the calibration has none: it needs {how}")
