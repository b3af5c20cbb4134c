"""Healing: a student's linear layers refitted in closed form, in the order in which they run."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from protege.spaces.models.activations import columns
from protege.spaces.models.laid_out import LaidOutModel
from protege.spaces.models.layout import Slot
from protege.spaces.models.placement import is_tied, values
from protege.spaces.residual.basis import Basis
from protege.spaces.residual.graph import Join
from protege.spaces.residual.least_squares import Fit, gains_refitted, refitted
from protege.spaces.residual.states import Streams, real_rows, run_through
from protege.spaces.students.rotation import read_off
from protege.spaces.students.selection import Kept

Repair = Callable[[nn.Module, tuple[Any, ...]], None]
"""What is done to a projection before it runs, with what it is given."""


@dataclass(frozen=True)
class _Place:
    """A module of the student and those of the teacher that it stands for.

    Attributes:
        name: In the student.
        own: In the teacher.
        until: In the teacher, the one that it is fitted to: of the last layer before the next kept
            one, where it ends a layer that others were dropped after; else ``own``.
    """

    name: str
    own: str
    until: str


@dataclass
class Healer:
    """One pass of a student over what its teacher read, each layer repaired as it is reached.

    Every projection that writes into the residual stream is fitted so that the stream, as the
    student has it, comes closest to the teacher's at the same place, each token weighted by one
    over its energy there, for what follows norms it. So errors of what came before, dropped layers
    included, are made up for. Where the width is cut, what reads the stream is fitted to what the
    teacher's read there; all that read one norm share one regression. The fits are those of
    `refitted`: the least-squares refits of structured pruning (SlimGPT, arXiv 2412.18110) and of
    replaced blocks (ReplaceMe, arXiv 2505.02819), made sequential: on the student's own inputs.

    Experts are left as they were cut; so is a head that shares the embedding's rows.

    Attributes:
        model: The student, of all the teacher's tokens.
        teacher: Its teacher.
        kept: What the student is made of.
        basis: Its residual stream in terms of the teacher's.
        wide: Its tensors with the whole width of the stream, by its own names.
        streams: What ran through the teacher.
        reads: By norm, how the teacher's state is read off the student's narrower one.
    """

    model: PreTrainedModel
    teacher: LaidOutModel
    kept: Kept
    basis: Basis
    wide: Mapping[str, Tensor]
    streams: Streams
    reads: dict[str, Fit] = field(default_factory=dict, init=False, repr=False)
    _read: set[str] = field(default_factory=set, init=False, repr=False)
    _saw: tuple[Tensor, Tensor] | None = field(default=None, init=False, repr=False)
    """What the last norm was given and gave that saw a stream which something is added to."""

    def heal(self) -> None:
        """Repair the student in place."""
        wiring = self.streams.wiring
        loose = self._own(wiring.loose) if self.basis.is_narrower else []
        with ExitStack() as handles, torch.no_grad():
            for place in self._places:
                module = self._modules[place.name]
                if place.own in wiring.norms:
                    self._take_over(place)
                    handle = module.register_forward_hook(self._at_norm(place))
                elif place.own in wiring.writers:
                    handle = module.register_forward_pre_hook(self._at_writer(place))
                elif place.own in loose:
                    handle = module.register_forward_pre_hook(self._at_loose(place))
                else:
                    continue
                handles.callback(handle.remove)
            run_through(self.model, wiring, self.streams.batch)

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.model.named_modules())

    @cached_property
    def _theirs(self) -> dict[str, nn.Module]:
        return dict(self.teacher.model.named_modules())

    @cached_property
    def _places(self) -> list[_Place]:
        return [
            _Place(_module(name), _module(slot.name), self._until(slot, position))
            for slot in self.teacher.layout.slots
            if slot.name.endswith(".weight")
            for name, position in self.kept.names(slot)
        ]

    @cached_property
    def _last_writers(self) -> dict[tuple[str, int | None], str]:
        return self.streams.wiring.last_writers(self.teacher.layout)

    @cached_property
    def _scaled(self) -> set[str]:
        """The teacher's modules that make up for what follows the width (see `WidthFactor`)."""
        return {_module(slot.name) for slot in self.teacher.layout.slots if slot.factor}

    @cached_property
    def _joined(self) -> set[str]:
        """The teacher's norms that saw the stream which something is added to next."""
        return {join.before for join in self.streams.wiring.joins.values()}

    @cached_property
    def names(self) -> dict[str, str]:
        """What the student calls a module of the teacher's."""
        return {place.own: place.name for place in self._places}

    def _until(self, slot: Slot, position: int | None) -> str:
        """The teacher's module that a module of the student's is fitted to."""
        layout, wiring, own = self.teacher.layout, self.streams.wiring, _module(slot.name)
        if slot.layer is None or position is None or slot.number_at == (0, 0):
            return own
        layers = self.kept.layers(slot.stack)
        following = layers[position + 1 :] or (layout.depths[slot.stack],)
        until = _module(slot.named(following[0] - 1))
        last = self._last_writers.get((slot.stack, slot.layer), "")
        join, theirs = wiring.joins.get(last, Join("")), wiring.joins.get(until)
        ends_layer = own == last and join.before and theirs is not None
        norms_it = own == join.after and join.normed and until in wiring.norms
        return until if ends_layer or norms_it else own

    def _take_over(self, place: _Place) -> None:
        """A norm that comes to stand for a later layer's is that one (post-LN)."""
        if place.until == place.own:
            return
        theirs = self._theirs[place.until]
        for name, mine in self._modules[place.name].named_parameters(recurse=False):
            mine.copy_(self.basis.project(values(theirs, name)))

    def _at_norm(self, place: _Place) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
        norm, theirs = self._modules[place.name], self._theirs[place.until]

        def hook(_module: nn.Module, given: tuple[Any, ...], gave: Tensor) -> Tensor:
            if self.basis.is_narrower:
                wanted: Tensor = theirs(self.streams.states[place.until]).cpu()
                # turned, its gains are in what reads it, and it has but the one left
                if self.basis.channels is not None and place.own not in self._scaled:
                    offset = self.teacher.family.gain_offset
                    target = self.basis.project(wanted)
                    gains_refitted(norm, self._rows(gave, place), target, offset)
                    gave = norm.forward(given[0])
                self._refit_readers(place, self._rows(gave, place), wanted)
            if place.own in self._joined:
                self._saw = self._rows(given[0], place), self._rows(gave, place)
            return gave

        return hook

    def _refit_readers(self, place: _Place, inputs: Tensor, wanted: Tensor) -> None:
        """Fit what reads a norm: the teacher's state read off the student's, then theirs of that.

        Args:
            place: Of the norm.
            inputs: What the student's gives, ``(tokens, narrow)``.
            wanted: What the teacher's gives, ``(tokens, wide)``.
        """
        start = self.reads.get(place.until) or self.expected(place.until)
        if start is not None:
            self.reads[place.until] = refitted(start, inputs, wanted)
            self.read(place.until)

    def expected(self, norm: str) -> Fit | None:
        """The map from the student's normed state to the teacher's, as the cut weights take it.

        With an intercept where all that reads it has a bias; none where nothing reads it.
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
        """Have everything that reads a norm read the teacher's state off the student's."""
        for name in self._readers(norm):
            self._set_reader(name, self.reads[norm])

    @property
    def readout(self) -> Fit | None:
        """How the teacher's last state is read off the student's; none where that was not asked."""
        return self.reads.get(self.streams.wiring.norms[-1])

    def _readers(self, norm: str) -> list[str]:
        """The student's projections that read the norm that stands for one of the teacher's."""
        return [self.names[name] for name in self._own(self.streams.wiring.sources[norm])]

    def _own(self, theirs: Iterable[str]) -> list[str]:
        """Those of the teacher's modules that the student has, with weights for nothing else."""
        found = [name for name in theirs if name in self.names]
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
        if len(weight) != len(mine):  # it writes vectors of the stream's width
            weight = self.basis.project(weight.T).T
            bias = None if bias is None else self.basis.project(bias)
        mine.copy_(weight)
        if bias is not None:
            module.get_parameter("bias").copy_(bias)

    def _at_writer(self, place: _Place) -> Repair:
        states, join = self.streams.states, self.streams.wiring.joins.get(place.until)

        def repair(module: nn.Module, given: tuple[Any, ...]) -> None:
            wanted = self.basis.project(states[join.after if join else place.own])
            # what follows norms it: a token's error counts by its share of the token's energy
            energy = wanted.square().mean(1)
            weights = 1 / energy.clamp(min=1e-6 * float(energy.mean()) + 1e-30)
            if join and join.before:
                if self._saw is None:  # the stream begins in a projection, and no norm has seen it
                    return
                wanted = wanted - self._saw[join.normed]
            _refit(module, self._rows(given[0], place), wanted, weights)

        return repair

    def _at_loose(self, place: _Place) -> Repair:
        wide = self.wide[f"{place.name}.weight"]

        def repair(module: nn.Module, given: tuple[Any, ...]) -> None:
            if place.name in self._read:  # DeBERTa's read tokens first, then distances
                return
            self._read.add(place.name)
            theirs = wide if isinstance(module, Conv1D) else wide.T
            wanted = self.streams.states[place.own] @ theirs
            if wanted.shape[1] != len(columns(module)):  # it writes vectors of the stream's width
                wanted = self.basis.project(wanted)
            bias: Any = module.bias
            wanted = wanted if bias is None else wanted + bias
            _refit(module, self._rows(given[0], place), wanted)

        return repair

    def _rows(self, values: Tensor, place: _Place) -> Tensor:
        in_decoder = place.own in self.streams.wiring.in_decoder
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
