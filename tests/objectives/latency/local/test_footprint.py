"""What PyTorch needs to run one model, on a graphics card that is made up here."""

from collections.abc import Callable

import pytest
import torch

from protege.objectives.latency.device.resources import CALLS
from protege.objectives.latency.job import TorchSettings
from protege.objectives.latency.local.calls import ready
from protege.objectives.latency.local.footprint import footprint_on
from protege.spaces.models.blueprint import Blueprint

Blueprints = Callable[[int], Blueprint]


class Card:
    """Counts tensors as `torch.cuda` does."""

    def __init__(self, held: int) -> None:
        self.held = self.peak = self.reserved = held

    def take(self, count: int) -> None:
        self.held += count
        self.peak = max(self.peak, self.held)
        self.reserved = max(self.reserved, 2 * self.held)

    def reset_peak_memory_stats(self) -> None:
        self.peak = self.reserved = self.held

    def max_memory_allocated(self) -> int:
        return self.peak

    def max_memory_reserved(self) -> int:
        return self.reserved


def test_peaks_of_loading_and_of_running_are_apart_on_a_graphics_card() -> None:
    card, calls = Card(0), []

    def call() -> None:
        calls.append(1)
        card.take(3_000_000)
        card.take(-3_000_000)

    def load() -> Callable[[], None]:
        card.take(50_000_000)
        card.take(-10_000_000)
        return call

    found = footprint_on(card, load)
    assert found == {"load_peak_mb": 50.0, "run_peak_mb": 43.0, "reserved_mb": 86.0}
    assert len(calls) == CALLS


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_model_is_built_in_its_precision(
    encoder: Blueprints, decoder: Blueprints, precision: str
) -> None:
    for made in (encoder, decoder):
        model = ready(made(1), TorchSettings(precision=precision))
        assert {str(one.dtype) for one in model.parameters()} == {f"torch.{precision}"}
    assert torch.get_default_dtype() == torch.float32
