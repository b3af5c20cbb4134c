"""How a student is made: cut out of its teacher, turned where that is asked, then healed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from transformers import PreTrainedModel

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.unit_policies import Rotation
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.checkpoints.pooling import Embedder
from protege.spaces.checkpoints.processors import with_tokenizer
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.layout import Slot
from protege.spaces.models.placement import is_tied, weights
from protege.spaces.residual.basis import Basis
from protege.spaces.residual.least_squares import Fit
from protege.spaces.residual.states import Streams
from protege.spaces.students.config import configured
from protege.spaces.students.cut import cut
from protege.spaces.students.filling import filled
from protege.spaces.students.healing import Healer
from protege.spaces.students.moments import refit_from_moments
from protege.spaces.students.rotation import read_off, turned
from protege.spaces.students.selection import Kept, everything
from protege.spaces.students.student import Student
from protege.spaces.vocabulary.tokenizer import shrunk


def made(
    teacher: LaidOutModel,
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
    streams = None if calibration is None else calibration.streams
    tensors = _Tensors.of(teacher, architecture, kept, streams)
    if tensors.unties:
        config.tie_word_embeddings = False
    model = filled(type(teacher.model), config, tensors.narrow)
    readout = None
    if heals:
        readout = _healed(model, teacher, architecture, kept, tensors, calibration)
    if model.can_generate():
        # how text is sampled and where it ends is no part of the configuration
        model.generation_config = teacher.generation_config(kept.vocab)
    return Student(
        model=model,
        processor=processor,
        architecture=architecture,
        kept=kept,
        embedder=embedder(teacher, model, readout or tensors.readout(teacher, streams)),
        is_sentence_transformer=teacher.task is Task.SENTENCES,
    )


def embedder(
    teacher: LaidOutModel, model: PreTrainedModel, readout: Fit | None = None
) -> Embedder | None:
    """The model with the teacher's pooling, in the teacher's own space of vectors.

    A narrower student, or a turned one, gets a linear layer back to the teacher's dimension: the
    teacher's state as it is read off the student's, followed by the teacher's own last layer where
    it has one.

    Args:
        teacher: The teacher.
        model: The student, or the teacher itself.
        readout: How the teacher's last state is read off the model's; none where it is the same.
    """
    if teacher.pooling is None:
        return None
    last = teacher.pooling.projection
    if readout is not None:
        weight, bias = last or (torch.eye(len(readout.weight)), torch.zeros(len(readout.weight)))
        shift = 0 if readout.bias is None else weight @ readout.bias
        last = weight @ readout.weight, bias + shift
    return Embedder(model, teacher.pooling, None if last is None else _linear(*last)).eval()


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer of its own; nothing is drawn for it."""
    layer: nn.Linear = skip_init(nn.Linear, weight.shape[1], len(weight))
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


@dataclass(frozen=True, eq=False)
class _Tensors:
    """A student's tensors as they are cut.

    Attributes:
        narrow: By the student's names.
        wide: The same with the teacher's whole residual stream; where that is not turned, of what
            reads it alone, and nothing where it is not cut.
        basis: The student's stream in terms of the teacher's.
        unties: Whether a head that shared the embedding's rows has its own.
    """

    narrow: Mapping[str, Tensor]
    wide: Mapping[str, Tensor]
    basis: Basis
    unties: bool = False

    @classmethod
    def of(
        cls,
        teacher: LaidOutModel,
        architecture: Architecture,
        kept: Kept,
        streams: Streams | None,
    ) -> "_Tensors":
        own, width = weights(teacher.model), teacher.architecture.hidden_size
        basis = Basis(width, channels=kept.hidden)
        whole = replace(kept, hidden=tuple(range(width)))
        if not kept.turned:
            heals = architecture.healing != "none" and basis.is_narrower
            wide = cut(own, teacher.layout, whole, _read(teacher)) if heals else {}
            return cls(cut(own, teacher.layout, kept), wide, basis)
        wide = cut(own, teacher.layout, whole)
        if streams is None:
            raise _missing("a rotation", "streams: calibration.with_streams(teacher, batch)")
        basis, policy = streams.directions.basis(len(kept.hidden)), architecture.width_policy
        tied = isinstance(policy, Rotation) and policy.tied
        narrow = turned(wide, teacher, kept, streams, tied=tied)
        return cls(narrow, wide, basis, unties=not tied)

    def readout(self, teacher: LaidOutModel, streams: Streams | None) -> Fit | None:
        """How the teacher's last state is read off the cut student's; none where it is the same."""
        if streams is not None and self.basis.channels is None:
            return Fit(read_off(teacher, streams.wiring.norms[-1], self.basis))
        return None if self.basis.is_same else Fit(self.basis.matrix)


def _read(teacher: LaidOutModel) -> list[Slot]:
    """The tensors of what reads the stream, but for a head that shares the embedding's rows."""
    names = {
        slot.name.removesuffix(".weight")
        for module, slot in teacher.layout.readers(teacher.model)
        if not is_tied(teacher.model, module)
    }
    return [slot for slot in teacher.layout.slots if slot.name.rpartition(".")[0] in names]


def _healed(
    model: PreTrainedModel,
    teacher: LaidOutModel,
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
        healer.heal()  # starts from what the moments say
    else:
        for norm in healer.reads:
            healer.read(norm)
    return healer.readout


def _with_fewer_tokens(
    teacher: LaidOutModel, architecture: Architecture, kept: Kept, calibration: Calibration | None
) -> Student:
    """A student whose vocabulary is cut once it is healed: its teacher's text is read in whole."""
    every = replace(architecture, vocab_size=teacher.architecture.vocab_size)
    whole = made(teacher, every, replace(kept, vocab=None), calibration)
    pooling = teacher.pooling
    if pooling is not None and whole.embedder is not None and whole.embedder.projection is not None:
        own = whole.embedder.projection
        pooling = replace(pooling, projection=(own.weight.detach(), own.bias.detach()))
    healed = teacher.with_model(whole.model, pooling)
    plain = replace(healed.architecture, vocab_size=architecture.vocab_size)
    student = made(healed, plain, replace(everything(healed.layout), vocab=kept.vocab))
    return replace(student, architecture=architecture, kept=kept)


def _missing(what: str, how: str) -> BadInput:
    return BadInput(f"{what} looks at data and the calibration has none: it needs {how}")
