"""Sequential healing: refit a student's linear layers in closed form, in forward order."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from protege.spaces.models.activations import columns
from protege.spaces.models.layout import LaidOutModel
from protege.spaces.models.placement import values
from protege.spaces.models.sharing import is_tied
from protege.spaces.models.tensors import TensorSpec
from protege.spaces.residual.directions import Basis
from protege.spaces.residual.graph import ResidualEdge
from protege.spaces.residual.least_squares import Fit, gains_refitted, refitted
from protege.spaces.residual.states import ResidualStates, real_rows, run_through
from protege.spaces.students.rotation import read_off
from protege.spaces.students.selection import Selection

_PreHook = Callable[[nn.Module, tuple[Any, ...]], None]
"""A forward pre-hook that refits a projection on its own inputs."""

_Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]


@dataclass(frozen=True)
class _ModuleMatch:
    """A module of the student and its counterparts in the teacher.

    Attributes:
        name: The student's module.
        own: The teacher's module that it was cut from.
        target: The teacher's module that it is fitted to. For the last module of a layer that is
            followed by dropped layers, it is that of the last dropped layer; else ``own``.
    """

    name: str
    own: str
    target: str


@dataclass
class Healer:
    """One forward pass of a student over the teacher's batch that refits each layer in turn.

    Every projection that writes into the residual stream is fitted so that the student's stream
    comes closest to the teacher's at the same place. This also corrects errors of earlier and of
    dropped layers. Each token is weighted by one over its energy, because a norm follows. If the
    width is cut, the projections that read the stream are fitted to the teacher's inputs; all
    readers of one norm share one regression. The fits are those of `refitted`: the least-squares
    refits of structured pruning (SlimGPT, arXiv 2412.18110) and of replaced blocks (ReplaceMe,
    arXiv 2505.02819), applied sequentially, on the student's own inputs.

    Experts and a tied output head are not refitted.

    Attributes:
        model: The student, with the teacher's full vocabulary.
        teacher: Its teacher.
        kept: The teacher's units that the student keeps.
        basis: The student's residual stream in terms of the teacher's.
        wide: The student's tensors with all channels of the stream, by the student's names.
        streams: The teacher's recorded residual states.
        reads: For each norm, the map from the student's normed state to the teacher's.
        names: The student's module names by the teacher's.
    """

    model: PreTrainedModel
    teacher: LaidOutModel
    kept: Selection
    basis: Basis
    wide: Mapping[str, Tensor]
    streams: ResidualStates
    reads: dict[str, Fit] = field(default_factory=dict, init=False, repr=False)
    _refitted_loose: set[str] = field(default_factory=set, init=False, repr=False)
    _norm_states: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False)
    """Input and output of the last norm that read a stream before an addition to it."""

    def __post_init__(self) -> None:
        slots, wiring = self.teacher.layout.slots, self.streams.wiring
        self._modules = dict(self.model.named_modules())
        self._teacher_modules = dict(self.teacher.model.named_modules())
        self._last_writers = wiring.last_writers(self.teacher.layout)
        self._norms_before_joins = {join.before for join in wiring.joins.values()}
        # modules of the teacher that are rescaled with the width (see `WidthFactor`)
        self._rescaled = {_module(slot.name) for slot in slots if slot.factor}
        self._matches = [
            _ModuleMatch(_module(name), _module(slot.name), self._target(slot, position))
            for slot in slots
            if slot.name.endswith(".weight")
            for name, position in self.kept.names(slot)
        ]
        self.names = {match.own: match.name for match in self._matches}

    def heal(self) -> None:
        """Refit the student's layers in place."""
        wiring = self.streams.wiring
        loose = self._untied(wiring.loose) if self.basis.is_narrower else []
        with ExitStack() as handles, torch.no_grad():
            for match in self._matches:
                module = self._modules[match.name]
                if match.own in wiring.norms:
                    self._copy_norm(match)
                    handles.enter_context(module.register_forward_hook(self._norm_hook(match)))
                elif match.own in {*wiring.writers, *loose}:
                    is_writer = match.own in wiring.writers
                    hook = self._writer_hook(match) if is_writer else self._loose_hook(match)
                    handles.enter_context(module.register_forward_pre_hook(hook))
            run_through(self.model, wiring, self.streams.batch)

    def _target(self, slot: TensorSpec, position: int | None) -> str:
        """Return the teacher's module that a module of the student is fitted to."""
        layout, wiring, own = self.teacher.layout, self.streams.wiring, _module(slot.name)
        if slot.layer is None or position is None or slot.number_at == (0, 0):
            return own
        layers = self.kept.layers(slot.stack)
        following = layers[position + 1 :] or (layout.depths[slot.stack],)
        until = _module(slot.named(following[0] - 1))
        last = self._last_writers.get((slot.stack, slot.layer), "")
        join, of_target = wiring.joins.get(last, ResidualEdge("")), wiring.joins.get(until)
        ends_layer = own == last and join.before and of_target is not None
        norms_it = own == join.after and join.normed and until in wiring.norms
        return until if ends_layer or norms_it else own

    def _copy_norm(self, match: _ModuleMatch) -> None:
        """Copy the parameters of a later layer's norm if the module is fitted to it (post-LN)."""
        if match.target == match.own:
            return
        source = self._teacher_modules[match.target]
        for name, parameter in self._modules[match.name].named_parameters(recurse=False):
            parameter.copy_(self.basis.project(values(source, name)))

    def _norm_hook(self, match: _ModuleMatch) -> _Hook:
        norm, teacher_norm = self._modules[match.name], self._teacher_modules[match.target]

        def hook(_module: nn.Module, given: tuple[Any, ...], gave: Tensor) -> Tensor:
            if self.basis.is_narrower:
                wanted: Tensor = teacher_norm(self.streams.states[match.target]).cpu()
                # a rotated norm has a single gain; its own gains are in its readers
                if self.basis.channels is not None and match.own not in self._rescaled:
                    offset = self.teacher.family.gain_offset
                    target = self.basis.project(wanted)
                    gains_refitted(norm, self._rows(gave, match), target, offset)
                    gave = norm.forward(given[0])
                self._refit_readers(match, self._rows(gave, match), wanted)
            if match.own in self._norms_before_joins:
                self._norm_states = self._rows(given[0], match), self._rows(gave, match)
            return gave

        return hook

    def _refit_readers(self, match: _ModuleMatch, inputs: Tensor, wanted: Tensor) -> None:
        """Fit the map from the student's normed state to the teacher's and update the readers.

        ``inputs`` are outputs of the student's norm, ``(tokens, narrow)``, and ``wanted`` those of
        the teacher's, ``(tokens, wide)``.
        """
        start = self.reads.get(match.target) or self.expected(match.target)
        if start is not None:
            self.reads[match.target] = refitted(start, inputs, wanted)
            self.read(match.target)

    def expected(self, norm: str) -> Fit | None:
        """Return the map from the student's normed state to the teacher's before any fit.

        Returns:
            The map, with an intercept if all readers have a bias; None if the norm has no readers.
        """
        is_last = norm == self.streams.wiring.norms[-1] and self.teacher.pooling is not None
        readers = self._readers(norm)
        if not readers and not is_last:
            return None
        matrix = self.basis.matrix
        if self.basis.channels is None:
            matrix = read_off(self.teacher, norm, self.basis)
        free = all(self._modules[name].bias is not None for name in readers)
        return Fit(matrix, matrix.new_zeros(len(matrix)) if free else None)

    @torch.no_grad()
    def read(self, norm: str) -> None:
        """Compose the readers of a norm with the fitted map from the student's state."""
        for name in self._readers(norm):
            self._set_reader(name, self.reads[norm])

    @property
    def readout(self) -> Fit | None:
        """The map from the student's last state to the teacher's; None if it was not fitted."""
        return self.reads.get(self.streams.wiring.norms[-1])

    def _readers(self, norm: str) -> list[str]:
        """Return the student's projections that read the counterpart of a teacher's norm."""
        return [self.names[name] for name in self._untied(self.streams.wiring.sources[norm])]

    def _untied(self, of_teacher: Iterable[str]) -> list[str]:
        """Return the teacher's modules that the student has and whose weights are not tied."""
        found = [name for name in of_teacher if name in self.names]
        return [n for n in found if not is_tied(self.model, self._modules[self.names[n]])]

    def _set_reader(self, name: str, fit: Fit) -> None:
        module = self._modules[name]
        wide = self.wide[f"{name}.weight"]
        wide = wide.T if isinstance(module, Conv1D) else wide
        weight = wide @ fit.weight
        bias = self.wide.get(f"{name}.bias")
        if bias is not None and fit.bias is not None:
            bias = bias + wide @ fit.bias
        mine = columns(module)
        if len(weight) != len(mine):  # its outputs are channels of the stream
            weight = self.basis.project(weight.T).T
            bias = None if bias is None else self.basis.project(bias)
        mine.copy_(weight)
        if bias is not None:
            module.get_parameter("bias").copy_(bias)

    def _writer_hook(self, match: _ModuleMatch) -> _PreHook:
        states, join = self.streams.states, self.streams.wiring.joins.get(match.target)

        def repair(module: nn.Module, given: tuple[Any, ...]) -> None:
            wanted = self.basis.project(states[join.after if join else match.own])
            # a norm follows, so a token's error counts relative to the token's energy
            energy = wanted.square().mean(1)
            weights = 1 / energy.clamp(min=1e-6 * float(energy.mean()) + 1e-30)
            if join and join.before:
                if self._norm_states is None:  # a projection before any norm
                    return
                wanted = wanted - self._norm_states[join.normed]
            _refit(module, self._rows(given[0], match), wanted, weights)

        return repair

    def _loose_hook(self, match: _ModuleMatch) -> _PreHook:
        wide = self.wide[f"{match.name}.weight"]

        def repair(module: nn.Module, given: tuple[Any, ...]) -> None:
            if match.name in self._refitted_loose:  # DeBERTa runs it on tokens, then distances
                return
            self._refitted_loose.add(match.name)
            matrix = wide if isinstance(module, Conv1D) else wide.T
            wanted = self.streams.states[match.own] @ matrix
            if wanted.shape[1] != len(columns(module)):  # its outputs are channels of the stream
                wanted = self.basis.project(wanted)
            bias: Any = module.bias
            wanted = wanted if bias is None else wanted + bias
            _refit(module, self._rows(given[0], match), wanted)

        return repair

    def _rows(self, values: Tensor, match: _ModuleMatch) -> Tensor:
        in_decoder = match.own in self.streams.wiring.in_decoder
        return real_rows(values, self.streams.batch, in_decoder=in_decoder)


def _refit(
    module: nn.Module, inputs: Tensor, wanted: Tensor, weights: Tensor | None = None
) -> None:
    bias: Any = module.bias
    fit = refitted(Fit(columns(module), bias), inputs, wanted, weights)
    columns(module).copy_(fit.weight)
    if bias is not None and fit.bias is not None:
        bias.copy_(fit.bias)


def _module(tensor: str) -> str:
    return tensor.removesuffix(".weight")
