"""One-shot healing: refit linear layers from the teacher's second moments alone."""

from typing import Any

import torch
from torch import Tensor

from protege.spaces.architecture.policies import Findings
from protege.spaces.models.activations import columns
from protege.spaces.models.placement import values
from protege.spaces.models.tensors import reading_dimension
from protege.spaces.residual.least_squares import Fit, step
from protege.spaces.students.cut import Rows
from protege.spaces.students.healing import Healer


def refit_from_moments(healer: Healer, calibration: Findings) -> None:
    """Refit projections that read fewer heads, neurons or channels than the teacher's, in place.

    With G the second moment of all units over the calibration's tokens and S the kept ones,
    ``W' = W G[:, S] (G[S, S] + λI)^-1`` is the least-squares fit to the projection's outputs,
    assuming that the kept units do not change. λ shrinks it towards the cut weights as in
    `refitted`. For projections with a bias, moments are taken about the mean. Norms over fewer
    channels have their gains scaled to the energy of these channels, and the maps from their
    outputs to the teacher's are stored in ``healer.reads``. Sites whose moments were too large to
    collect are not refitted, nor are readers of a rotated stream, whose directions are
    uncorrelated.
    """
    found = calibration.importance
    if "tokens" not in found:
        return
    with torch.no_grad():
        _refit_writers(healer, found)
        if healer.basis.channels is not None and healer.basis.is_narrower:
            _refit_readers(healer, found)


def _refit_writers(healer: Healer, found: Any) -> None:
    teacher, rows = healer.teacher, Rows(healer.kept)
    modules: dict[str, Any] = dict(healer.model.named_modules())
    for module, slot, unit in teacher.layout.reading(teacher.model):
        gram = found.get(f"{slot.stack}.{unit}.gram")
        reading = slot.dimensions[reading_dimension(module)]
        for name, position in healer.kept.names(slot):
            index = rows.index(reading, position)
            if gram is None or index is None:
                continue
            mine = modules[name.removesuffix(".weight")]
            wanted = healer.basis.project(columns(module).T).T
            moment, weight = gram[slot.layer or 0], columns(mine)
            mean = found[f"{slot.stack}.{unit}.mean"][slot.layer or 0]
            if mine.bias is not None:
                moment = moment - torch.outer(mean, mean)
            # the moment is symmetric, and rows are copied many times faster than columns
            of_kept = moment.index_select(0, index)
            narrow = of_kept.index_select(1, index)
            missing = wanted @ of_kept.T - weight @ narrow
            weight += step(narrow, missing, float(found["tokens"]))
            if mine.bias is not None:
                mine.bias += wanted @ mean - weight @ mean[index]


def _refit_readers(healer: Healer, found: Any) -> None:
    """Rescale norms over fewer channels and fit the maps from their outputs to the teacher's."""
    channels = torch.tensor(healer.basis.channels)
    theirs = {id(module): name for name, module in healer.teacher.model.named_modules()}
    mine = dict(healer.model.named_modules())
    offset = healer.teacher.family.gain_offset
    for number, (norm, _) in enumerate(healer.teacher.layout.norms(healer.teacher.model)):
        name = theirs[id(norm)]
        if name not in healer.names:
            continue
        gain = values(norm) + offset
        energy = found["hidden.energy"][number] / gain.square().clamp(min=1e-12)
        scale = (energy[channels].mean() / energy.mean().clamp(min=1e-12)).sqrt()
        own = mine[healer.names[name]].get_parameter("weight")
        own.copy_((own + offset) * scale - offset)
        start = healer.expected(name)
        if start is not None and "hidden.gram" in found:
            moments = found["hidden.gram"][number], found["hidden.mean"][number]
            healer.reads[name] = _refitted(start, channels, *moments, float(found["tokens"]))


def _refitted(start: Fit, channels: Tensor, gram: Tensor, mean: Tensor, tokens: float) -> Fit:
    """Fit the linear map from some channels to all channels."""
    if start.bias is not None:
        gram = gram - torch.outer(mean, mean)
    moment = gram[:, channels]
    missing = moment - start.weight @ moment[channels]
    weight = start.weight + step(moment[channels], missing, tokens)
    return Fit(weight, None if start.bias is None else mean - weight @ mean[channels])
