"""One look at second moments is the regression on all inputs at once."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from protege.spaces import Student
from protege.spaces.models.activations import columns
from protege.spaces.models.tensors import reading_dimension
from protege.spaces.residual.least_squares import Fit, refitted
from protege.spaces.residual.states import real_rows, run_through
from protege.spaces.students.cut import Rows
from tests.spaces.healed import Flow, halved_along, passed, plenty
from tests.tiny import ZOO


@pytest.fixture(
    params=[
        "bert-masked",
        "llama-causal-grouped",
        "gpt2-text-generation",
        "vit-image-classification",
    ],
    scope="session",
)
def known(request: pytest.FixtureRequest) -> Flow:
    """With biases and without, with Conv1D, with tokens and without."""
    teacher = ZOO[request.param].teacher()
    return Flow.of(teacher, plenty(teacher, rows=16))


def once(flow: Flow, axis: str) -> tuple[Student, Student]:
    """A student that is only cut, and one healed by moments."""
    architecture = halved_along(flow.teacher, axis, "one-shot")
    assert architecture is not None
    cut = flow.student(replace(architecture, healing="none"))
    return cut, flow.student(architecture)


def fit_of(module: torch.nn.Module) -> Fit:
    bias: Tensor | None = module.bias  # type: ignore[assignment]
    return Fit(columns(module), None if bias is None else bias.detach())


def inputs_to(flow: Flow, name: str) -> Tensor:
    """What real tokens give to a module of the teacher's."""
    found: list[Tensor] = []
    module = flow.teacher.model.get_submodule(name)
    batch = flow.streams.batch

    def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        found.append(real_rows(given[0], batch, in_decoder=False))

    with module.register_forward_pre_hook(hook), torch.inference_mode():
        run_through(flow.teacher.model, flow.streams.wiring, batch)
    return found[0].clone()


def test_what_reads_fewer_neurons_is_fitted_to_what_all_wrote(known: Flow) -> None:
    """Of every layer, weight and intercept, as from the stacked inputs."""
    cut, mended = once(known, "ffn")
    teacher, rows = known.teacher, Rows(mended.kept)
    for module, slot, unit in teacher.layout.reading(teacher.model):
        if unit != "ffn":
            continue
        name = slot.name.removesuffix(".weight")
        x, whole = inputs_to(known, name), fit_of(module)
        index = rows.index(slot.dimensions[reading_dimension(module)], slot.layer)
        y = x @ whole.weight.T + (0 if whole.bias is None else whole.bias)
        truth = refitted(fit_of(cut.model.get_submodule(name)), x[:, index], y)
        found = fit_of(mended.model.get_submodule(name))
        assert_close(found.weight, truth.weight, rtol=1e-3, atol=1e-4)
        assert_close(found.bias, truth.bias, rtol=1e-3, atol=1e-4)


def test_what_reads_fewer_channels_is_fitted_to_what_the_norm_gave_in_all(known: Flow) -> None:
    """All readers of a norm share one map, which has an intercept if all of them have."""
    cut, mended = once(known, "hidden")
    teacher, wiring = known.teacher, known.streams.wiring
    channels = list(mended.kept.hidden)
    start = torch.eye(teacher.architecture.hidden_size)[:, channels]
    gave = passed(teacher.model, known.streams, list(wiring.norms))
    for norm, readers in wiring.sources.items():
        inner = [r for r in readers if r.startswith(norm.split("layer")[0])]
        biased = all(fit_of(teacher.model.get_submodule(r)).bias is not None for r in readers)
        shift = torch.zeros(len(start)) if biased else None
        truth = refitted(Fit(start, shift), gave[norm][1][:, channels], gave[norm][1])
        for reader in inner:
            whole, found = (fit_of(m.get_submodule(reader)) for m in (teacher.model, mended.model))
            if whole.weight.shape[0] != found.weight.shape[0]:
                continue  # fewer heads: those rows are another test's
            assert_close(found.weight, whole.weight @ truth.weight, rtol=1e-3, atol=1e-3)
            if whole.bias is not None and truth.bias is not None:
                assert_close(
                    found.bias, whole.bias + whole.weight @ truth.bias, rtol=1e-3, atol=1e-3
                )
    assert cut.kept == mended.kept


def test_a_site_whose_moments_are_too_many_is_left_as_it_was_cut(known: Flow) -> None:
    """The rest is healed all the same."""
    names = known.calibration.importance
    fewer = {name: values for name, values in names.items() if not name.endswith("ffn.gram")}
    lean = replace(known.calibration, importance=fewer)
    cut, _ = once(known, "ffn")
    mended = known.teacher.student(replace(cut.architecture, healing="one-shot"), lean)
    for name, values in mended.model.state_dict().items():
        assert torch.equal(values, cut.model.state_dict()[name])
