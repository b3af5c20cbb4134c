"""Build a student: cut it from its teacher, rotate it if its policy says so, then heal it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init
from transformers import PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from protege.spaces.architecture.architecture import Architecture
from protege.spaces.architecture.unit_policies import Rotation
from protege.spaces.calibration.calibration import Calibration
from protege.spaces.checkpoints.pooling import Embedder
from protege.spaces.checkpoints.processors import with_tokenizer
from protege.spaces.checkpoints.tasks import Task
from protege.spaces.errors import BadInput, Mismatch
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.models.placement import weights
from protege.spaces.models.sharing import is_tied
from protege.spaces.residual.directions import Basis
from protege.spaces.residual.least_squares import Fit
from protege.spaces.residual.states import ResidualStates
from protege.spaces.students.config import configured
from protege.spaces.students.cut import cut
from protege.spaces.students.healing import Healer
from protege.spaces.students.moments import refit_from_moments
from protege.spaces.students.rotation import read_off, turned
from protege.spaces.students.selection import Selection, everything
from protege.spaces.students.student import Student, generation_config
from protege.spaces.vocabulary.tokenizer import shrunk


def made(
    teacher: LaidOutModel,
    architecture: Architecture,
    kept: Selection,
    calibration: Calibration | None = None,
) -> Student:
    """Build the student that keeps exactly these units, with the architecture's healing.

    Raises:
        BadInput: The calibration lacks what healing or rotation needs.
        Infeasible: The teacher's residual stream cannot be rotated.
        Mismatch: The number of units differs from the architecture's sizes.
    """
    heals = architecture.healing != "none" and kept != everything(teacher.layout)
    if heals and kept.vocab is not None:
        return _heal_then_cut_vocab(teacher, architecture, kept, calibration)
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
        readout = _heal(model, teacher, architecture, kept, tensors, calibration)
    if model.can_generate():
        # sampling parameters and end tokens are not part of the configuration
        model.generation_config = generation_config(teacher.model, kept.vocab)
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
    """Add the teacher's pooling, if it has one, for vectors of the teacher's dimension.

    A narrower or rotated student gets a linear layer: the readout, followed by the teacher's own
    projection if it has one. ``readout`` maps the model's last state to the teacher's; None if they
    are the same.
    """
    if teacher.pooling is None:
        return None
    last = teacher.pooling.projection
    if readout is not None:
        weight, bias = last or (torch.eye(len(readout.weight)), torch.zeros(len(readout.weight)))
        shift = 0 if readout.bias is None else weight @ readout.bias
        last = weight @ readout.weight, bias + shift
    layer: nn.Linear | None = None
    if last is not None:
        weight, bias = last
        layer = skip_init(nn.Linear, weight.shape[1], len(weight))
        layer.load_state_dict({"weight": weight, "bias": bias})
    return Embedder(model, teacher.pooling, layer).eval()


@dataclass(frozen=True, eq=False)
class _Tensors:
    """The tensors cut for a student, before healing.

    Attributes:
        narrow: The student's tensors, by its own names.
        wide: The same tensors with all channels of the teacher's residual stream. Without rotation
            only the tensors that read the stream, and empty if healing needs none.
        basis: The student's stream in terms of the teacher's.
        unties: Whether the output head gets its own weights instead of the embedding's.
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
        kept: Selection,
        streams: ResidualStates | None,
    ) -> "_Tensors":
        own, width = weights(teacher.model), teacher.architecture.hidden_size
        basis = Basis(width, channels=kept.hidden)
        whole = replace(kept, hidden=tuple(range(width)))
        if not kept.turned:
            heals = architecture.healing != "none" and basis.is_narrower
            readers = {
                slot.name.removesuffix(".weight")
                for module, slot in teacher.layout.readers(teacher.model)
                if heals and not is_tied(teacher.model, module)
            }
            slots = [s for s in teacher.layout.slots if s.name.rpartition(".")[0] in readers]
            wide = cut(own, teacher.layout, whole, slots)
            return cls(cut(own, teacher.layout, kept), wide, basis)
        wide = cut(own, teacher.layout, whole)
        if streams is None:
            raise _missing("a rotation", "streams: calibration.with_streams(teacher, batch)")
        basis, policy = streams.directions.basis(len(kept.hidden)), architecture.width_policy
        tied = isinstance(policy, Rotation) and policy.tied
        narrow = turned(wide, teacher, kept, streams, tied=tied)
        return cls(narrow, wide, basis, unties=not tied)

    def readout(self, teacher: LaidOutModel, streams: ResidualStates | None) -> Fit | None:
        """Return the map from the cut student's last state to the teacher's; None if identical."""
        if streams is not None and self.basis.channels is None:
            return Fit(read_off(teacher, streams.wiring.norms[-1], self.basis))
        return None if self.basis.is_same else Fit(self.basis.matrix)


def _heal(
    model: PreTrainedModel,
    teacher: LaidOutModel,
    architecture: Architecture,
    kept: Selection,
    tensors: _Tensors,
    calibration: Calibration | None,
) -> Fit | None:
    """Heal a student in place; return the map from its last state to the teacher's if fitted."""
    if calibration is None or calibration.streams is None:
        raise _missing("healing", "streams: calibration.with_streams(teacher, batch)")
    if architecture.healing == "one-shot" and "tokens" not in calibration.importance:
        raise _missing("one-shot healing", "moments: Calibration.of(…, healing='one-shot')")
    healer = Healer(model, teacher, kept, tensors.basis, tensors.wide, calibration.streams)
    refit_from_moments(healer, calibration)
    if architecture.healing == "sequential":
        healer.heal()  # starts from the one-shot fit
    else:
        for norm in healer.reads:
            healer.read(norm)
    return healer.readout


def _heal_then_cut_vocab(
    teacher: LaidOutModel,
    architecture: Architecture,
    kept: Selection,
    calibration: Calibration | None,
) -> Student:
    """Heal with the full vocabulary, then cut it: calibration text uses all tokens."""
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
    return BadInput(f"{what} needs data that the calibration lacks: it needs {how}")


def filled(
    model_class: type[PreTrainedModel], config: PretrainedConfig, tensors: Mapping[str, Tensor]
) -> PreTrainedModel:
    """Build a model that holds these tensors without copying them, in evaluation mode.

    Tied weights are tied again.

    Raises:
        Mismatch: Names or shapes of the tensors differ from the configuration's.
    """
    # some classes draw a few parameters even under no_init_weights
    with torch.random.fork_rng(devices=[]), no_init_weights(), _parameters_on_meta():
        model = model_class(config)
    _assign(model, tensors)
    model.tie_weights()
    model.eval()
    return model


def _assign(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Assign the tensors by name, as `load_state_dict` does but without its hooks."""
    expected = model.state_dict()
    unfit = sorted(expected.keys() ^ tensors.keys())
    unfit += [
        name
        for name in expected.keys() & tensors.keys()
        if expected[name].shape != tensors[name].shape
    ]
    if unfit:
        raise Mismatch(f"the kept units do not fit the student's sizes: see {', '.join(unfit[:3])}")
    modules = dict(model.named_modules())
    for name, tensor in tensors.items():
        module, _, own = name.rpartition(".")
        if own in modules[module]._parameters:  # noqa: SLF001 - torch offers no other way in
            tensor = nn.Parameter(tensor)  # noqa: PLW2901
        setattr(modules[module], own, tensor)


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Create parameters on the meta device while the block runs; buffers stay real.

    Buffers such as rotary frequencies are computed from the configuration, not stored.
    """
    module_class: Any = nn.Module  # one of its methods is replaced while the block runs
    register: Callable[..., None] = module_class.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None and not parameter.is_meta:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    module_class.register_parameter = register_on_meta
    try:
        yield
    finally:
        module_class.register_parameter = register
